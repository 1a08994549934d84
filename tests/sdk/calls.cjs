// Makes the calls that standard input lists through the official client, unmodified, and prints what came of
// each: [{"result": ...}, {"error": {...}}]. Arguments: how the client is told where the host is, and where.
const Backendless = require('backendless')

const [mode, url] = process.argv.slice(2)
if (mode === 'domain') {
  Backendless.initApp(url)
} else {
  Backendless.serverURL = url
  Backendless.initApp('A1B2C3D4-0000-0000-0000-000000000001', 'A1B2C3D4-0000-0000-0000-000000000002')
}

async function call([method, ...args]) {
  try {
    return { result: await Backendless.APIServices.invoke('OpenAI', method, ...args) }
  } catch (error) {
    const { name, code, message, status, body } = error
    return { error: { kind: error.constructor.name, name, code, message, status, body } }
  }
}

async function main() {
  let input = ''
  for await (const chunk of process.stdin) input += chunk
  let session
  const results = []
  for (const entry of JSON.parse(input)) {
    // "$SESSION" stands for the id of the session that was created last.
    const filled = JSON.parse(JSON.stringify(entry).replaceAll('$SESSION', session))
    const made = await call(filled)
    if (made.result && entry[0] === 'createSession') session = made.result.sessionId
    results.push(made)
  }
  console.log(JSON.stringify(results))
  process.exit(0)
}

main()
