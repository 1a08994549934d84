"""Many clients at once: while all goes well, while hosts and servers die, and while a cluster fails over."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence

import msgspec
import redis

from tests.reliability.clients import Crowd, Habits, create_sessions, histories
from tests.reliability.faults import Chaos
from tests.reliability.hosts import Host, hosts_of
from tests.reliability.judge import Trial, Verdict, judge
from tests.reliability.ledger import ledger_of
from tests.reliability.outcomes import Outcome, Size, figures_of
from tests.reliability.sites import Site
from tests.reliability.upstream import TROUBLE, Trouble, Upstream, upstream_process

__all__ = ["chaos", "failover", "race"]

CLIENTS = 4
"""Clients a session."""

CHAOS_TIMEOUT = 5
CHAOS_WAIT = 10
"""Seconds that a turn may take, and may be waited for, while everything goes wrong."""


async def race(site: Site, size: Size) -> Outcome:
    """Send as fast as can be through two hosts with two workers each."""
    with upstream_process(Trouble(seed=size.seed)) as upstream:
        async with hosts_of(site, upstream.url) as hosts:
            sessions = await create_sessions(hosts[0], size.sessions, persist=site.is_persisted)
            crowd = Crowd(hosts, sessions, Habits(), size.seed)
            began = time.monotonic()
            await crowd.send_all(size.sends, clients=CLIENTS, limit=size.limit)
            seconds = time.monotonic() - began
            trial = await _trial(crowd, hosts, sessions, upstream)
            verdict = judge(trial)
            return _outcome(
                site, crowd, hosts, verdict, {"sends": len(crowd.accepted), "seconds": f"{seconds:.0f}"}
            )


async def chaos(site: Site, size: Size) -> Outcome:
    """The same with hosts that are killed, servers that are restarted, and an upstream in trouble."""
    trouble = msgspec.structs.replace(TROUBLE, seed=size.seed)
    with upstream_process(trouble) as upstream:
        async with hosts_of(site, upstream.url, timeout=CHAOS_TIMEOUT, turnWait=CHAOS_WAIT) as hosts:
            sessions = await create_sessions(hosts[0], size.sessions, persist=site.is_persisted)
            crowd = Crowd(hosts, sessions, Habits(hangs_up=0.1), size.seed)
            faults = Chaos(hosts, site.servers, size.seed, size.pace)
            began = time.monotonic()
            async with faults.reigning():
                await crowd.send_all(size.sends, clients=CLIENTS, limit=size.limit)
            seconds = time.monotonic() - began
            trial = await _trial(crowd, hosts, sessions, upstream)
            trial = msgspec.structs.replace(
                trial, kills=faults.kills, outages=faults.outages, timeout=float(CHAOS_TIMEOUT)
            )
            figures = {
                "sends": len(crowd.accepted),
                "seconds": f"{seconds:.0f}",
                "kills": sum(map(len, faults.kills.values())),
                "restarts": faults.restarts,
                "upstream faults": sum(call.fault is not None for call in trial.ledger),
                "hung up": crowd.seen["hung up"],
                "tried again": sum(
                    n for what, n in crowd.seen.items() if what not in ("answered", "hung up")
                ),
            }
            return _outcome(site, crowd, hosts, judge(trial), figures)


async def failover(site: Site, size: Size) -> Outcome:
    """Kill a master of a Redis Cluster while clients send; its replica takes over."""
    with upstream_process(Trouble(seed=size.seed, delay=0.2)) as upstream:
        async with hosts_of(site, upstream.url) as hosts:
            sessions = await create_sessions(hosts[0], size.sessions, persist=False)
            crowd = Crowd(hosts, sessions, Habits(), size.seed)
            sending = asyncio.create_task(crowd.send_all(size.sends // 5, clients=CLIENTS, limit=size.limit))
            await asyncio.sleep(2)
            began = time.monotonic()
            seconds = await asyncio.to_thread(_kill_master, site.nodes)
            outage = (began, time.monotonic())
            await sending
            trial = await _trial(crowd, hosts, sessions, upstream)
            trial = msgspec.structs.replace(trial, outages=[outage], may_lose=True)
            figures = {
                "sends": len(crowd.accepted),
                "without a master (s)": f"{seconds:.1f}",
                "tried again": sum(n for what, n in crowd.seen.items() if what != "answered"),
            }
            return _outcome(site, crowd, hosts, judge(trial), figures)


async def _trial(crowd: Crowd, hosts: Sequence[Host], sessions: Sequence[str], upstream: Upstream) -> Trial:
    """Look at the histories, which are the same at all hosts, and into the ledger."""
    found = [await histories(host, sessions) for host in hosts]
    if any(one != found[0] for one in found):
        crowd.wrong.append("the hosts do not tell the same histories")
    return Trial(
        accepted=crowd.accepted,
        refused=crowd.refused,
        histories=found[0],
        ledger=await ledger_of(upstream),
    )


def _outcome(
    site: Site, crowd: Crowd, hosts: Sequence[Host], verdict: Verdict, figures: dict[str, object]
) -> Outcome:
    complaints = [line for host in hosts for line in host.complaints()]
    return Outcome(
        site.backend, {**figures, **figures_of(verdict)}, [*verdict.violations, *crowd.wrong, *complaints]
    )


def _kill_master(nodes: Sequence[int]) -> float:
    """Kill the first master, and return after how many seconds its replica is one."""
    clients = [redis.Redis(port=port, decode_responses=True) for port in nodes]
    for client in clients:
        role = client.role()
        if role[0] == "master" and role[2]:
            break
    replica = redis.Redis(port=int(role[2][0][1]), decode_responses=True)
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    began = time.monotonic()
    while replica.role()[0] != "master":
        if time.monotonic() > began + 60:
            raise TimeoutError("no replica took over")
        time.sleep(0.02)
    return time.monotonic() - began
