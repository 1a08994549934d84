"""The cache in Redis, Valkey or a Redis Cluster, shared by all hosts that name the same one."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import OutOfMemoryError, RedisClusterException, RedisError

from marketplace.errors import OutOfSpace, Unavailable

__all__ = ["RedisCache"]

Result = TypeVar("Result")

TIMEOUT = 5.0
"""Seconds an answer of Redis, or a free connection to it, may take."""

CALL_TIMEOUT = 10.0
"""Seconds a call may take, trying again included."""

# A call that got no answer is made again, so each of these may run twice; the second time changes nothing and
# returns the same. An append is known again by its token, which is kept beside the list.
_CREATE = """
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
_APPEND = """
local length = redis.call('LLEN', KEYS[1])
if length == 0 then return 0 end
if redis.call('GET', KEYS[2]) == ARGV[3] then return 1 end
if length ~= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[1])
return 1
"""


class RedisCache:
    """Entries as a list a key; a list costs the same to append to at any length. Needs Redis 7 or Valkey.

    ``url`` is ``redis://``, ``rediss://`` (TLS), or either with ``+cluster`` after the scheme's name for a
    Redis Cluster of which it names one node. The name of every key begins with ``prefix``. Connects on first
    use.
    """

    def __init__(self, url: str, *, prefix: str) -> None:
        self._prefix = prefix
        self._client = _connect(url)
        self._create = self._client.register_script(_CREATE)
        self._append = self._client.register_script(_APPEND)

    async def create(self, key: str, entries: Sequence[bytes], *, ttl: float) -> None:
        """Keep ``entries`` under a new ``key``; see `marketplace.Cache.create`."""
        arguments = [_milliseconds(ttl), *entries]
        await self._ask(lambda: self._create(keys=[self._name(key)], args=arguments))

    async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
        """Return the entries under ``key``; see `marketplace.Cache.read`."""

        async def read() -> list[bytes] | None:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.lrange(self._name(key), 0, -1)
                pipeline.pexpire(self._name(key), _milliseconds(ttl), gt=True)
                entries, _ = await pipeline.execute()
            return entries or None

        return await self._ask(read)

    async def append(self, key: str, entries: Sequence[bytes], *, length: int, ttl: float) -> bool:
        """Append ``entries`` if there are ``length``; see `marketplace.Cache.append`."""
        arguments = [_milliseconds(ttl), length, secrets.token_bytes(16), *entries]
        names = [self._name(key), f"{self._name(key)}:last"]
        return bool(await self._ask(lambda: self._append(keys=names, args=arguments)))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _name(self, key: str) -> str:
        return f"{self._prefix}{{{key}}}"  # what is in braces decides the node of a cluster

    async def _ask(self, call: Callable[[], Awaitable[Result]]) -> Result:
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await call()
        except OutOfMemoryError as error:
            text = "the cache has no memory left"
            raise OutOfSpace(text, source="host", reason="cache_full", retry_after=30) from error
        except (RedisError, RedisClusterException, OSError) as error:
            text = "the cache cannot be used"
            raise Unavailable(text, source="host", reason="cache", retry_after=5) from error


def _connect(url: str) -> Any:
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=3)
    timeouts = {"socket_timeout": TIMEOUT, "socket_connect_timeout": 2.0}
    scheme, _, address = url.partition("://")
    if scheme.endswith("+cluster"):
        address = f"{scheme.removesuffix('+cluster')}://{address}"
        return RedisCluster.from_url(address, retry=retry, **timeouts)
    pool = BlockingConnectionPool.from_url(url, max_connections=64, timeout=TIMEOUT, retry=retry, **timeouts)
    return Redis.from_pool(pool)


def _milliseconds(ttl: float) -> int:
    return max(1, round(ttl * 1000))
