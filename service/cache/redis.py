"""The cache in Redis, Valkey or a Redis Cluster, shared by all hosts that name the same one."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence

from service.cache import scripts
from service.cache.redis_client import Arguments, RedisClient
from service.cache.wakes import Wakes

__all__ = ["RedisCache"]

POLL = 1.0
"""Seconds after which a waiter looks for itself whether the lease is free, if nobody woke it."""

RESERVED = 3.0
"""Seconds that the lease is kept for the one who was woken."""


class RedisCache:
    """Entries as a list a key; a list costs the same to append to at any length. Needs Redis 7 or Valkey.

    ``url`` is ``redis://``, ``rediss://`` (TLS), or either with ``+cluster`` after the scheme's name for a
    Redis Cluster of which it names some nodes, separated by commas. The name of every key begins with
    ``prefix``. Connects on first use.
    """

    def __init__(self, url: str, *, prefix: str) -> None:
        self._prefix = prefix
        self._redis = RedisClient(url)
        self._create = self._redis.script(scripts.CREATE)
        self._append = self._redis.script(scripts.APPEND)
        self._lease = self._redis.script(scripts.LEASE)
        self._renew = self._redis.script(scripts.RENEW)
        self._release = self._redis.script(scripts.RELEASE)
        self._wakes = Wakes(self._redis, prefix)

    async def create(self, key: str, entries: Sequence[bytes], *, ttl: float) -> None:
        """Keep ``entries`` under a new ``key``; see `marketplace.Cache.create`."""
        await self._create([self._name(key)], [_milliseconds(ttl), *entries])

    async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
        """Return the entries under ``key``; see `marketplace.Cache.read`."""
        name = self._name(key)

        async def read() -> list[bytes] | None:
            async with self._redis.pipeline() as pipeline:
                pipeline.lrange(name, 0, -1)
                pipeline.pexpire(name, _milliseconds(ttl), gt=True)
                entries, _ = await pipeline.execute()
            return entries or None

        return await self._redis.ask(read)

    async def append(
        self, key: str, entries: Sequence[bytes], *, length: int, ttl: float, token: str | None = None
    ) -> bool:
        """Append ``entries`` if there are ``length``; see `marketplace.Cache.append`."""
        # A call that got no answer is made again, and known again by its token.
        known: list[str | int] = [self._wakes.place(token or secrets.token_hex(8)), int(bool(token))]
        names = [self._name(key), f"{self._name(key)}:last", f"{self._name(key)}:lease"]
        return bool(await self._append(names, [_milliseconds(ttl), length, *known, *entries]))

    async def delete(self, key: str) -> None:
        """Forget ``key``; see `marketplace.Cache.delete`."""
        names = [self._name(key), f"{self._name(key)}:last"]
        await self._redis.ask(lambda: self._redis.client.delete(*names))

    async def lease(self, key: str, token: str, *, ttl: float, wait: float) -> bool:
        """Take the lease of ``key``; see `marketplace.Cache.lease`."""
        place = self._wakes.place(token)
        arguments: Arguments = [place, _milliseconds(ttl)]
        end = _now() + wait
        # Only who could not have it at once has to be woken.
        left = await self._lease(self._lease_names(key), arguments)
        if not left:
            return True
        try:
            with self._wakes.waiting(place) as woken:
                while left and (pause := min(end - _now(), POLL, left / 1000)) > 0:
                    await woken.within(pause)
                    left = await self._lease(self._lease_names(key), arguments)
        finally:
            if left:
                await self.release(key, token)
        return not left

    async def renew(self, leases: Mapping[str, str], *, ttl: float) -> set[str]:
        """Keep ``leases``; see `marketplace.Cache.renew`."""
        keys = list(leases)
        calls: list[tuple[list[str], Arguments]] = [
            ([f"{self._name(key)}:lease"], [self._wakes.place(leases[key]), _milliseconds(ttl)])
            for key in keys
        ]
        answers = await self._renew.many(calls)
        return {key for key, is_held in zip(keys, answers, strict=True) if is_held}

    async def release(self, key: str, token: str) -> None:
        """Give back the lease of ``key``; see `marketplace.Cache.release`."""
        arguments: Arguments = [self._wakes.place(token), _milliseconds(RESERVED)]
        following = await self._release(self._lease_names(key), arguments)
        if following:
            await self._wakes.wake(following)

    async def close(self) -> None:
        """Close all connections."""
        await self._wakes.close()
        await self._redis.close()

    def _name(self, key: str) -> str:
        return f"{self._prefix}{{{key}}}"  # what is in braces decides the node of a cluster

    def _lease_names(self, key: str) -> list[str]:
        return [f"{self._name(key)}:lease", f"{self._name(key)}:waiting"]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _now() -> float:
    return asyncio.get_running_loop().time()
