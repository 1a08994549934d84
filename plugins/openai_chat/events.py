"""A reply that the upstream sends in parts, as server-sent events.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import httpx2
import msgspec

from marketplace import Unavailable

__all__ = ["read_reply"]

SOURCE = "openai"

LAST_WORD = 1.0
"""Seconds that the end of the stream is waited for when the reply is whole."""


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode


class _Reply:
    """A reply as far as it has come."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.is_whole = False
        self.says_something = False

    def add(self, choice: _Choice) -> str | None:
        """Add what ``choice`` has, and return it if it is text."""
        text = choice.delta.content or choice.delta.refusal
        self.says_something |= text is not None or choice.delta.content is not None
        self.is_whole |= choice.finish_reason is not None
        if text:
            text = text.replace("\0", "\ufffd")
            self.parts.append(text)
        return text


async def read_reply(content: AsyncIterator[bytes], listen: Callable[[str], None]) -> str | None:
    """Return the whole reply, or None if there was neither content nor a refusal; tell each part of it.

    Raises:
        Unavailable: if the upstream fails while it replies, or stops before the end: the last part says
            why the reply has ended, and without that it has not.
        MsgspecError: if what it sends is no chat completion.
    """
    reply = _Reply()
    async for data in _events(_lines(_until_silence(content, reply))):
        chunk = _decode(data)
        if bytes(chunk.error) not in (b"", b"null"):
            raise Unavailable("the upstream failed while it replied", source=SOURCE)
        for choice in chunk.choices[:1]:
            if text := reply.add(choice):
                listen(text)
    if not reply.is_whole:
        raise Unavailable("the upstream cut its reply short", source=SOURCE, reason="cut_short")
    return "".join(reply.parts) if reply.says_something else None


async def _events(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each event; comments and other fields are passed over."""
    data: list[bytes] = []
    async for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line.strip() and data:
            if data == [b"[DONE]"]:
                return
            yield b"\n".join(data)
            data.clear()
    if data and data != [b"[DONE]"]:
        yield b"\n".join(data)


async def _lines(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines; only CR and LF end one, while JSON may have other line breaks in its texts."""
    rest = b""
    async for chunk in content:
        # A CR at the end may be followed by the LF that belongs to it.
        *lines, rest = re.split(rb"\r\n|\n|\r(?!\Z)", rest + chunk)
        for line in lines:
            yield line
    for line in rest.split(b"\r"):
        yield line


async def _until_silence(content: AsyncIterator[bytes], reply: _Reply) -> AsyncIterator[bytes]:
    """Yield ``content``; a whole ``reply`` is not given up for what happens to the connection after it."""
    while True:
        try:
            async with asyncio.timeout(LAST_WORD if reply.is_whole else None):
                chunk = await anext(content)
        except StopAsyncIteration:
            return
        except (TimeoutError, httpx2.TransportError):
            if reply.is_whole:
                return
            raise
        yield chunk
