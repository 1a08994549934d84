"""Turns: one at a time, stored once or not at all; with real stores and an upstream that obeys."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, update

from marketplace import Busy, Conflict, NotFound, Unavailable
from plugins.openai_chat.chat import Chat, Completion, Message, Prompt, Session, SessionStore, Turn
from plugins.openai_chat.running import Answered
from plugins.openai_chat.stores import CachedSessions, CacheKeys, TableSessions
from plugins.openai_chat.tables import sessions
from plugins.openai_chat.turns import Queues, Turns
from service.cache import RedisCache
from service.database import SQLDatabase
from tests.facilities import PREFIX, cache_url, database_url, open_cache

pytestmark = pytest.mark.anyio

STORES = ["memory", "redis", "cluster", "sqlite", "postgresql", "mariadb"]


class Echo:
    """Replies with the prompt and how many messages it was asked with; waits or fails when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held: dict[str, asyncio.Event] = {}

    def hold(self, prompt: str) -> asyncio.Event:
        """Reply to ``prompt`` only when the event is set."""
        return self.held.setdefault(prompt, asyncio.Event())

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        deadline: float,
        listen: Callable[[str, int], None] | None = None,
    ) -> Completion:
        prompt = messages[-1].content
        self.asked.append(prompt)
        if listen:
            listen(prompt, len(messages))
        if prompt in self.held:
            await self.held[prompt].wait()
        if prompt.startswith("fail"):
            raise Unavailable("as told", source="openai")
        if listen:
            listen(f"! ({len(messages)})", len(messages))
        return Completion(f"{prompt}! ({len(messages)})", used=len(messages))


