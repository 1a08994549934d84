"""Answers in parts, as the host sends them for any service."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from litestar import Response
from litestar.response import Stream

from marketplace import Event, EventStream, Unavailable
from service import events

pytestmark = pytest.mark.anyio


async def sent(parts: AsyncIterator[Event]) -> str:
    """Return all that is sent of a stream of ``parts``."""
    response = await events.stream_events(Response(EventStream(parts), headers={"X-Own": "1"}))
    assert isinstance(response, Stream)
    assert response.headers["X-Own"] == "1"
    chunks = cast("AsyncIterator[bytes]", response.iterator)
    return b"".join([chunk async for chunk in chunks]).decode()


async def test_events_are_sent_as_json_on_one_line() -> None:
    """Whatever is in their text."""

    async def parts() -> AsyncIterator[Event]:
        yield Event("delta", {"text": "a\nb\r\n\u2028"})
        yield Event("end", None)

    assert await sent(parts()) == (
        'event: delta\ndata: {"text":"a\\nb\\r\\n\u2028"}\n\nevent: end\ndata: null\n\n'
    )


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So nobody between takes the connection for dead; the events are as ever."""
    monkeypatch.setattr(events, "SILENCE", 0.05)

    async def parts() -> AsyncIterator[Event]:
        await asyncio.sleep(0.18)
        yield Event("delta", 1)

    *comments, name, data, _, _ = (await sent(parts())).split("\n")
    assert {": still here", ""} == {*comments}
    assert (name, data) == ("event: delta", "data: 1")


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (Unavailable("no", source="x"), '"code":14004,"message":"Service invocation failed: no"'),
        (KeyError("secret"), '"code":0,"message":"Internal error"'),
    ],
    ids=["ours", "any other"],
)
async def test_what_fails_ends_with_an_event(error: Exception, data: str) -> None:
    """It has the envelope of an error answer, and tells nothing of what is unforeseen."""

    async def parts() -> AsyncIterator[Event]:
        yield Event("delta", 1)
        raise error

    text = await sent(parts())
    assert text.startswith("event: delta\ndata: 1\n\nevent: error\ndata: {")
    assert data in text
    assert "secret" not in text


async def test_a_caller_that_leaves_ends_it() -> None:
    """What makes the events is told, and nothing stays behind."""
    is_over = asyncio.Event()

    async def parts() -> AsyncIterator[Event]:
        try:
            yield Event("delta", 1)
            await asyncio.sleep(60)
        finally:
            is_over.set()

    response = await events.stream_events(Response(EventStream(parts())))
    assert isinstance(response, Stream)

    async def listen() -> None:
        async for _ in cast("AsyncIterator[bytes]", response.iterator):
            pass

    caller = asyncio.create_task(listen())
    await asyncio.sleep(0.05)
    caller.cancel()
    async with asyncio.timeout(1):
        await is_over.wait()
