"""What goes wrong on purpose: hosts that are killed, servers that are restarted."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.reliability.hosts import Host
from tests.servers import Server

__all__ = ["Chaos"]


class Chaos:
    """Kills and restarts until it is stopped; ``outages`` are spans of the machine's monotonic clock."""

    def __init__(
        self, hosts: Sequence[Host], servers: Sequence[Server], seed: int, pace: float = 1.0
    ) -> None:
        self.outages: list[tuple[float, float]] = []
        self.restarts = 0
        self._hosts = hosts
        self._servers = servers
        self._random = random.Random(seed)
        self._pace = pace

    @property
    def kills(self) -> Mapping[str, Sequence[float]]:
        """When which host was killed, or one of its workers."""
        return {host.name: host.kills for host in self._hosts}

    @asynccontextmanager
    async def reigning(self) -> AsyncIterator[None]:
        """Let it go on until the block ends; then all hosts and servers run."""
        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeated(self._kill, (2.0, 5.0), is_over))
            if self._servers:
                tasks.create_task(self._repeated(self._restart, (4.0, 7.0), is_over))
            try:
                yield
            finally:
                is_over.set()

    async def _repeated(
        self,
        do: Callable[[int], Coroutine[Any, Any, None]],
        every: tuple[float, float],
        is_over: asyncio.Event,
    ) -> None:
        number = 0
        while not is_over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace * self._random.uniform(*every)):
                    await is_over.wait()
                    return
            await do(number)
            number += 1

    async def _kill(self, number: int) -> None:
        """Kill the hosts in turn, every third time only one of its workers."""
        host = self._hosts[number % len(self._hosts)]
        if number % 3 == 2:
            host.kill_worker(self._random.randrange(2))
            return
        host.kill()
        host.start()
        await host.ready()

    async def _restart(self, number: int) -> None:
        """Restart the servers in turn, leaving each away for a moment."""
        server = self._servers[number % len(self._servers)]
        began = time.monotonic()
        server.stop()
        await asyncio.sleep(self._random.uniform(0.1, 2.0))
        await asyncio.to_thread(server.start)
        self.outages.append((began, time.monotonic()))
        self.restarts += 1