class Flaky:
    """A store of which appends fail as often as it is told."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self.failures = 0
        self.retryable = True

    async def append(self, session: Session, turn: Turn, token: str) -> bool:
        if self.failures:
            self.failures -= 1
            raise Unavailable("as told", source="host", retryable=self.retryable)
        return await self._store.append(session, turn, token)

    async def create(self, session: Session, key: str | None) -> Session:
        return await self._store.create(session, key)

    async def created_with(self, key: str) -> Session | None:
        return await self._store.created_with(key)

    async def read(self, session_id: str) -> Session | None:
        return await self._store.read(session_id)

    async def begin(self, session_id: str, prompt: Prompt, token: str, *, wait: float) -> Session | None:
        return await self._store.begin(session_id, prompt, token, wait=wait)

    async def renew(self, turns: Mapping[str, str]) -> set[str]:
        return await self._store.renew(turns)

    async def release(self, session_id: str, token: str) -> None:
        await self._store.release(session_id, token)


class Host:
    """What one host has of its own: its queues, its turns and its way to the store."""

    def __init__(
        self, store: SessionStore, echo: Echo, *, wait: float = 30, timeout: float = 60, persist: bool
    ) -> None:
        self.persist = persist
        self.store = Flaky(store)
        self.queues = Queues()
        keys = CacheKeys(open_cache("memory"))
        self.chat = Chat("m", cached=self.store, persisted=self.store, keys=keys)
        self.turns = Turns(self.chat, echo, timeout=timeout, wait=wait, queues=self.queues)

    async def create(self) -> str:
        session, _ = await self.chat.create_session(None, persist=self.persist)
        return session.id

    async def send(self, session: str, text: str, key: str | None = None) -> str:
        return (await self.answer(session, text, key)).reply

    async def answer(self, session: str, text: str, key: str | None = None) -> Answered:
        turn, _ = self.turns.start(session, Prompt(text, key))
        return await turn.answered()

    async def history(self, session: str) -> list[str]:
        return [message.content for message in (await self.chat.get_session(session)).messages]


class Site:
    """Hosts that share one store."""

    def __init__(self, backend: str, address: str, stack: AsyncExitStack) -> None:
        self.backend = backend
        self.echo = Echo()
        self._address = address
        self._stack = stack
        self._cache = open_cache("memory") if backend == "memory" else None

    def host(self, *, wait: float = 30, timeout: float = 60) -> Host:
        """Open another host."""
        store, is_persisted = self._open()
        return Host(store, self.echo, wait=wait, timeout=timeout, persist=is_persisted)

    def _open(self) -> tuple[SessionStore, bool]:
        if self.backend in ("memory", "redis", "cluster"):
            cache = self._cache or RedisCache(self._address, prefix=f"{PREFIX}{id(self)}:")
            self._stack.push_async_callback(cache.close)
            return CachedSessions(cache, ttl=60, turn=10), False
        database = SQLDatabase(make_url(self._address))
        self._stack.push_async_callback(database.close)
        return TableSessions(database), True


@pytest.fixture(params=STORES)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        if request.param in ("memory", "redis", "cluster"):
            address = cache_url(request.param)
        else:
            address = stack.enter_context(database_url(request.param, tmp_path))
        async with AsyncExitStack() as opened:
            yield Site(request.param, address, opened)


class TestOneAtATime:
    async def test_messages_of_one_session_queue_in_order(self, site: Site) -> None:
        """Each is asked with the replies to all earlier ones, and the history is theirs in order."""
        host = site.host()
        session = await host.create()
        gate = site.echo.hold("0")
        sends = [asyncio.create_task(host.send(session, str(n))) for n in range(10)]
        await asyncio.sleep(0.1)
        assert site.echo.asked == ["0"]
        gate.set()
        assert await asyncio.gather(*sends) == [f"{n}! ({2 * n + 1})" for n in range(10)]
        assert (await host.history(session))[::2] == [str(n) for n in range(10)]

    async def test_hosts_take_turns(self, site: Site) -> None:
        """Of messages that arrive at three hosts at once each is answered once, with all earlier ones."""
        hosts = [site.host() for _ in range(3)]
        session = await hosts[0].create()
        sends = [hosts[n % 3].send(session, str(n)) for n in range(15)]
        replies = await asyncio.gather(*sends)
        history = await hosts[1].history(session)
        assert sorted(site.echo.asked, key=int) == [str(n) for n in range(15)]
        for n, reply in enumerate(replies):
            at = history.index(str(n))
            assert history[at + 1] == reply == f"{n}! ({at + 1})"

    async def test_nobody_starves(self, site: Site) -> None:
        """One message at a host comes to its turn while another host has always more to send."""
        busy, other = site.host(), site.host()
        session = await busy.create()
        is_over = asyncio.Event()

        async def go_on(number: int) -> None:
            while not is_over.is_set():
                await busy.send(session, f"busy {number}")

        crowd = [asyncio.create_task(go_on(number)) for number in range(4)]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(10):
            assert (await other.send(session, "other")).startswith("other!")
        is_over.set()
        await asyncio.gather(*crowd)

    async def test_nobody_starves_among_many(self, site: Site) -> None:
        """Four hosts that have always more to send all come to their turns."""
        hosts = [site.host() for _ in range(4)]
        session = await hosts[0].create()
        turns = [0] * len(hosts)
        end = asyncio.get_running_loop().time() + 5

        async def go_on(number: int) -> None:
            while asyncio.get_running_loop().time() < end:
                await hosts[number].send(session, f"{number}")
                turns[number] += 1

        await asyncio.gather(*(go_on(number) for number in range(len(hosts))))
        assert min(turns) > 0

    async def test_the_queue_is_one_for_an_install_and_its_successor(self, site: Site) -> None:
        """When an install is replaced its messages still go in the order in which they came."""
        old, new = site.host(), site.host()
        new.turns = Turns(new.chat, site.echo, timeout=60, wait=30, queues=old.queues)
        session = await old.create()
        gate = site.echo.hold("0")
        hosts = (old, old, new, old, new)
        sends = [asyncio.create_task(host.send(session, str(n))) for n, host in enumerate(hosts)]
        await asyncio.sleep(0.1)
        gate.set()
        await asyncio.gather(*sends)
        assert (await old.history(session))[::2] == ["0", "1", "2", "3", "4"]

    async def test_other_sessions_do_not_wait(self, site: Site) -> None:
        """A slow reply holds up nobody but its own session."""
        host = site.host()
        gate = site.echo.hold("slow")
        slow = asyncio.create_task(host.send(await host.create(), "slow"))
        await asyncio.sleep(0.05)
        assert await host.send(await host.create(), "quick") == "quick! (1)"
        assert not slow.done()
        gate.set()
        assert await slow == "slow! (1)"

    @pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
    async def test_a_turn_that_does_not_come_is_busy(self, site: Site, is_elsewhere: bool) -> None:
        """Who waited too long is told to try again, before any call to the upstream."""
        host = site.host(wait=0.3)
        late = site.host(wait=0.3) if is_elsewhere else host
        session = await host.create()
        gate = site.echo.hold("slow")
        slow = asyncio.create_task(host.send(session, "slow"))
        await asyncio.sleep(0.1)
        with pytest.raises(Busy) as busy:
            await late.send(session, "late")
        assert busy.value.reason == "session_busy"
        assert busy.value.retry_after
        gate.set()
        await slow
        assert site.echo.asked == ["slow"]
        assert await late.send(session, "again") == "again! (3)"

    async def test_a_long_turn_is_held(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its lease is renewed while it lasts."""
        shorten(monkeypatch, lease=0.8, renew=0.2)
        host, other = site.host(), site.host(wait=0.2)
        session = await host.create()
        gate = site.echo.hold("slow")
        slow = asyncio.create_task(host.send(session, "slow"))
        await asyncio.sleep(1.5)
        with pytest.raises(Busy):
            await other.send(session, "other")
        gate.set()
        assert await slow == "slow! (1)"

    async def test_who_lost_the_turn_writes_nothing(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A host that was paused past its lease is refused once somebody else has had the turn."""
        shorten(monkeypatch, lease=0.3, renew=60)
        paused, other = site.host(), site.host()
        session = await paused.create()
        gate = site.echo.hold("paused")
        lost = asyncio.create_task(paused.send(session, "paused"))
        await asyncio.sleep(0.5)
        with pytest.raises(Unavailable):
            await other.send(session, "fail")
        gate.set()
        with pytest.raises(Busy):
            await lost
        assert await other.history(session) == []
        assert await paused.send(session, "next") == "next! (1)"

    async def test_a_thousand_turns_leave_no_trace(self, site: Site) -> None:
        """What is remembered of a turn is forgotten with it."""
        host = site.host()
        created = [await host.create() for _ in range(20)]
        await asyncio.gather(*(host.send(one, "hi") for one in created for _ in range(5)))
        assert not len(host.queues)
        assert not host.turns._tasks
        assert not host.turns._keyed


class TestFailures:
    async def test_a_failure_leaves_the_history_and_frees_the_turn(self, site: Site) -> None:
        """The prompt of a failed turn is not in the history, and the next message works."""
        host, other = site.host(), site.host()
        session = await host.create()
        sends = (host.send(session, text) for text in ("a", "fail", "b"))
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert results[0] == "a! (1)"
        assert isinstance(results[1], Unavailable)
        assert results[2] == "b! (3)"
        assert await other.send(session, "c") == "c! (5)"

    @pytest.mark.parametrize("persist", [0, 1])
    async def test_an_unknown_session_is_not_found(self, site: Site, persist: int) -> None:
        """Whatever its id looks like; and nothing stays behind."""
        host = site.host(wait=0)
        for _ in range(2):
            with pytest.raises(NotFound):
                await host.send(f"{'0' * 8}-0000-4000-8000-{persist:012}", "Hi")
        with pytest.raises(NotFound):
            await host.send("nobody", "Hi")

    async def test_a_caller_that_leaves_loses_nothing(self, site: Site) -> None:
        """The turn goes on and is stored."""
        host = site.host()
        session = await host.create()
        gate = site.echo.hold("slow")
        caller = asyncio.create_task(host.send(session, "slow"))
        await asyncio.sleep(0.1)
        caller.cancel()
        gate.set()
        await host.turns.close()
        assert await host.history(session) == ["slow", "slow! (1)"]

    async def test_a_store_that_comes_back_in_time_loses_nothing(self, site: Site) -> None:
        """The reply is saved as soon as it can be, with the upstream asked once."""
        host = site.host()
        session = await host.create()
        host.store.failures = 3
        assert await host.send(session, "Hi") == "Hi! (1)"
        assert site.echo.asked == ["Hi"]
        assert await host.history(session) == ["Hi", "Hi! (1)"]

    async def test_a_store_that_stays_away_is_told_at_the_deadline(self, site: Site) -> None:
        """Without a key the turn is given up then, and the next one works."""
        host = site.host(timeout=0.5)
        session = await host.create()
        host.store.failures = 1000
        with pytest.raises(Unavailable):
            await host.send(session, "Hi")
        host.store.failures = 0
        assert await host.send(session, "again") == "again! (1)"
        assert await host.history(session) == ["again", "again! (1)"]

    async def test_a_paid_reply_is_kept_for_its_key(self, site: Site) -> None:
        """It is saved after its caller was told 503, and who asks again by the key gets it."""
        host = site.host(timeout=0.3)
        session = await host.create()
        host.store.failures = 5
        with pytest.raises(Unavailable):
            await host.send(session, "Hi", "key")
        assert await host.history(session) == []
        await asyncio.wait(host.turns._tasks, timeout=10)
        assert await site.host().answer(session, "Hi", "key") == Answered("Hi! (1)", is_replayed=True)
        assert site.echo.asked == ["Hi"]

    async def test_a_fault_that_stays_is_told_at_once(self, site: Site) -> None:
        """There is no use in waiting for what cannot be mended by waiting."""
        host = site.host()
        session = await host.create()
        host.store.failures, host.store.retryable = 1, False
        async with asyncio.timeout(1):
            with pytest.raises(Unavailable):
                await host.send(session, "Hi", "key")


class TestKeys:
    @pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
    async def test_the_same_key_is_answered_once(self, site: Site, is_elsewhere: bool) -> None:
        """Before, during and after the first call, at any host."""
        host = site.host()
        other = site.host() if is_elsewhere else host
        session = await host.create()
        gate = site.echo.hold("Hi")
        first = asyncio.create_task(host.answer(session, "Hi", "key"))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(other.answer(session, "Hi", "key"))
        await asyncio.sleep(0.1)
        assert not second.done()
        gate.set()
        assert await first == Answered("Hi! (1)", used=1)
        assert (await second).reply == "Hi! (1)"
        assert await other.answer(session, "Hi", "key") == Answered("Hi! (1)", is_replayed=True)
        assert site.echo.asked == ["Hi"]
        assert await host.history(session) == ["Hi", "Hi! (1)"]

    async def test_a_call_elsewhere_waits_for_its_own_key(self, site: Site) -> None:
        """As long as the first may take, and longer than for anybody else's turn."""
        host, other = site.host(wait=0.2), site.host(wait=0.2)
        session = await host.create()
        gate = site.echo.hold("Hi")
        first = asyncio.create_task(host.send(session, "Hi", "key"))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(other.send(session, "Hi", "key"))
        await asyncio.sleep(0.6)
        gate.set()
        assert await first == await second == "Hi! (1)"

    async def test_another_text_with_the_same_key_is_a_conflict(self, site: Site) -> None:
        """While the first call is under way, and afterwards."""
        host = site.host()
        session = await host.create()
        gate = site.echo.hold("Hi")
        first = asyncio.create_task(host.send(session, "Hi", "key"))
        await asyncio.sleep(0.1)
        with pytest.raises(Conflict):
            await host.send(session, "Ho", "key")
        gate.set()
        await first
        with pytest.raises(Conflict):
            await host.send(session, "Ho", "key")
        assert await host.send(session, "Ho", "other key") == "Ho! (3)"

    async def test_a_key_is_one_of_its_session(self, site: Site) -> None:
        """Another session may use it too."""
        host = site.host()
        replies = [await host.answer(await host.create(), "Hi", "key") for _ in range(2)]
        assert replies == [Answered("Hi! (1)", used=1)] * 2

    async def test_a_failed_call_may_be_made_again(self, site: Site) -> None:
        """Its key has no answer yet."""
        host = site.host()
        session = await host.create()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await host.send(session, "fail", "key")
        assert site.echo.asked == ["fail", "fail"]


class TestListening:
    async def test_parts_come_as_they_are_made(self, site: Site) -> None:
        """To everybody who listens, from the first one, and their sum is the reply."""
        host = site.host()
        session = await host.create()
        gate = site.echo.hold("Hi")
        turn, is_joined = host.turns.start(session, Prompt("Hi", "key"), streams=True)
        assert not is_joined
        await turn.begun(10)
        assert turn.so_far == Answered("Hi", used=1)
        joined, is_joined = host.turns.start(session, Prompt("Hi", "key"), streams=True)
        assert is_joined
        assert joined is turn
        gate.set()
        assert [part async for part in joined.parts()] == ["Hi", "! (1)"]
        assert [part async for part in turn.parts()] == ["Hi", "! (1)"]
        replayed, _ = site.host().turns.start(session, Prompt("Hi", "key"), streams=True)
        assert [part async for part in replayed.parts()] == ["Hi! (1)"]

    async def test_a_slow_listener_misses_nothing(self, site: Site) -> None:
        """Parts that come while it is busy with an earlier one come to it, too."""
        host = site.host()
        turn, _ = host.turns.start(await host.create(), Prompt("Hi"), streams=True)
        heard = []
        async for part in turn.parts():
            heard.append(part)
            await asyncio.sleep(0.1)
        assert heard == ["Hi", "! (1)"]

    async def test_what_fails_before_the_first_part_is_no_stream(self, site: Site) -> None:
        """And what fails later ends it with the error."""
        host = site.host(wait=0.2)
        session = await host.create()
        gate = site.echo.hold("fail")
        turn, _ = host.turns.start(session, Prompt("fail"), streams=True)
        await turn.begun(10)
        late, _ = host.turns.start(session, Prompt("late"), streams=True)
        with pytest.raises(Busy):
            await late.begun(10)
        gate.set()
        with pytest.raises(Unavailable):
            _ = [part async for part in turn.parts()]

    async def test_patience_counts_from_when_it_is_its_turn(self, site: Site) -> None:
        """A stream begins without a word if the upstream is slow, but not while others are before it."""
        host = site.host()
        session = await host.create()
        gate = site.echo.hold("first")
        first = asyncio.create_task(host.send(session, "first"))
        await asyncio.sleep(0.1)
        site.echo.hold("")
        silent, _ = host.turns.start(session, Prompt("second"))
        waiting = asyncio.create_task(silent.begun(0.2))
        await asyncio.sleep(0.4)
        assert not waiting.done()
        gate.set()
        await first
        await waiting
        await silent.answered()


def shorten(monkeypatch: pytest.MonkeyPatch, *, lease: float, renew: float) -> None:
    """Make leases short, so that a test need not wait for a real one."""
    for module in ("stores", "tables"):
        monkeypatch.setattr(f"plugins.openai_chat.{module}.LEASE", lease)
    monkeypatch.setattr("plugins.openai_chat.leases.RENEW", renew)


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"])
async def test_a_row_that_somebody_holds_on_to_costs_no_other_turn(backend: str, tmp_path: Path) -> None:
    """The leases of all others are renewed, whatever keeps that one."""
    async with AsyncExitStack() as stack:
        url = make_url(stack.enter_context(database_url(backend, tmp_path)))
        database, other = SQLDatabase(url), SQLDatabase(url)
        stack.push_async_callback(database.close)
        stack.push_async_callback(other.close)
        store = TableSessions(database)
        tokens = {f"{number:036}": f"{number:016}" for number in range(6)}
        for name, token in tokens.items():
            await store.create(Session(id=name, model="m", is_persisted=True), None)
            assert await store.begin(name, Prompt("Hi"), token, wait=0)
        held, let_go = threading.Event(), threading.Event()

        def hold_on(connection: Connection) -> None:
            first = sessions.c.objectId == next(iter(tokens))
            connection.execute(update(sessions).where(first).values(updated=0))
            held.set()
            let_go.wait(10)

        holding = asyncio.create_task(other.run(hold_on))
        await asyncio.to_thread(held.wait, 5)
        async with asyncio.timeout(2):
            assert await store.renew(tokens) >= {*tokens} - {next(iter(tokens))}
        let_go.set()
        await holding
