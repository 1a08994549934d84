"""How a waiter on another host is woken: each process that waits reads a list of its own in Redis."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from marketplace.errors import ServiceError
from service.cache.redis_client import RedisClient

__all__ = ["Wake", "Wakes"]

LISTEN = 2
"""Seconds that one reading of the list waits."""

FORGET = 30
"""Seconds after which a wake that nobody reads is gone."""


class Wake:
    """Set when the one who waits has been woken."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the one who waits."""
        self._event.set()

    async def within(self, seconds: float) -> None:
        """Wait until woken, ``seconds`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class Wakes:
    """Wakes the waiters of all processes that share a Redis, by the names of their places.

    A wake may get lost with Redis or its reader: waiters look for themselves now and then, too.
    """

    def __init__(self, redis: RedisClient, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._process = secrets.token_hex(8)
        self._waiting: dict[str, Wake] = {}
        self._listener: asyncio.Task[None] | None = None

    def place(self, token: str) -> str:
        """Return the name under which whoever has ``token`` waits."""
        return f"{self._process}:{token}"

    @contextmanager
    def waiting(self, place: str) -> Iterator[Wake]:
        """Listen for wakes of ``place`` until the block ends."""
        wake = self._waiting[place] = Wake()
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="wakes")
        try:
            yield wake
        finally:
            del self._waiting[place]

    async def wake(self, place: str | bytes) -> None:
        """Wake whoever waits at ``place``."""
        place = place.decode() if isinstance(place, bytes) else place
        process = place.partition(":")[0]
        if process == self._process:
            return self._woken(place)
        name = self._name(process)

        async def push() -> None:
            async with self._redis.pipeline() as pipeline:  # which asks a cluster what it looks like
                pipeline.rpush(name, place)
                pipeline.expire(name, FORGET)
                await pipeline.execute()

        with contextlib.suppress(ServiceError):
            await self._redis.ask(push)
        return None

    async def close(self) -> None:
        """Listen no more."""
        if self._listener:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener

    async def _listen(self) -> None:
        name = self._name(self._process)
        while self._waiting:
            try:
                found = await self._redis.ask(lambda: self._redis.client.blpop(name, timeout=LISTEN))
            except ServiceError:
                await asyncio.sleep(0.5)
                continue
            if found:
                self._woken(found[1].decode())

    def _woken(self, place: str) -> None:
        if wake := self._waiting.get(place):
            wake.set()

    def _name(self, process: str) -> str:
        return f"{self._prefix}wake:{process}"
