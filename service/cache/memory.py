"""The cache in the memory of this process."""

import asyncio
import heapq
from collections.abc import Mapping, Sequence

from marketplace.errors import OutOfSpace
from service.cache.leases import Leases

__all__ = ["MemoryCache"]

OVERHEAD = 200
"""Bytes an entry or a key costs beyond its content, roughly."""


class _Kept:
    __slots__ = ("entries", "expires", "size", "token")

    def __init__(self, expires: float) -> None:
        self.entries: list[bytes] = []
        self.expires = expires
        self.size = OVERHEAD
        self.token: str | None = None

    def add(self, entries: Sequence[bytes]) -> int:
        self.entries.extend(entries)
        added = sum(map(len, entries)) + OVERHEAD * len(entries)
        self.size += added
        return added


class MemoryCache:
    """Entries in a dictionary of this process: bounded in bytes, and really gone when their time is over.

    What still lives is never evicted; a full cache refuses new entries instead. An append whose room was
    asked for beforehand always succeeds, so ``limit`` may be passed by what is under way at one time.
    Belongs to one event loop.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: dict[str, _Kept] = {}
        self._leases = Leases()
        # The earliest time a key can expire at; one that was used since is put back when it is popped.
        self._expiring: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """How many bytes are held, roughly."""
        return self._size

    async def create(self, key: str, entries: Sequence[bytes], *, ttl: float) -> None:
        """Keep ``entries`` under a new ``key``; see `marketplace.Cache.create`."""
        self._forget(key)
        self._make_room(sum(map(len, entries)) + OVERHEAD * (1 + len(entries)))
        kept = _Kept(self._now() + ttl)
        self._kept[key] = kept
        self._size += OVERHEAD + kept.add(entries)
        heapq.heappush(self._expiring, (kept.expires, key))
        if self._timer is None or self._timer.when() > kept.expires:
            self._wake_at_next_expiry()

    async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
        """Return the entries under ``key``; see `marketplace.Cache.read`."""
        kept = self._living(key)
        if kept is None:
            return None
        if room:
            self._make_room(room)
        kept.expires = max(kept.expires, self._now() + ttl)
        return list(kept.entries)

    async def append(
        self, key: str, entries: Sequence[bytes], *, length: int, ttl: float, token: str | None = None
    ) -> bool:
        """Append ``entries`` if there are ``length``; see `marketplace.Cache.append`."""
        kept = self._living(key)
        if kept is None:
            return False
        if token and kept.token == token and len(kept.entries) == length + len(entries):
            return True  # it is made again
        if len(kept.entries) != length or (token and not self._leases.holds(key, token)):
            return False
        kept.token = token
        self._size += kept.add(entries)
        kept.expires = self._now() + ttl
        return True

    async def delete(self, key: str) -> None:
        """Forget ``key``; see `marketplace.Cache.delete`."""
        self._forget(key)

    async def lease(self, key: str, token: str, *, ttl: float, wait: float) -> bool:
        """Take the lease of ``key``; see `marketplace.Cache.lease`."""
        return await self._leases.take(key, token, ttl=ttl, wait=wait)

    async def renew(self, leases: Mapping[str, str], *, ttl: float) -> set[str]:
        """Keep ``leases``; see `marketplace.Cache.renew`."""
        return self._leases.renew(leases, ttl=ttl)

    async def release(self, key: str, token: str) -> None:
        """Give back the lease of ``key``; see `marketplace.Cache.release`."""
        self._leases.release(key, token)

    async def close(self) -> None:
        """Forget everything."""
        if self._timer:
            self._timer.cancel()
        self._kept.clear()
        self._expiring.clear()
        self._size = 0

    def _living(self, key: str) -> _Kept | None:
        kept = self._kept.get(key)
        return kept if kept and kept.expires > self._now() else None

    def _make_room(self, size: int) -> None:
        if self._size + size > self._limit:
            self._forget_expired()
        if self._size + size > self._limit:
            soonest = self._expiring[0][0] if self._expiring else self._now()
            raise OutOfSpace(
                "the cache is full of living sessions",
                source="host",
                reason="cache_full",
                retry_after=soonest - self._now(),
            )

    def _forget(self, key: str) -> None:
        if kept := self._kept.pop(key, None):
            self._size -= kept.size

    def _forget_expired(self) -> None:
        now = self._now()
        while self._expiring and self._expiring[0][0] <= now:
            _, key = heapq.heappop(self._expiring)
            kept = self._kept.get(key)
            if kept and kept.expires > now:
                heapq.heappush(self._expiring, (kept.expires, key))
            else:
                self._forget(key)
        self._wake_at_next_expiry()

    def _wake_at_next_expiry(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._expiring:
            self._timer = asyncio.get_running_loop().call_at(self._expiring[0][0], self._forget_expired)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
