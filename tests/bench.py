"""What a message costs: the CPU time of sendMessage against that of the bare client call.

Both are measured in one run and in turn, each in a process of its own, with as many calls under way,
against the same upstream, which answers at once. For sendMessage it is the whole host: HTTP server,
routing, session in the memory cache, log, and the call to the upstream. The bare call is
`chat.completions.create` of the `openai` package, as it comes, with the same history. The figure is the
ratio of the two, the median of all rounds; the run fails if it is over its limit. For Linux.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp

from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream

PROMPT = "What is the capital of India, and which river does it lie on? Answer in a sentence."
ROUNDS = 5
UNDER_WAY = 8
CALLS = {2: 1000, 200: 60}
LIMITS = {2: 0.6, 200: 0.06}


def main() -> int:
    """Print the table; return 1 if a ratio is over its limit."""
    failed = False
    print("messages of history   sendMessage   bare call   ratio (min-max)         limit")
    with tempfile.TemporaryDirectory() as folder, FakeUpstream(remembers=False).serving() as upstream:
        home = Path(folder)
        install(home, upstream.url, KEY)
        with serving(home) as host:
            for history, limit in LIMITS.items():
                rounds = [_round(host, upstream.url, history) for _ in range(ROUNDS)]
                ratios = [ours / bare for ours, bare in rounds]
                ratio = statistics.median(ratios)
                failed |= ratio > limit
                ours, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
                spread = f"({min(ratios):.3f}-{max(ratios):.3f})"
                print(f"{history:19} {ours:10.2f} ms {bare:8.2f} ms   {ratio:.3f} {spread:15} {limit:6}")
    return int(failed)


def _round(host: Host, url: str, history: int) -> tuple[float, float]:
    """Return the milliseconds of CPU that a message takes in the host, and in the bare call."""
    ours = asyncio.run(_measure_host(host, history, CALLS[history]))
    command = [sys.executable, "-m", "tests.bench", "bare", url, str(history), str(CALLS[history])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return ours, float(done.stdout)


async def _measure_host(host: Host, history: int, calls: int) -> float:
    async with aiohttp.ClientSession(f"{host.service}/") as http:

        async def send(session: str) -> None:
            body = {"sessionId": session, "message": PROMPT}
            async with http.post("message", json=body, raise_for_status=True) as answer:
                await answer.read()

        sessions = [host.create_session() for _ in range(calls)]
        for _ in range(history // 2):
            await _in_parallel(send, sessions)
        before = _cpu_time(host.process.pid)
        await _in_parallel(send, sessions)
        return (_cpu_time(host.process.pid) - before) / calls * 1000


async def _measure_bare(url: str, history: int, calls: int) -> float:
    import openai
    from openai.types.chat import ChatCompletionMessageParam

    messages: list[ChatCompletionMessageParam] = []
    for _ in range(history // 2):
        messages.append({"role": "user", "content": PROMPT})
        messages.append({"role": "assistant", "content": f"{PROMPT}?"})
    messages.append({"role": "user", "content": PROMPT})
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:

        async def send(_: str) -> None:
            await client.chat.completions.create(model="gpt-3.5-turbo", messages=messages)

        await _in_parallel(send, [""] * UNDER_WAY)
        before = time.process_time()
        await _in_parallel(send, [""] * calls)
        return (time.process_time() - before) / calls * 1000


async def _in_parallel(call: Callable[[str], Awaitable[None]], values: Iterable[str]) -> None:
    waiting = iter(values)

    async def work() -> None:
        for value in waiting:
            await call(value)

    await asyncio.gather(*(work() for _ in range(UNDER_WAY)))


def _cpu_time(pid: int) -> float:
    """Return the CPU seconds another process has used, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # Linux' clock id of a process, see clock_getcpuclockid(3)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        print(asyncio.run(_measure_bare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        sys.exit(main())
