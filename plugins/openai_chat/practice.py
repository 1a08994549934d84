"""The practice model: a small OpenAI-compatible server that answers without a key, always the same.

It listens on a loopback port of its own and is reached through the very same client as OpenAI.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

__all__ = ["PRACTICE", "practice_server"]

PRACTICE = "practice:"
"""The base URL that stands for the practice model."""

MODEL = "practice-model"

PACE = 0.02
"""Seconds between two words of a streamed reply."""


class _Message(msgspec.Struct):
    role: str
    content: str


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False


@asynccontextmanager
async def practice_server() -> AsyncIterator[str]:
    """Serve the practice model, and yield the base URL it answers at."""
    application = web.Application(client_max_size=2**30)
    application.router.add_get("/v1/models", _models)
    application.router.add_post("/v1/chat/completions", _complete)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def _complete(request: web.Request) -> web.StreamResponse:
    try:
        asked = msgspec.json.decode(await request.read(), type=_Request)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return web.json_response({"error": {"message": str(error)}}, status=400)
    reply = _reply(asked.messages)
    if asked.stream:
        return await _stream(request, asked.model, re.findall(r"\s*\S+|\s+$", reply))
    message = {"role": "assistant", "content": reply}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response({"object": "chat.completion", "model": asked.model, "choices": [choice]})


async def _stream(request: web.Request, model: str, words: list[str]) -> web.StreamResponse:
    """Reply word by word, at the pace of somebody who reads."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    choices: list[dict[str, object]] = [{"delta": {"content": word}} for word in words]
    choices.append({"delta": {}, "finish_reason": "stop"})
    for choice in choices:
        chunk = {"object": "chat.completion.chunk", "model": model, "choices": [{"index": 0, **choice}]}
        await response.write(b"data: %s\n\n" % msgspec.json.encode(chunk))
        await asyncio.sleep(PACE)
    await response.write(b"data: [DONE]\n\n")
    return response


def _reply(messages: list[_Message]) -> str:
    prompts = [message.content for message in messages if message.role == "user"]
    reply = f"This is the practice model; I only repeat. You said: {prompts[-1]}"
    if len(prompts) > 1:
        reply += f"\nBefore that you said: {prompts[-2]}"
    return reply
