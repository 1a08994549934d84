"""One ASGI layer around everything: it names each request, reads its body within bounds, and logs a line.

What passes it has a whole body, so nothing behind it waits for a slow caller.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Send

from marketplace.errors import ServiceError
from service.errors import AccessDenied, Answer, BodyTimedOut, BodyTooLarge, answer_to
from service.log import request_id
from service.origins import Origins
from service.settings import Settings

__all__ = ["Edge", "HTTPApplication", "addressed"]

log = logging.getLogger("marketplace.requests")

Headers = dict[bytes, bytes]
HTTPApplication = Callable[[HTTPScope, Receive, Send], Awaitable[None]]

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Edge:
    """Lets HTTP requests through to the application in ``use``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._origins = Origins(settings.origins)

    def use(self, application: HTTPApplication) -> None:
        """Let requests through to ``application`` from now on; those that are there already stay there."""
        self._application = application

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = dict(scope["headers"])
        request_id.set(_id_of(headers))
        path, shown = addressed(scope["path"])
        scope["path"], scope["raw_path"] = path, quote(path).encode()
        exchange = _Exchange(scope["method"], shown, send)
        try:
            await self._handle(scope, headers, receive, exchange)
        except ServiceError as error:
            await exchange.answer(answer_to(error))
        except Exception as error:
            if exchange.status:
                raise  # part of the answer is sent: the server has to cut the connection
            log.exception("Internal error")
            await exchange.answer(answer_to(error))
        finally:
            exchange.log()

    async def _handle(
        self, scope: HTTPScope, headers: Headers, receive: Receive, exchange: "_Exchange"
    ) -> None:
        if origin := headers.get(b"origin"):
            if not self._origins.allow(origin, headers.get(b"host", b"")):
                raise AccessDenied("MARKETPLACE_ORIGINS does not have this origin")
            is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
            exchange.headers += self._origins.headers(origin, preflight=is_preflight)
            if is_preflight:
                return await exchange.answer(Answer(204, {}, b""))
        body = await _read_body(headers, receive, self._settings)
        if body is not None:
            await self._application(scope, _Replay(body, receive), exchange.send)
        return None


class _Exchange:
    """The answer to one request."""

    def __init__(self, verb: str, path: str, send: Send) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.get().encode())]
        self._request = f"{verb} {path}"
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.headers]
        await self._send(message)

    async def answer(self, answer: Answer) -> None:
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        await self.send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})

    def log(self) -> None:
        milliseconds = (time.perf_counter() - self._started) * 1000
        log.info("%s %s %.1fms", self._request, self.status or "left", milliseconds)


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


def addressed(path: str) -> tuple[str, str]:
    """Return the path that is meant, and one that may be logged.

    ``/<application id>/<API key>/...`` is the other form of ``/api/...``; the key in it is masked. Doubled
    slashes come from an address that ends in one.
    """
    path = re.sub("/{2,}", "/", path)
    path = path.rstrip("/") or "/"
    first, _, rest = path[1:].partition("/")
    if first in ("api", "schema") or not rest:
        return path, quote(path)
    rest = rest.partition("/")[2]
    shown = quote(f"/{first}/***/{rest}", safe="/*")
    return (f"/api/{rest}" if rest.partition("/")[0] in ("services", "info") else path), shown


def _id_of(headers: Headers) -> str:
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


async def _read_body(headers: Headers, receive: Receive, settings: Settings) -> bytes | None:
    """Read the whole body; None if the caller left."""
    limit = settings.max_body
    announced = headers.get(b"content-length", b"").lstrip(b"0")
    if len(announced) > 15 or int(announced or b"0") > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _collect(receive, limit)
    except TimeoutError:
        raise BodyTimedOut(f"it did not arrive within {settings.body_timeout} seconds") from None


async def _collect(receive: Receive, limit: int) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return bytes(body)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"a body may have at most {limit} bytes", limit=limit)
