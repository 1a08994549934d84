"""Hosts in processes of their own, which can be killed, paused and looked at. For Linux."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from tests.host import COMMAND, environment, install
from tests.reliability.sites import Site
from tests.servers import free_port
from tests.upstream import KEY

__all__ = ["Host", "hosts_of"]


class Host:
    """A `marketplace serve` and its workers; ``kills`` are the times at which one of them was killed."""

    def __init__(self, name: str, home: Path, variables: Mapping[str, str], workers: int) -> None:
        self.name = name
        self.log = home / "host.log"
        self.kills: list[float] = []
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.service = f"{self.url}/api/services/OpenAI"
        self._environment = environment(home, OPENAI_API_KEY=KEY, **variables)
        self._command = [*COMMAND, "serve", "--port", str(port), "--workers", str(workers)]

    @property
    def pid(self) -> int:
        """The process that was started last."""
        return self._process.pid

    def start(self) -> None:
        """Start it; it takes a while until it answers."""
        quiet = subprocess.DEVNULL
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=quiet,
                stdout=quiet,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self, seconds: float = 60) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError, OSError):
                    async with http.get(f"{self.url}/api/services") as answer:
                        if answer.status == 200 and (await answer.json())[0]["state"] == "ok":
                            return
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """Kill it and all its workers, at once."""
        self.kills.append(time.monotonic())
        self.end()

    def end(self) -> None:
        """End it because the run is over."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def kill_worker(self, number: int) -> None:
        """Kill one of its workers; the host starts another."""
        workers = self._workers()
        if workers:
            self.kills.append(time.monotonic())
            with suppress(ProcessLookupError):
                os.kill(workers[number % len(workers)], signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to it and to all its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def complaints(self) -> list[str]:
        """Return what its log has of errors that nobody foresaw."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [
            f"{self.name}: {line[:200]}"
            for line in lines
            if line.startswith("Traceback") or "Internal error" in line
        ]

    def _workers(self) -> list[int]:
        found = subprocess.run(
            ["pgrep", "-P", str(self.pid), "-f", "spawn_main"], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]


@asynccontextmanager
async def hosts_of(
    site: Site, upstream: str, count: int = 2, *, workers: int = 2, **items: int
) -> AsyncIterator[list[Host]]:
    """Run hosts that share the site until the block ends; each tells the upstream its name."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = [Host(f"host-{n}", Path(folder, str(n)), site.environment, workers) for n in range(count)]
        options = [option for name, value in items.items() for option in ("--set", f"{name}={value}")]
        for host in hosts:
            named = ["--set", f"organization={host.name}", "--no-verify"]
            await asyncio.to_thread(install, host.log.parent, upstream, KEY, *named, *options)
        for host in hosts:
            host.start()
        try:
            for host in hosts:
                await host.ready()
            yield hosts
        finally:
            for host in hosts:
                host.end()
