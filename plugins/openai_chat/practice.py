"""The practice model: a small OpenAI-compatible server that answers without a key, always the same.

It listens on a loopback port of its own and is reached through the very same client as OpenAI.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

__all__ = ["PRACTICE", "practice_server"]

PRACTICE = "practice:"
"""The base URL that stands for the practice model."""

MODEL = "practice-model"


class _Message(msgspec.Struct):
    role: str
    content: str


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]


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


async def _complete(request: web.Request) -> web.Response:
    try:
        asked = msgspec.json.decode(await request.read(), type=_Request)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return web.json_response({"error": {"message": str(error)}}, status=400)
    message = {"role": "assistant", "content": _reply(asked.messages)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response({"object": "chat.completion", "model": asked.model, "choices": [choice]})


def _reply(messages: list[_Message]) -> str:
    prompts = [message.content for message in messages if message.role == "user"]
    reply = f"This is the practice model; I only repeat. You said: {prompts[-1]}"
    if len(prompts) > 1:
        reply += f"\nBefore that you said: {prompts[-2]}"
    return reply
