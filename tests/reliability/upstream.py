"""The fake upstream of the reliability runs: a process of its own that keeps a ledger of what it is asked.

Each reply tells its own id, a digest of all messages that it was made from, and how many they were. A prompt
that ends in `` wait 3`` is replied to after three seconds, any other after a random time. A share of the
calls goes wrong.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

__all__ = ["FAULTS", "TROUBLE", "Call", "Trouble", "Upstream", "digest", "upstream_process"]

FAULTS = ["429", "429 and when", "429 and much later", "500", "hang", "cut", "cut in the middle", "malformed"]
"""What can go wrong with a call."""


class Trouble(msgspec.Struct, frozen=True):
    """How it is: ``share`` of its calls go wrong, the others take ``delay`` seconds at most."""

    share: float = 0.0
    delay: float = 0.04
    seed: int = 0


TROUBLE = Trouble(share=0.1, delay=0.15)
"""An upstream in trouble."""


class Call(msgspec.Struct):
    """One line of the ledger; times are of the machine's monotonic clock, in seconds.

    ``is_known`` says that the prompt stands among the earlier messages that came with it. ``done`` is when
    the whole reply was made; it is billed then, whoever is still there to read it.
    """

    id: str
    prompt: str
    host: str
    asked: float
    is_known: bool
    done: float | None = None
    fault: str | None = None


def digest(messages: Sequence[tuple[str, str]]) -> str:
    """Return what tells these roles and texts from any others."""
    return hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:20]


class Upstream:
    """The running process, as seen by the others."""

    def __init__(self, url: str) -> None:
        self.url = url


@contextmanager
def upstream_process(trouble: Trouble) -> Iterator[Upstream]:
    """Run the fake until the block ends."""
    options = [f"--{name}={value}" for name, value in msgspec.structs.asdict(trouble).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *options],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Upstream(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


class _Server:
    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._random = random.Random(trouble.seed)
        self._ledger: list[Call] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**30)
        application.router.add_get("/v1/ledger", self._tell)
        application.router.add_post("/v1/chat/completions", self._complete)
        return application

    async def _tell(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._ledger), content_type="application/json")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read())
        messages = [(message["role"], message["content"]) for message in asked["messages"]]
        call = Call(
            id=f"a{len(self._ledger)}",
            prompt=messages[-1][1],
            host=request.headers.get("OpenAI-Organization", ""),
            asked=time.monotonic(),
            is_known=messages[-1] in messages[:-1],
        )
        self._ledger.append(call)
        wait = re.search(r" wait ([\d.]+)$", call.prompt)
        if not wait and self._random.random() < self._trouble.share:
            call.fault = self._random.choice(FAULTS)
            return await self._fail(request, call.fault, streams=asked.get("stream", False))
        await asyncio.sleep(float(wait[1]) if wait else self._random.uniform(0, self._trouble.delay))
        call.done = time.monotonic()
        reply = f"{call.id} {digest(messages)} {len(messages)} re {call.prompt}"
        if not asked.get("stream"):
            return web.json_response({"choices": [{"message": {"role": "assistant", "content": reply}}]})
        return await _stream(request, [reply[:8], reply[8:30], reply[30:]], is_whole=True)

    async def _fail(self, request: web.Request, fault: str, *, streams: bool) -> web.StreamResponse:
        match fault:
            case "429":
                return _error(429)
            case "429 and when":
                return _error(429, {"Retry-After": "1"})
            case "429 and much later":
                return _error(429, {"Retry-After": "120"})
            case "500":
                return _error(500)
            case "hang":
                await asyncio.sleep(300)
            case "malformed":
                body = b'data: {"choices": [\n\n' if streams else b'{"choices": [{"mess'
                return web.Response(
                    body=body, content_type="text/event-stream" if streams else "application/json"
                )
            case "cut in the middle" if streams:
                return await _stream(request, ["never ", "to be "], is_whole=False)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        if fault == "cut in the middle":
            await response.prepare(request)
            await response.write(b'{"choices": [{"message": {"con')
        assert request.transport is not None
        request.transport.abort()
        return response


async def _stream(request: web.Request, parts: Sequence[str], *, is_whole: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        await response.write(_event({"delta": {"content": part}}))
        await asyncio.sleep(0.002)
    if is_whole:
        await response.write(_event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n")
    return response


def _event(choice: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def _error(status: int, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": "No.", "type": None, "code": None, "param": None}}
    return web.json_response(body, status=status, headers=headers)


async def _serve(trouble: Trouble) -> None:
    runner = web.AppRunner(_Server(trouble).application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def _main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in msgspec.structs.asdict(Trouble()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    asyncio.run(_serve(Trouble(**vars(parser.parse_args()))))


if __name__ == "__main__":
    _main()
