"""What comes and goes under load leaves nothing behind, and fails nobody."""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx2
import msgspec

from tests.facilities import cache_environment
from tests.host import Host, install, serving
from tests.live import Shop, call_afresh, eventually, states
from tests.upstream import KEY, FakeUpstream

TALLY = "/api/services/Tally"
ROUNDS = 10
WORKERS = 2

CALLERS = 3
LOOKS = 5

POOLS = ("uvloop_", "database_")
"""Threads that are kept for the next one who needs them, up to a fixed number."""

MOST_GROWTH = 30 * 2**20
"""Bytes that a worker may have grown by in ten rounds.

What it replaced in them has had 40 MiB and more, so one that keeps it is found. One that does not grows for
some rounds by up to 20 MiB, and then no more: the allocator's room gets holes.
"""


class Footprint(msgspec.Struct, frozen=True):
    """What a worker has and holds; memory is in bytes, and ``instances`` are those of Tally."""

    tasks: int
    threads: int
    files: int
    memory: int
    instances: int

    def least(self, other: "Footprint") -> "Footprint":
        """Return the smaller of each figure."""
        return Footprint(*map(min, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


class Load:
    """Callers that never rest; what went wrong for them is in ``failures``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._is_over = threading.Event()
        self.calls = 0
        self.failures: list[str] = []

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Call until the block ends."""
        self._is_over.clear()
        callers = [
            threading.Thread(target=self._go_on, args=(self._chat, False)),
            threading.Thread(target=self._go_on, args=(self._chat_afresh, True)),
            threading.Thread(target=self._go_on, args=(self._count, None)),
        ]
        for caller in callers:
            caller.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for caller in callers:
                caller.join()

    def _go_on(self, call: Callable[[httpx2.Client, bool], None], argument: bool) -> None:
        with self._client() as http:
            while not self._is_over.is_set():
                try:
                    call(http, argument)
                except (AssertionError, httpx2.HTTPError) as error:
                    self.failures.append(repr(error))
                time.sleep(0.01)

    def _client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self._host.url, trust_env=False, timeout=30)

    def _chat(self, http: httpx2.Client, persist: bool) -> None:
        """A conversation of two turns."""
        service = "/api/services/OpenAI"
        created = self._good(http.post(f"{service}/session", json={"persistInDB": persist}))
        session = created.json()["sessionId"]
        for prompt in ("One", "Two"):
            body = {"sessionId": session, "message": prompt}
            answer = self._good(http.post(f"{service}/message", json=body)).json()
            assert answer["responseMessage"] == f"{prompt}?"
        history = self._good(http.get(f"{service}/session-messages", params={"sessionId": session}))
        assert len(history.json()["messages"]) == 4

    def _chat_afresh(self, _: httpx2.Client, persist: bool) -> None:
        with self._client() as http:
            self._chat(http, persist)

    def _count(self, http: httpx2.Client, _: bool) -> None:
        """The stranger's is there or it is not; nothing else may be the answer."""
        answer = http.post(f"{TALLY}/count")
        self.calls += 1
        assert answer.status_code == 200 or answer.json()["code"] == 14001, answer.text

    def _good(self, answer: httpx2.Response) -> httpx2.Response:
        self.calls += 1
        assert answer.status_code == 200, answer.text
        return answer


def footprints(host: Host) -> dict[int, Footprint]:
    """Return what each worker has and holds, by its process id.

    That is the least of several looks: what is there for a moment, such as the thread that looks whether
    the installs have changed, is not in all of them, and what has leaked is.
    """
    found: dict[int, list[Footprint]] = {}

    def look() -> bool:
        about = call_afresh(host, f"{TALLY}/about").json()
        pid = about["pid"]
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{pid}/fd"))
        memory = pages * os.sysconf("SC_PAGESIZE")
        looks = found.setdefault(pid, [])
        threads = [name for name in about["threads"] if not name.startswith(POOLS)]
        looks.append(Footprint(about["tasks"], len(threads), files, memory, about["instances"]))
        return len(found) == WORKERS and all(len(looks) >= LOOKS for looks in found.values())

    eventually(look, 20)
    return {pid: functools.reduce(Footprint.least, looks) for pid, looks in found.items()}


class Rounds:
    """Configures OpenAI in a ``shop``, and installs and uninstalls Tally, again and again."""

    def __init__(self, shop: Shop, host: Host) -> None:
        self.shop = shop
        self._host = host
        self._numbers = count()

    def go(self, rounds: int) -> None:
        """Make so many rounds; every change has taken effect in every worker when the next one is made."""
        for _ in range(rounds):
            number = next(self._numbers)
            made = self.shop.installs.load()["OpenAI"]
            answers = {**made.answers, "timeout": 30 + number}
            self.shop.installs.save(msgspec.structs.replace(made, answers=answers))
            self.shop.install("Tally", word=str(number))
            self.everywhere(lambda body, word=str(number): body.get("word") == word)  # type: ignore[misc]
            self.shop.uninstall("Tally")
            self.everywhere(lambda body: body.get("code") == 14001)

    def everywhere(self, is_seen: Callable[[dict[str, object]], bool]) -> None:
        """Wait until this is seen of Tally in every worker."""

        # Who answers cannot be told from outside: so many in a row do not come from one worker alone.
        def iseverywhere() -> bool:
            return all(is_seen(call_afresh(self._host, f"{TALLY}/about").json()) for _ in range(12))

        eventually(iseverywhere, 10)


def test_what_comes_and_goes_under_load_leaves_nothing_behind(
    tmp_path: Path, home: Path, upstream: FakeUpstream
) -> None:
    """No failed request, no task, thread or connection that stays, and no memory that grows."""
    shop = Shop(tmp_path / "plugins", home)
    install(home, upstream.url, KEY)
    shop.offer_ours()
    shop.offer("Broken", inside="async def start(self):\n    raise OSError")
    shop.offer("Hanging", inside="async def start(self):\n    await asyncio.sleep(60)")
    environment = {**shop.environment, **cache_environment("redis")}
    with serving(home, "--workers", str(WORKERS), **environment) as host:
        rounds = Rounds(shop, host)
        with Load(host).running() as load:
            rounds.go(2)
        before = settled(rounds, host)
        with load.running():
            rounds.go(ROUNDS // 2)
            shop.install("Broken")
            shop.install("Hanging")
            rounds.go(ROUNDS - ROUNDS // 2)
            eventually(lambda: states(host)["Broken"] == states(host)["Hanging"] == "failed", 15)
        shop.uninstall("Broken")
        shop.uninstall("Hanging")
        after = settled(rounds, host)
        assert load.failures == []
        assert load.calls > 200
        assert before.keys() == after.keys()  # nobody was started anew
        for pid, now in after.items():
            then = before[pid]
            assert now.tasks <= then.tasks
            assert now.threads <= then.threads
            assert now.files <= then.files + CALLERS  # the connections to Redis are pooled
            assert now.instances <= 3  # the one that serves, and those that an idle connection saw last
            assert now.memory - then.memory < MOST_GROWTH, (now.memory - then.memory) / 2**20


def settled(rounds: Rounds, host: Host) -> dict[int, Footprint]:
    """Return the footprints once everybody has gone who has to, with Tally there to tell them."""
    rounds.go(1)  # a new OpenAI has no connections yet
    rounds.shop.install("Tally", word="looks")
    rounds.everywhere(lambda body: body.get("word") == "looks")
    time.sleep(1)
    return footprints(host)
