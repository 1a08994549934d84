"""A thousand sessions that wait for a slow upstream, at one process. For Linux."""

import asyncio
import re
import statistics
import time
from collections import Counter
from pathlib import Path

import aiohttp
import msgspec

from tests.reliability.clients import Answer, attempt, create_sessions, histories
from tests.reliability.hosts import Host, hosts_of
from tests.reliability.judge import Trial, judge
from tests.reliability.ledger import ledger_of
from tests.reliability.outcomes import Outcome, Size
from tests.reliability.sites import Site
from tests.reliability.upstream import Trouble, upstream_process

__all__ = ["waiting"]

MOST_THREADS = 40
MOST_STORE_CONNECTIONS = 66
"""What one process may have; the pools are of 64 connections to Redis, and of 8 to a database."""

MOST_MEMORY = 200 * 1024
"""Bytes by which a waiting session may enlarge the process."""

CREATED = 41
"""How many sessions are created meanwhile."""


async def waiting(site: Site, size: Size) -> Outcome:
    """Let all sessions wait for an upstream that takes long, and create others meanwhile."""
    with upstream_process(Trouble(seed=size.seed)) as upstream:
        async with hosts_of(site, upstream.url, 1, workers=1, timeout=120) as [host]:
            sessions = await create_sessions(host, size.waiting, persist=site.is_persisted)
            before = _usage(host, site)
            prompts = [f"s{number} c0 n0 wait {size.wait}" for number in range(size.waiting)]
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                turns = [
                    asyncio.create_task(attempt(http, host, session, prompt, prompt))
                    for session, prompt in zip(sessions, prompts, strict=True)
                ]
                await _all_asked(upstream.url, size)
                times = [await _creation(host, site) for _ in range(CREATED)]
                meanwhile = _usage(host, site)
                still = sum(not turn.done() for turn in turns)
                told: list[Answer] = await asyncio.gather(*turns)
            trial = Trial(
                accepted={p: t.reply for p, t in zip(prompts, told, strict=True) if t.reply},
                histories=await histories(host, sessions),
                ledger=await ledger_of(upstream),
            )
            wrong = [f"{p} was told {t}" for p, t in zip(prompts, told, strict=True) if not t.reply]
            wrong += judge(trial).violations + _excess(before, meanwhile, size) + host.complaints()
            figures = {
                "waiting": still,
                "memory (MB)": f"{before.memory >> 20} to {meanwhile.memory >> 20}",
                "threads": f"{before.threads} to {meanwhile.threads}",
                "connections to the store": meanwhile.store,
                "all connections": meanwhile.connections,
                "createSession, median (ms)": f"{statistics.median(times) * 1000:.1f}",
            }
            return Outcome(site.backend, figures, wrong)


class _Usage(msgspec.Struct, frozen=True):
    memory: int
    threads: int
    connections: int
    store: int


def _usage(host: Host, site: Site) -> _Usage:
    """Return what a process has of everything, memory in bytes."""
    process = Path("/proc", str(host.pid))
    status = (process / "status").read_text()
    numbers = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}  # type: ignore[index]
    links = (_link(path) for path in (process / "fd").iterdir())
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    ports = Counter(int(row[2].split(":")[1], 16) for row in _connections(process) if row[9] in inodes)
    connections = sum(count for port, count in ports.items() if port)
    return _Usage(numbers["VmRSS"] * 1024, numbers["Threads"], connections, ports[site.port or -1])


def _connections(process: Path) -> list[list[str]]:
    rows = (process / "net" / "tcp").read_text().splitlines()[1:]
    return [row.split() for row in rows]


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # closed just now
        return ""


def _excess(before: _Usage, meanwhile: _Usage, size: Size) -> list[str]:
    wrong = []
    if meanwhile.threads > MOST_THREADS:
        wrong.append(f"{meanwhile.threads} threads")
    if meanwhile.store > MOST_STORE_CONNECTIONS:
        wrong.append(f"{meanwhile.store} connections to the store")
    if meanwhile.connections > 2 * size.waiting + MOST_STORE_CONNECTIONS + 10:
        wrong.append(f"{meanwhile.connections} connections")
    grown = meanwhile.memory - before.memory
    if grown > size.waiting * MOST_MEMORY:
        wrong.append(f"the process has grown by {grown >> 20} MB")
    return wrong


async def _all_asked(url: str, size: Size) -> None:
    """Wait until the upstream has been asked by all, as long as it makes them wait at most."""
    end = time.monotonic() + 0.7 * size.wait
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < end:
            async with http.get(f"{url}/ledger") as answer:
                if len(await answer.json()) >= size.waiting:
                    return
            await asyncio.sleep(0.2)


async def _creation(host: Host, site: Site) -> float:
    """Create a session, and return how many seconds that takes."""
    began = time.monotonic()
    await create_sessions(host, 1, persist=site.is_persisted)
    return time.monotonic() - began
