"""The use cases, with real stores and an upstream that does as the test says."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    event,
    insert,
    inspect,
    update,
)
from sqlalchemy.exc import ProgrammingError

from marketplace import Busy, NotFound, Unavailable
from plugins.openai_chat.chat import Chat, Message, Session, SessionStore, Turn
from plugins.openai_chat.stores import CachedSessions, TableSessions, messages, sessions
from tests.facilities import DATABASES, open_cache, open_database

pytestmark = pytest.mark.anyio


class Echo:
    """Replies with the prompt when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held: dict[str, asyncio.Event] = {}

    def hold(self, prompt: str) -> asyncio.Event:
        """Reply to ``prompt`` only when the event is set."""
        return self.held.setdefault(prompt, asyncio.Event())

    async def complete(self, model: str, messages: Sequence[Message]) -> str:
        prompt = messages[-1].content
        self.asked.append(prompt)
        if prompt in self.held:
            await self.held[prompt].wait()
        if prompt.startswith("fail"):
            raise Unavailable("as told", source="openai")
        return f"{prompt}! ({len(messages)})"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture(params=[("memory", "sqlite"), ("redis", "postgresql"), ("cluster", "mariadb")], ids="-".join)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[bool, SessionStore]]:
    cache_backend, database_backend = request.param
    cache = open_cache(cache_backend)
    with open_database(database_backend, tmp_path) as database:
        yield {False: CachedSessions(cache, ttl=0.5, turn=10), True: TableSessions(database)}
        await database.close()
    await cache.close()


@pytest.fixture
def chat(echo: Echo, stores: dict[bool, SessionStore]) -> Chat:
    return Chat("gpt-3.5-turbo", echo, cached=stores[False], persisted=stores[True])


@pytest.fixture(params=[False, True], ids=["cache", "database"])
async def session(request: pytest.FixtureRequest, chat: Chat) -> str:
    return (await chat.create_session(None, persist=request.param)).id


class TestTurns:
    async def test_messages_of_one_session_queue_in_order(self, chat: Chat, echo: Echo, session: str) -> None:
        """Each is asked with the replies to all earlier ones, and the history is theirs in order."""
        gate = echo.hold("0")
        sends = [asyncio.create_task(chat.send_message(session, str(n))) for n in range(10)]
        await asyncio.sleep(0.1)
        assert echo.asked == ["0"]
        gate.set()
        assert await asyncio.gather(*sends) == [f"{n}! ({2 * n + 1})" for n in range(10)]
        history = (await chat.get_session(session)).messages
        assert [m.content for m in history if m.role == "user"] == [str(n) for n in range(10)]
        assert [m.role for m in history] == ["user", "assistant"] * 10

    async def test_other_sessions_do_not_wait(self, chat: Chat, echo: Echo, session: str) -> None:
        """A slow reply holds up nobody but its own session."""
        gate = echo.hold("slow")
        slow = asyncio.create_task(chat.send_message(session, "slow"))
        await asyncio.sleep(0.05)
        other = await chat.create_session(None, persist=False)
        assert await chat.send_message(other.id, "quick") == "quick! (1)"
        assert not slow.done()
        gate.set()
        assert await slow == "slow! (1)"

    async def test_a_failure_leaves_the_history_and_frees_the_turn(
        self, chat: Chat, echo: Echo, session: str
    ) -> None:
        """The prompt of a failed turn is not in the history, and the next message works."""
        results = await asyncio.gather(
            *(chat.send_message(session, text) for text in ("a", "fail", "b")), return_exceptions=True
        )
        assert results[0] == "a! (1)"
        assert isinstance(results[1], Unavailable)
        assert results[2] == "b! (3)"

    async def test_a_turn_that_does_not_come_is_busy(
        self, echo: Echo, stores: dict[bool, SessionStore]
    ) -> None:
        """Who waited too long is told to try again, before any call to the upstream."""
        chat = Chat("m", echo, cached=stores[False], persisted=stores[True], turn_wait=0.05)
        session = (await chat.create_session(None, persist=False)).id
        gate = echo.hold("slow")
        slow = asyncio.create_task(chat.send_message(session, "slow"))
        await asyncio.sleep(0.02)
        with pytest.raises(Busy) as busy:
            await chat.send_message(session, "late")
        assert busy.value.reason == "session_busy"
        assert busy.value.retry_after
        gate.set()
        await slow
        assert echo.asked == ["slow"]

    async def test_a_changed_history_is_not_written_over(
        self, chat: Chat, echo: Echo, stores: dict[bool, SessionStore], session: str
    ) -> None:
        """If another process stored a turn meanwhile, ours is refused rather than mixed in."""
        gate = echo.hold("mine")
        mine = asyncio.create_task(chat.send_message(session, "mine"))
        await asyncio.sleep(0.05)
        before = await chat.get_session(session)
        assert await stores[before.is_persisted].append(before, Turn("theirs", "reply"))
        gate.set()
        with pytest.raises(Busy):
            await mine
        assert [m.content for m in (await chat.get_session(session)).messages] == ["theirs", "reply"]

    async def test_a_thousand_sessions_leave_no_trace(self, chat: Chat, echo: Echo) -> None:
        """What is remembered of a turn is forgotten with its last message."""
        created = [await chat.create_session(None, persist=False) for _ in range(100)]
        await asyncio.gather(*(chat.send_message(one.id, "hi") for one in created for _ in range(3)))
        assert not chat._turns._locks


