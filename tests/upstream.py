"""A fake OpenAI: a real HTTP server on loopback, for tests and the benchmark.

It replies to every conversation, keeps what it was asked, and misbehaves when a prompt tells it to::

    upstream.behaviours["be slow"] = slow(5)

makes the upstream take five seconds for the prompt "be slow".
"""

import asyncio
import itertools
import json
import re
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web

__all__ = [
    "KEY",
    "Behaviour",
    "FakeUpstream",
    "answering",
    "bounded",
    "compressed",
    "cut_off",
    "dripping",
    "failing_first",
    "garbled",
    "raw_upstream",
    "refusing",
    "slow",
    "streaming",
    "with_headers",
]

KEY = "sk-test-0123456789abcdef"
"""The key that the fake accepts."""

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeUpstream:
    """What the server has been asked, and how it is to behave."""

    def __init__(self, *, remembers: bool = True) -> None:
        self._remembers = remembers
        self.url = ""
        self.keys = {KEY}
        self.models = ["gpt-3.5-turbo", "gpt-4o"]
        self.shutdown_dates: dict[str, object] = {}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.listing: Behaviour | None = None

    @contextmanager
    def serving(self) -> Iterator["FakeUpstream"]:
        """Serve on a free port until the block ends."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="upstream")
        thread.start()
        runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=0, handler_cancellation=True
        )
        try:
            asyncio.run_coroutine_threadsafe(self._start(runner), loop).result()
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def prompts(self) -> list[str]:
        """Return the prompts of all completions asked for, in order."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=2**30)
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_post("/v1/chat/completions", self._complete)
        return application

    async def _start(self, runner: web.AppRunner) -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        self.url = f"http://{host}:{port}/v1"

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        if self.listing:
            return await self.listing(request)
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.keys:
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        dates = self.shutdown_dates
        data = [{"id": model, "shutdown_date": dates.get(model)} for model in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if self._remembers:
            self.requests.append(asked)
            self.headers.append(request.headers)
        prompt = asked["messages"][-1]["content"]
        if prompt in self.behaviours:
            return await self.behaviours[prompt](request)
        if asked.get("stream"):
            return await _stream(request, [*re.findall(r"\S+\s*", prompt), "?"])
        return _completion({"content": f"{prompt}?"})


def _completion(message: dict[str, Any]) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return web.json_response({"object": "chat.completion", "model": "echoed-0613", "choices": [choice]})


async def _stream(
    request: web.Request, parts: Sequence[str], *, pause: float = 0, is_whole: bool = True
) -> web.StreamResponse:
    """Reply in parts, as OpenAI does; a reply that is not whole just ends."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    chunks: list[dict[str, Any]] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}},
        *({"index": 0, "delta": {"content": part}} for part in parts),
    ]
    if is_whole:
        chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    for choice in chunks:
        chunk = {"object": "chat.completion.chunk", "model": "echoed-0613", "choices": [choice]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await asyncio.sleep(pause)
    if is_whole:
        await response.write(b"data: [DONE]\n\n")
    return response


def _error(
    status: int,
    message: str,
    code: str | None,
    headers: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> web.Response:
    body = {"error": {"message": message, "type": kind or code, "code": code, "param": None}}
    return web.json_response(body, status=status, headers={"x-request-id": "req_fake", **(headers or {})})


def answering(message: dict[str, Any]) -> Behaviour:
    """Reply with ``message``, such as ``{"content": ""}``."""

    async def behave(request: web.Request) -> web.StreamResponse:
        return _completion(message)

    return behave


def refusing(
    status: int, message: str = "No.", code: str | None = None, kind: str | None = None, **headers: str
) -> Behaviour:
    """Answer with an error in OpenAI's shape; ``Retry_After`` becomes the header ``Retry-After``."""

    async def behave(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _error(status, message, code, named, kind)

    return behave


def garbled(body: bytes) -> Behaviour:
    """Answer 200 with ``body``."""

    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return behave


def slow(seconds: float) -> Behaviour:
    """Reply after a while."""

    async def behave(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return _completion({"content": "Finally."})

    return behave


def streaming(*parts: str, pause: float = 0, is_whole: bool = True) -> Behaviour:
    """Reply in ``parts``, with so many seconds between them; one that is not whole just ends."""

    async def behave(request: web.Request) -> web.StreamResponse:
        return await _stream(request, parts, pause=pause, is_whole=is_whole)

    return behave


def bounded(context: int, *, says: str = "", code: str | None = "context_length_exceeded") -> Behaviour:
    """Refuse what has more than ``context`` words, which are its tokens.

    It tells so in the words ``says``, where ``{limit}`` and ``{tokens}`` stand for the numbers.
    """

    async def behave(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        tokens = sum(len(message["content"].split()) for message in asked["messages"])
        if tokens > context:
            return _error(400, says.format(limit=context, tokens=tokens), code)
        return _completion({"content": f"{len(asked['messages'])} messages"})

    return behave


def failing_first(times: int, behaviour: Behaviour) -> Behaviour:
    """Behave so the first ``times``, then reply."""
    count = itertools.count()

    async def behave(request: web.Request) -> web.StreamResponse:
        if next(count) < times:
            return await behaviour(request)
        return _completion({"content": "At last."})

    return behave


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Announce more than is sent, then cut the connection."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"con')
    assert request.transport is not None
    request.transport.abort()
    return response


@contextmanager
def raw_upstream(answer: bytes) -> Iterator[str]:
    """Serve an upstream that answers every request with these very bytes; yield its base URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), name="raw upstream").start()
        try:
            host, port = server.server_address[:2]
            yield f"http://{host!s}:{port}/v1"
        finally:
            server.shutdown()


def dripping(seconds: float) -> Behaviour:
    """Reply with a byte every tenth of a second, so that no single wait is long."""

    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(int(seconds * 10)):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    return behave


def with_headers(**headers: str) -> Behaviour:
    """Reply with more headers; ``Set_Cookie`` becomes ``Set-Cookie``."""

    async def behave(request: web.Request) -> web.StreamResponse:
        response = _completion({"content": "With headers."})
        response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return response

    return behave


async def compressed(request: web.Request) -> web.StreamResponse:
    """Reply in gzip, as OpenAI may."""
    response = _completion({"content": "Unpacked."})
    response.enable_compression(web.ContentCoding.gzip)
    return response
