"""The connection to Redis: how it is reached, how long it may take, and what its silence means."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import OutOfMemoryError, RedisClusterException, RedisError

from marketplace.errors import OutOfSpace, Unavailable
from service.settings import node_urls

__all__ = ["Arguments", "RedisClient", "Script"]

Result = TypeVar("Result")
Arguments = Sequence[str | bytes | int]

TIMEOUT = 5.0
"""Seconds an answer of Redis, or a free connection to it, may take."""

CALL_TIMEOUT = 10.0
"""Seconds a call may take, trying again included."""

FAILOVER = 4.0
"""Seconds for which a call to a cluster is made again, until a replica has taken its master's place."""

PAUSE = 0.2
"""Seconds between those calls."""

CONNECTIONS = 64
"""How many connections there may be to one Redis; more calls at once wait for each other."""

SIDE_BY_SIDE = 32
"""How many calls of one script are made at once where they may lie on several nodes."""


class RedisClient:
    """A Redis, or a Redis Cluster, by its URL; see `service.cache.RedisCache`. Connects on first use."""

    def __init__(self, url: str) -> None:
        self.client = _connect(url)
        self._patience = 0.0
        self._places: AbstractAsyncContextManager[None] = nullcontext()
        self._failures: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)
        if isinstance(self.client, RedisCluster):
            # When the cluster changes, its client closes connections under those who use them, and empties
            # the tables that they look into. They fail with whatever that leads to.
            self._patience = FAILOVER
            self._failures = (Exception,)
            # It also refuses more calls at once than it has connections, instead of letting them wait.
            self._places = asyncio.Semaphore(CONNECTIONS)

    def script(self, text: str) -> "Script":
        """Return ``text`` as something to be called."""
        return Script(self, text)

    def pipeline(self) -> Any:
        """Return a pipeline, which is no transaction."""
        return self.client.pipeline(transaction=False)

    async def ask(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``call`` does, which may be made more than once.

        Raises:
            OutOfSpace: if Redis has no memory left.
            Unavailable: if it does not answer.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(began + CALL_TIMEOUT), self._places:
                    return await call()
            except OutOfMemoryError as error:
                text = "the cache has no memory left"
                raise OutOfSpace(text, source="host", reason="cache_full", retry_after=30) from error
            except self._failures as error:
                if loop.time() >= began + self._patience:
                    text = "the cache cannot be used"
                    raise Unavailable(text, source="host", reason="cache", retry_after=5) from error
            await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()


class Script:
    """A script that Redis runs; calls raise what `RedisClient.ask` does."""

    def __init__(self, redis: RedisClient, text: str) -> None:
        self._redis = redis
        self._script = redis.client.register_script(text)

    async def __call__(self, keys: Sequence[str], arguments: Arguments) -> Any:
        """Run the script and return what it does."""
        return await self._redis.ask(lambda: self._script(keys=keys, args=arguments))

    async def many(self, calls: Sequence[tuple[Sequence[str], Arguments]]) -> list[Any]:
        """Run the script many times, with one message where there is one node; return what each run does."""
        if not isinstance(self._redis.client, RedisCluster):
            return await self._redis.ask(lambda: self._piped(calls))
        answers: list[Any] = []
        for start in range(0, len(calls), SIDE_BY_SIDE):
            some = calls[start : start + SIDE_BY_SIDE]
            answers += await asyncio.gather(*(self(keys, arguments) for keys, arguments in some))
        return answers

    async def _piped(self, calls: Sequence[tuple[Sequence[str], Arguments]]) -> list[Any]:
        async with self._redis.pipeline() as pipeline:
            for keys, arguments in calls:
                await self._script(keys=keys, args=arguments, client=pipeline)
            answers: list[Any] = await pipeline.execute()
            return answers


def _connect(url: str) -> Any:
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=3)
    timeouts = {"socket_timeout": TIMEOUT, "socket_connect_timeout": 2.0}
    if "+cluster" in url.partition("://")[0]:
        # One node tells of all others, but has to be alive when a host asks for the first time.
        first, *others = node_urls(url.replace("+cluster", "", 1))
        parts = [urlsplit(other) for other in others]
        nodes = [ClusterNode(part.hostname or "localhost", part.port or 6379) for part in parts]
        # By default every fifth redirection closes all connections to all nodes, under those who use them,
        # which leads to more of them. A connection that is lost makes it look at the cluster anew even so.
        return RedisCluster.from_url(
            first, startup_nodes=nodes, retry=retry, reinitialize_steps=0, **timeouts
        )
    pool = BlockingConnectionPool.from_url(
        url, max_connections=CONNECTIONS, timeout=TIMEOUT, retry=retry, **timeouts
    )
    return Redis.from_pool(pool)
