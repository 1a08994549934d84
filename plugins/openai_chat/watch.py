"""Waiting for turns that other hosts have: one question to the database for all who wait."""

import asyncio
import contextlib
import logging
from functools import partial

from marketplace import Database, ServiceError
from plugins.openai_chat.tables import free_leases

__all__ = ["Watch"]

log = logging.getLogger("marketplace.openai")

SHORTEST, LONGEST = 0.15, 0.6
"""Seconds between two questions, while turns come free and while none does."""


class Watch:
    """Asks a few times a second which of the turns that this process waits for are free."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, tuple[str, asyncio.Event]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def is_free(self, session_id: str, token: str, *, until: float) -> bool:
        """Wait until the turn of a session seems free for ``token``, and return whether it does in time."""
        free = asyncio.Event()
        self._waiting[session_id] = (token, free)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="turns of other hosts")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await free.wait()
        finally:
            self._waiting.pop(session_id, None)
        return free.is_set()

    async def _ask(self) -> None:
        pause = SHORTEST
        while self._waiting:
            await asyncio.sleep(pause)
            asked = {name: token for name, (token, _) in self._waiting.items()}
            try:
                free = await self._database.read(partial(free_leases, asked))
            except ServiceError:
                free = set()
            except Exception:
                log.exception("It cannot be found out which turns are free")
                free = set()
            pause = SHORTEST if free else min(1.5 * pause, LONGEST)
            for name in free & self._waiting.keys():
                self._waiting[name][1].set()
