// Makes the three calls with the client that was generated from the host's document.
import { client } from './client/client.gen'
import { openAiCreateSession, openAiGetSessionMessages, openAiSendMessage } from './client'

async function main() {
  client.setConfig({ baseUrl: process.argv[2] })
  const created = await openAiCreateSession({ body: { persistInDB: true }, throwOnError: true })
  const sessionId: string = created.data.sessionId
  const sent = await openAiSendMessage({ body: { sessionId, message: 'Hi' }, throwOnError: true })
  const read = await openAiGetSessionMessages({ query: { sessionId }, throwOnError: true })
  const refused = await openAiSendMessage({ body: { sessionId, message: ' ' } })
  const roles: string[] = read.data.messages.map(message => message.role)
  console.log(JSON.stringify({ reply: sent.data.responseMessage, roles, code: refused.error?.code }))
}

main()
