"""Holding on to the turns of sessions: one renewal for all that a process has."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from marketplace import ServiceError
from plugins.openai_chat.chat import SessionStore

__all__ = ["LEASE", "Leases"]

log = logging.getLogger("marketplace.openai")

LEASE = 6.0
"""Seconds after which the turn of a host that has died is somebody else's."""

RENEW = 1.5
"""Seconds between renewals."""


class Leases:
    """The turns that are held in one store."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._held: dict[str, str] = {}
        self._renewing: asyncio.Task[None] | None = None

    @contextmanager
    def kept(self, session_id: str, token: str) -> Iterator[None]:
        """Renew the lease until the block ends.

        One that is lost all the same is found out when the turn is to be stored.
        """
        self._held[session_id] = token
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="leases")
        try:
            yield
        finally:
            del self._held[session_id]

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            if not self._held:
                return
            try:
                await self._store.renew(dict(self._held))
            except ServiceError:
                continue  # the store may be back before the time is over
            except Exception:
                log.exception("Turns could not be held on to")
