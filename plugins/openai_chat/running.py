"""A turn that is under way, for those who wait for its reply or listen to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec

from plugins.openai_chat.chat import Prompt

__all__ = ["Answered", "RunningTurn"]


class Answered(msgspec.Struct, frozen=True):
    """How a turn has ended; ``used`` is how many messages the reply is based on, where that is known.

    ``is_replayed`` says that it is the answer to an earlier call with the same key.
    """

    reply: str
    used: int | None = None
    is_replayed: bool = False


class RunningTurn:
    """A prompt that is being answered; any number of callers may follow it, at any time."""

    def __init__(self, session_id: str, prompt: Prompt, *, streams: bool) -> None:
        self.session_id = session_id
        self.prompt = prompt
        self.streams = streams
        self._parts: list[str] = []
        self._used: int | None = None
        self._taken: float | None = None
        self._outcome: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(lambda outcome: outcome.exception())  # nobody may be there to see it
        self._news = asyncio.Event()

    @property
    def is_done(self) -> bool:
        """Whether it has ended for those who follow it."""
        return self._outcome.done()

    @property
    def so_far(self) -> Answered:
        """What is known of the end by now."""
        if self._outcome.done() and not self._outcome.exception():
            return self._outcome.result()
        return Answered("".join(self._parts), used=self._used)

    def take(self) -> None:
        """Note that it has its session's turn now."""
        self._taken = asyncio.get_running_loop().time()
        self._tell()

    def add(self, part: str, used: int) -> None:
        """Note the next part of the reply, and how many messages it is based on."""
        self._parts.append(part)
        self._used = used
        self._tell()

    def finish(self, answered: Answered) -> None:
        """End it, unless it has failed before."""
        if not self._outcome.done():
            self._outcome.set_result(answered)
            self._tell()

    def fail(self, error: Exception) -> None:
        """End it with ``error``, unless it has ended before."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._tell()

    async def answered(self) -> Answered:
        """Wait for the end.

        Raises:
            ServiceError: what it has failed with.
        """
        return await asyncio.shield(self._outcome)

    async def begun(self, patience: float) -> None:
        """Wait until there is something to tell, ``patience`` seconds from when it is its turn.

        Raises:
            ServiceError: what it has failed with before that.
        """
        while not self._parts and not self._outcome.done():
            news = self._news
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if self._taken is None else self._taken + patience):
                    await news.wait()
                    continue
            return
        if self._outcome.done() and not self._parts:
            self._outcome.result()

    async def parts(self) -> AsyncIterator[str]:
        """Yield the parts of the reply as they come, until the end; one that came whole is one part.

        Raises:
            ServiceError: what it has failed with.
        """
        seen = 0
        while True:
            news = self._news
            while seen < len(self._parts):  # more may come while one is taken
                yield self._parts[seen]
                seen += 1
            if self._outcome.done():
                break
            if news is self._news:
                await news.wait()
        reply = self._outcome.result().reply
        if reply and not seen:
            yield reply

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
