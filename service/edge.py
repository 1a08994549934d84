"""One ASGI layer around everything: it names each request, reads its body within bounds, and logs a line.

What passes it has a whole body, so nothing behind it waits for a slow caller.
"""

import asyncio
import logging
import re
import time
import uuid

from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Send

from service.errors import Answer, BodyTimedOut, BodyTooLarge, answer_to
from service.log import request_id
from service.settings import Settings

__all__ = ["Edge"]

log = logging.getLogger("marketplace.requests")

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """Lets HTTP requests through to ``application``."""

    def __init__(self, application: ASGIApp, settings: Settings) -> None:
        self.application = application
        self._settings = settings

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request_id.set(_id_of(scope))
        await _Exchange(scope, send).run(self.application, receive, self._settings)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self._status = 0

    async def run(self, application: ASGIApp, receive: Receive, settings: Settings) -> None:
        try:
            body = await _read_body(self._scope, receive, settings)
            if body is not None:
                await application(self._scope, _Replay(body, receive), self.send)
        except (BodyTooLarge, BodyTimedOut) as error:
            await self._answer(answer_to(error))
        except Exception as error:
            if self._status:
                raise  # part of the answer is sent: the server has to cut the connection
            log.exception("Internal error")
            await self._answer(answer_to(error))
        finally:
            self._log()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", request_id.get().encode()),
            ]
        await self._send(message)

    async def _answer(self, answer: Answer) -> None:
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        await self.send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})

    def _log(self) -> None:
        milliseconds = (time.perf_counter() - self._started) * 1000
        # The raw path is still percent-encoded: no caller can forge a line of the log with it.
        path = self._scope["raw_path"].decode("ascii", "replace")
        status = self._status or "left"
        log.info("%s %s %s %.1fms", self._scope["method"], path, status, milliseconds)


class _Replay:
    """A receive channel that gives the body once more, then whatever comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> HTTPReceiveMessage:
        if self._body is None:
            return await self._receive()  # type: ignore[return-value]
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _id_of(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex


async def _read_body(scope: HTTPScope, receive: Receive, settings: Settings) -> bytes | None:
    """Read the whole body; None if the caller left."""
    limit = settings.max_body
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if int(announced) > limit:
        raise BodyTooLarge(f"a body may have {limit} bytes", limit=limit)
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _collect(receive, limit)
    except TimeoutError:
        raise BodyTimedOut(f"it did not arrive within {settings.body_timeout} seconds") from None


async def _collect(receive: Receive, limit: int) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if len(body) > limit:
            raise BodyTooLarge(f"a body may have {limit} bytes", limit=limit)
        if not message.get("more_body"):
            return body
