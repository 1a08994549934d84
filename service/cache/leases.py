"""Leases within one process: who may write under a key, and who waits for that."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping

__all__ = ["Leases"]


class _Lease:
    __slots__ = ("token", "until", "waiting")

    def __init__(self) -> None:
        self.token: str | None = None
        self.until = 0.0
        self.waiting: deque[asyncio.Event] = deque()

    def is_free(self, now: float) -> bool:
        return self.token is None or self.until <= now

    def wake_first(self) -> None:
        if self.waiting:
            self.waiting[0].set()


class Leases:
    """Leases by their keys; one that nobody has or waits for takes no memory. Belongs to one event loop."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    async def take(self, key: str, token: str, *, ttl: float, wait: float) -> bool:
        """Take the lease of ``key``; see `marketplace.Cache.lease`."""
        lease = self._leases.setdefault(key, _Lease())
        now = self._now()
        if (lease.waiting or not lease.is_free(now)) and not await self._wait(key, lease, now + wait):
            return False
        lease.token, lease.until = token, self._now() + ttl
        self._leases[key] = lease
        return True

    def holds(self, key: str, token: str) -> bool:
        """Return whether ``token`` took the lease of ``key`` last, and did not give it back."""
        lease = self._leases.get(key)
        return lease is not None and lease.token == token

    def renew(self, leases: Mapping[str, str], *, ttl: float) -> set[str]:
        """Keep ``leases``; see `marketplace.Cache.renew`."""
        held = {key for key, token in leases.items() if self.holds(key, token)}
        for key in held:
            self._leases[key].until = self._now() + ttl
        return held

    def release(self, key: str, token: str) -> None:
        """Give back the lease of ``key``; see `marketplace.Cache.release`."""
        lease = self._leases.get(key)
        if lease and lease.token == token:
            lease.token = None
            lease.wake_first()
            self._forget(key, lease)

    async def _wait(self, key: str, lease: _Lease, end: float) -> bool:
        """Wait until the lease is free and everybody who came earlier has had it or left."""
        woken = asyncio.Event()
        lease.waiting.append(woken)
        try:
            while lease.waiting[0] is not woken or not lease.is_free(self._now()):
                if self._now() >= end:
                    return False
                # Who is first looks again when the holder's time is over; the others are woken.
                until = min(end, lease.until) if lease.waiting[0] is woken else end
                woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await woken.wait()
            return True
        finally:
            lease.waiting.remove(woken)
            lease.wake_first()
            self._forget(key, lease)

    def _forget(self, key: str, lease: _Lease) -> None:
        if lease.token is None and not lease.waiting:
            self._leases.pop(key, None)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