class TestLife:
    async def test_a_session_does_not_expire_during_its_own_turn(self, chat: Chat, echo: Echo) -> None:
        """However slow the upstream is."""
        session = await chat.create_session(None, persist=False)
        gate = echo.hold("slow")
        slow = asyncio.create_task(chat.send_message(session.id, "slow"))
        await asyncio.sleep(0.3)
        assert (await chat.get_session(session.id)).messages == ()  # reading shortens nothing
        await asyncio.sleep(0.8)
        gate.set()
        await slow
        assert len((await chat.get_session(session.id)).messages) == 2

    async def test_a_cached_session_expires_and_a_persisted_one_does_not(self, chat: Chat) -> None:
        """Its time counts from its last use."""
        cached = await chat.create_session(None, persist=False)
        persisted = await chat.create_session(None, persist=True)
        await asyncio.sleep(0.6)
        with pytest.raises(NotFound):
            await chat.get_session(cached.id)
        assert (await chat.get_session(persisted.id)).is_persisted

    async def test_ids_are_unguessable_and_tell_the_store(self, chat: Chat) -> None:
        """No two are alike, and none is looked for where it cannot be."""
        created = [await chat.create_session(None, persist=bool(n % 2)) for n in range(50)]
        assert len({one.id for one in created}) == 50
        for one in created:
            assert (await chat.get_session(one.id)).is_persisted == one.is_persisted


