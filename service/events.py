"""Answers in parts: server-sent events, with errors in the shape of the contract.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream

from marketplace.errors import ServiceError
from marketplace.interfaces import Event, EventStream
from service.errors import answer_to

__all__ = ["EVENTS", "stream_events"]

log = logging.getLogger("marketplace.events")

EVENTS = "text/event-stream"

SILENCE = 15
"""Seconds of silence after which a comment is sent, so that nobody takes the connection for dead."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Proxies are not to keep what they should pass on."""


async def stream_events(response: Response[Any]) -> Response[Any]:
    """Return ``response``, or what sends its `EventStream` if that is what it has."""
    if not isinstance(response.content, EventStream):
        return response
    headers = {**response.headers, **_HEADERS}
    return Stream(_encoded(response.content.events), media_type=EVENTS, headers=headers)


async def _encoded(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    try:
        async for event in _with_silence(events):
            yield _encode(event.name, msgspec.json.encode(event.data)) if event else b": still here\n\n"
    except Exception as error:
        if not isinstance(error, ServiceError):
            log.error("Internal error", exc_info=error)
        yield _encode("error", answer_to(error).body)


def _encode(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


async def _with_silence(events: AsyncIterator[Event]) -> AsyncIterator[Event | None]:
    """Yield the events, and None for each time of silence."""
    coming: asyncio.Future[Event] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            await asyncio.wait([coming], timeout=SILENCE)
            if not coming.done():
                yield None
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield event
    finally:
        if coming and not coming.done():  # the caller has left
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming
