"""One turn, and what happens in the middle of it: its host pauses, its host dies, its store is restarted."""

import asyncio
import signal
import time
from collections.abc import Sequence

import aiohttp

from tests.reliability.clients import Answer, attempt, create_sessions, histories
from tests.reliability.hosts import Host, hosts_of
from tests.reliability.judge import Trial, judge
from tests.reliability.ledger import asked, ledger_of
from tests.reliability.outcomes import Outcome, Size
from tests.reliability.sites import Site
from tests.reliability.upstream import Trouble, Upstream, upstream_process

__all__ = ["freed", "paused", "restart"]

FREE = 10.0
"""Seconds within which the session of a host that was killed is free."""


async def paused(site: Site, size: Size) -> Outcome:
    """Stop the host that has the turn until others have had it, then let it go on."""
    with upstream_process(Trouble(seed=size.seed)) as upstream:
        async with hosts_of(site, upstream.url, workers=1) as hosts, aiohttp.ClientSession() as http:
            holder, other = hosts
            [session] = await create_sessions(holder, 1, persist=site.is_persisted)
            accepted: dict[str, str] = {}
            await _send(http, other, session, "s0 c0 n0", accepted)
            held = asyncio.create_task(attempt(http, holder, session, "s0 c1 n0 wait 2", "held"))
            await asked(upstream, "s0 c1 n0 wait 2")
            holder.signal(signal.SIGSTOP)
            began = time.monotonic()
            try:
                await _send(http, other, session, "s0 c0 n1", accepted)
                seconds = time.monotonic() - began
                await _send(http, other, session, "s0 c0 n2", accepted)
            finally:
                holder.signal(signal.SIGCONT)
            told = await held
            before = await _violations(site, hosts, [session], accepted, upstream, holder=holder)
            written = sum(call.startswith("s0 c1") for _, call in (await histories(other, [session]))[0])
            if told.reply is not None or written:
                before.append(f"the paused host has written: {told}")
            await _send(http, holder, session, "s0 c1 n0 wait 2", accepted, key="held")
            after = await _violations(site, hosts, [session], accepted, upstream, holder=holder)
            figures = {
                "others had the turn after (s)": f"{seconds:.1f}",
                "it was told": told.status,
                "messages it wrote": written,
            }
            return Outcome(site.backend, figures, [*before, *after])


async def freed(site: Site, size: Size) -> Outcome:
    """Kill the host that has the turn, and see when another one gets it."""
    times, wrong = [], []
    with upstream_process(Trouble(seed=size.seed, delay=0)) as upstream:
        async with hosts_of(site, upstream.url) as hosts, aiohttp.ClientSession() as http:
            sessions = await create_sessions(hosts[0], size.rounds, persist=site.is_persisted)
            accepted: dict[str, str] = {}
            for number, session in enumerate(sessions):
                holder, other = hosts[number % 2], hosts[1 - number % 2]
                prompt = f"s{number} c0 n0 wait 30"
                held = asyncio.create_task(attempt(http, holder, session, prompt, prompt))
                await asked(upstream, prompt)
                await asyncio.sleep(0.7 * number)  # the lease is not always as old
                holder.kill()
                began = time.monotonic()
                await asyncio.wait([held])
                if not held.exception():
                    wrong.append(f"a host that was killed has answered {held.result()}")
                await _send(http, other, session, f"s{number} c1 n0", accepted)
                times.append(time.monotonic() - began)
                holder.start()
                await holder.ready()
            wrong += await _violations(site, hosts, sessions, accepted, upstream)
    wrong += [f"the session was free only after {one:.1f} s" for one in times if one > FREE]
    figures = {"kills": len(times), "free after (s)": ", ".join(f"{one:.1f}" for one in times)}
    return Outcome(site.backend, figures, wrong)


async def restart(site: Site, size: Size) -> Outcome:
    """Restart the store while the upstream thinks, and while the reply is to be saved."""
    spans = {"while it thinks": (1.0, 1.0, 4), "while it is saved": (0.5, 3.0, 1)}
    figures: dict[str, object] = {}
    wrong: list[str] = []
    with upstream_process(Trouble(seed=size.seed)) as upstream:
        async with hosts_of(site, upstream.url, workers=1) as hosts, aiohttp.ClientSession() as http:
            sessions = await create_sessions(hosts[0], len(spans), persist=site.is_persisted)
            accepted: dict[str, str] = {}
            for number, (name, (before, away, wait)) in enumerate(spans.items()):
                await _send(http, hosts[0], sessions[number], f"s{number} c0 n0", accepted)
                prompt = f"s{number} c0 n1 wait {wait}"
                turn = asyncio.create_task(attempt(http, hosts[0], sessions[number], prompt, None))
                await asked(upstream, prompt)
                await asyncio.sleep(before)
                site.servers[0].stop()
                await asyncio.sleep(away)
                await asyncio.to_thread(site.servers[0].start)
                told = await turn
                figures[name] = told.status
                _note(told, prompt, accepted, wrong)
                await _send(http, hosts[1], sessions[number], f"s{number} c0 n2", accepted)
            wrong += await _violations(site, hosts, sessions, accepted, upstream)
    return Outcome(site.backend, figures, wrong)


async def _send(
    http: aiohttp.ClientSession,
    host: Host,
    session: str,
    prompt: str,
    accepted: dict[str, str],
    key: str | None = None,
) -> None:
    """Send what has to be answered."""
    wrong: list[str] = []
    _note(await attempt(http, host, session, prompt, key or prompt), prompt, accepted, wrong)
    if wrong:
        raise AssertionError(wrong[0])


def _note(told: Answer, prompt: str, accepted: dict[str, str], wrong: list[str]) -> None:
    if told.reply is None:
        wrong.append(f"{prompt} was told {told}")
    else:
        accepted[prompt] = told.reply


async def _violations(
    site: Site,
    hosts: Sequence[Host],
    sessions: Sequence[str],
    accepted: dict[str, str],
    upstream: Upstream,
    *,
    holder: Host | None = None,
) -> list[str]:
    """Judge; ``holder`` was paused, so that what it had paid for by then is in vain."""
    trial = Trial(
        accepted=accepted,
        histories=await histories(hosts[1], sessions),
        ledger=await ledger_of(upstream),
        kills={host.name: host.kills for host in hosts},
        outages=[(0.0, time.monotonic())] if holder else [],
    )
    return judge(trial).violations + [line for host in hosts for line in host.complaints()]