class TestStores:
    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_a_session_comes_back_as_it_was_stored(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """Model and texts in any script, of any length, in order."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="a/model:x", is_persisted=persisted)
        await store.create(session)
        for text in ("𝔊🎉\u202e\u0301\U0010ffff", "long " * 1000, " \n "):
            read = await store.begin(session.id, text)
            assert read is not None
            assert await store.append(read, Turn(text, ""))
            session = Session(
                id=session.id,
                model=session.model,
                is_persisted=persisted,
                messages=(*session.messages, Message("user", text), Message("assistant", "")),
            )
            assert await store.read(session.id) == session

    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_only_one_of_two_appends_succeeds(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """The one whose history is out of date stores nothing."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="m", is_persisted=persisted)
        await store.create(session)
        done = await asyncio.gather(*(store.append(session, Turn(str(n), "")) for n in range(10)))
        assert done.count(True) == 1
        read = await store.read(session.id)
        assert read is not None
        assert len(read.messages) == 2

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_tables_come_with_the_first_persisted_session(self, backend: str, tmp_path: Path) -> None:
        """Looking for one that cannot exist creates nothing."""
        with open_database(backend, tmp_path) as database:
            store = TableSessions(database)
            assert await store.read("0" * 36) is None
            assert await database.run(_table_names) == set()
            await store.create(Session(id="0" * 36, model="m", is_persisted=True))
            assert await database.run(_table_names) == {"OpenAIMessage", "OpenAISession"}
            await database.close()

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_an_append_costs_the_same_at_any_length(self, backend: str, tmp_path: Path) -> None:
        """As many statements with as many values; nothing of the history is sent again."""
        with open_database(backend, tmp_path) as database:
            store = TableSessions(database)
            costs = []
            for length in (0, 1000):
                session = Session(id=str(length).zfill(36), model="m", is_persisted=True)
                await store.create(session)
                history = tuple(m for n in range(length // 2) for m in Turn(str(n), "x" * 100).messages)
                if history:
                    await database.run(partial(_insert_messages, session.id, history))
                read = await store.read(session.id)
                assert read is not None
                assert len(read.messages) == length
                with _statements() as sent:
                    assert await store.append(read, Turn("Hi", "Hi?"))
                costs.append(sent)
            assert len(costs[0]) >= 2
            assert costs[0] == costs[1]
            await database.close()

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_tables_are_not_looked_up_for_every_message(self, backend: str, tmp_path: Path) -> None:
        """Also not while others are at work: reads at the same time ask no more than one alone."""
        with open_database(backend, tmp_path) as database:
            store = TableSessions(database)
            session = Session(id="0" * 36, model="m", is_persisted=True)
            await store.create(session)
            await asyncio.gather(*(store.read(session.id) for _ in range(10)))  # opens all connections
            with _statements() as alone:
                await store.read(session.id)
            with _statements() as together:
                await asyncio.gather(*(store.read(session.id) for _ in range(10)))
            assert len(together) == 10 * len(alone)
            await database.close()

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_tables_that_somebody_drops_come_back(self, backend: str, tmp_path: Path) -> None:
        """The sessions in them are gone; the next ones are kept."""
        with open_database(backend, tmp_path) as database:
            store = TableSessions(database)
            await store.create(Session(id="0" * 36, model="m", is_persisted=True))
            await database.run(_drop_tables)
            with pytest.raises((Unavailable, ProgrammingError)):
                await store.read("0" * 36)
            assert await store.read("0" * 36) is None
            await store.create(Session(id="1" * 36, model="m", is_persisted=True))
            assert await store.read("1" * 36)
            await database.close()

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_a_foreign_table_is_reported_and_left_alone(self, backend: str, tmp_path: Path) -> None:
        """What is missing from it is told."""
        with open_database(backend, tmp_path) as database:
            foreign = Table("OpenAISession", MetaData(), Column("objectId", Integer))
            await database.run(lambda connection: foreign.create(connection))
            store = TableSessions(database)
            with pytest.raises(
                Unavailable, match="another table named OpenAISession, without created"
            ) as told:
                await store.create(Session(id="0" * 36, model="m", is_persisted=True))
            assert not told.value.retryable
            assert await database.run(_table_names) == {"OpenAISession"}
            await database.close()


@contextmanager
def _statements() -> Iterator[list[tuple[str, int]]]:
    """Yield the statements that any database is sent meanwhile, each with how many rows of values it has."""
    sent: list[tuple[str, int]] = []

    def note(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        sent.append((statement, len(values) if many else 1))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _insert_messages(session_id: str, history: Sequence[Message], connection: Connection) -> None:
    rows = [
        {
            "objectId": str(uuid.uuid4()),
            "created": 0,
            "updated": 0,
            "sessionId": session_id,
            "position": position,
            "role": message.role,
            "content": message.content,
        }
        for position, message in enumerate(history)
    ]
    connection.execute(insert(messages), rows)
    count = update(sessions).where(sessions.c.objectId == session_id).values(messageCount=len(rows))
    connection.execute(count)


def _drop_tables(connection: Connection) -> None:
    messages.drop(connection)
    sessions.drop(connection)


def _table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())
