"""Sessions, and the stores that keep them."""

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

from marketplace import Conflict, NotFound, Unavailable
from plugins.openai_chat.chat import Chat, Message, Prompt, Session, SessionStore, Turn
from plugins.openai_chat.stores import CachedSessions, CacheKeys, TableSessions
from plugins.openai_chat.tables import messages, sessions
from tests.facilities import DATABASES, open_cache, open_database

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef"


@pytest.fixture(params=[("memory", "sqlite"), ("redis", "postgresql"), ("cluster", "mariadb")], ids="-".join)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[bool, SessionStore]]:
    cache_backend, database_backend = request.param
    cache = open_cache(cache_backend)
    with open_database(database_backend, tmp_path) as database:
        yield {False: CachedSessions(cache, ttl=0.5, turn=10), True: TableSessions(database)}
        await database.close()
    await cache.close()


@pytest.fixture
def chat(stores: dict[bool, SessionStore]) -> Chat:
    keys = CacheKeys(open_cache("memory"))
    return Chat("gpt-3.5-turbo", cached=stores[False], persisted=stores[True], keys=keys)


def turn(text: str, reply: str = "", key: str | None = None) -> Turn:
    return Turn(prompt=Prompt(text, key), reply=reply)


async def store_turn(store: SessionStore, session_id: str, made: Turn) -> None:
    read = await store.begin(session_id, made.prompt, TOKEN, wait=5)
    assert read
    assert await store.append(read, made, TOKEN)


class TestLife:
    async def test_a_session_does_not_expire_during_its_own_turn(
        self, chat: Chat, stores: dict[bool, SessionStore]
    ) -> None:
        """However slow the upstream is."""
        session, _ = await chat.create_session(None, persist=False)
        read = await stores[False].begin(session.id, Prompt("slow"), TOKEN, wait=0)
        assert read
        await asyncio.sleep(0.3)
        assert (await chat.get_session(session.id)).messages == ()  # reading shortens nothing
        await asyncio.sleep(0.8)
        assert await stores[False].append(read, turn("slow"), TOKEN)
        assert len((await chat.get_session(session.id)).messages) == 2

    async def test_a_cached_session_expires_and_a_persisted_one_does_not(self, chat: Chat) -> None:
        """Its time counts from its last use."""
        cached, _ = await chat.create_session(None, persist=False)
        persisted, _ = await chat.create_session(None, persist=True)
        await asyncio.sleep(0.6)
        with pytest.raises(NotFound):
            await chat.get_session(cached.id)
        assert (await chat.get_session(persisted.id)).is_persisted

    async def test_ids_are_unguessable_and_tell_the_store(self, chat: Chat) -> None:
        """No two are alike, and none is looked for where it cannot be."""
        ids = set()
        for number in range(50):
            created, _ = await chat.create_session(None, persist=bool(number % 2))
            assert (await chat.get_session(created.id)).is_persisted == created.is_persisted
            ids.add(created.id)
        assert len(ids) == 50


class TestKeys:
    @pytest.mark.parametrize("persist", [False, True], ids=["cache", "database"])
    async def test_a_session_is_created_once_for_a_key(self, chat: Chat, persist: bool) -> None:
        """Whoever asks again, also at the same time, gets the same one and is told so."""
        made = await asyncio.gather(*(chat.create_session(None, persist=persist, key="k") for _ in range(8)))
        assert len({session.id for session, _ in made}) == 1
        assert [is_replayed for _, is_replayed in made].count(False) == 1
        other, is_replayed = await chat.create_session(None, persist=persist, key="other")
        assert (other.id != made[0][0].id, is_replayed) == (True, False)

    @pytest.mark.parametrize("persist", [False, True], ids=["cache", "database"])
    async def test_a_key_belongs_to_its_arguments(self, chat: Chat, persist: bool) -> None:
        """With another model, or another store, it is a conflict."""
        await chat.create_session("gpt-4o", persist=persist, key="k")
        with pytest.raises(Conflict, match="aiModel"):
            await chat.create_session("gpt-4", persist=persist, key="k")
        with pytest.raises(Conflict, match="persistInDB"):
            await chat.create_session("gpt-4o", persist=not persist, key="k")

    async def test_of_two_stores_only_one_has_a_key(self, chat: Chat) -> None:
        """Also if both are asked at the same time."""
        for number in range(10):
            asked = (chat.create_session(None, persist=persist, key=str(number)) for persist in (True, False))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert sorted(isinstance(answer, Conflict) for answer in answers) == [False, True]

    async def test_the_installed_model_may_change(self, chat: Chat, stores: dict[bool, SessionStore]) -> None:
        """A call that names none is the same call after that."""
        session, _ = await chat.create_session(None, persist=True, key="k")
        later = Chat(
            "new", cached=stores[False], persisted=stores[True], keys=CacheKeys(open_cache("memory"))
        )
        assert (await later.create_session(None, persist=True, key="k"))[0].id == session.id

    async def test_a_key_lives_as_long_as_its_session(self, chat: Chat) -> None:
        """Which lives from its last use; then it can be used anew."""
        session, _ = await chat.create_session(None, persist=False, key="k")
        for _ in range(4):
            await asyncio.sleep(0.2)
            await chat.get_session(session.id)
        again, is_replayed = await chat.create_session(None, persist=False, key="k")
        assert (again.id, is_replayed) == (session.id, True)
        await asyncio.sleep(0.7)
        new, is_replayed = await chat.create_session(None, persist=False, key="k")
        assert (new.id != session.id, is_replayed) == (True, False)


class TestStores:
    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_a_session_comes_back_as_it_was_stored(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """Model and texts in any script, of any length, in order."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="a/model:x", is_persisted=persisted)
        await store.create(session, None)
        for text in ("𝔊🎉\u202e\u0301\U0010ffff", "long " * 1000, " \n "):
            await store_turn(store, session.id, turn(text))
            session = Session(
                id=session.id,
                model=session.model,
                is_persisted=persisted,
                messages=(*session.messages, Message("user", text), Message("assistant", "")),
            )
            assert await store.read(session.id) == session

    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_only_who_has_the_turn_can_append(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """The one that has the turn."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="m", is_persisted=persisted)
        await store.create(session, None)
        read = await store.begin(session.id, Prompt("0"), TOKEN, wait=0)
        assert read
        tokens = [TOKEN, *(str(n) * 16 for n in range(9))]
        done = await asyncio.gather(*(store.append(read, turn(token), token) for token in tokens))
        assert done == [True, *[False] * 9]
        read = await store.read(session.id)
        assert read is not None
        assert len(read.messages) == 2

    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_the_same_append_again_is_known(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """When its answer was lost it is made once more, and nothing is stored twice."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="m", is_persisted=persisted)
        await store.create(session, None)
        made = turn("once", "reply")
        read = await store.begin(session.id, made.prompt, TOKEN, wait=0)
        assert read
        assert await store.append(read, made, TOKEN)
        assert await store.append(read, made, TOKEN)
        assert len((await store.read(session.id) or session).messages) == 2

    @pytest.mark.parametrize("persisted", [False, True], ids=["cache", "database"])
    async def test_a_turn_is_found_by_its_key(
        self, stores: dict[bool, SessionStore], persisted: bool
    ) -> None:
        """By the key as it is, not by one like it."""
        store = stores[persisted]
        session = Session(id="0" * 36, model="m", is_persisted=persisted)
        await store.create(session, None)
        for made in (turn('"key": "b"', "0"), turn("first", "1", "Key"), turn("second", "2", "key")):
            await store_turn(store, session.id, made)
        for key, reply in {"key": "2", "Key": "1"}.items():
            read = await store.begin(session.id, Prompt("?", key), TOKEN, wait=0)
            assert read
            assert read.earlier
            assert (read.earlier.prompt.key, read.earlier.reply) == (key, reply)
            await store.release(session.id, TOKEN)
        for unknown in ("KEY", "ke", "b", None):
            read = await store.begin(session.id, Prompt("?", unknown), TOKEN, wait=0)
            assert read
            assert read.earlier is None
            await store.release(session.id, TOKEN)

    @pytest.mark.parametrize("backend", DATABASES)
    async def test_tables_come_with_the_first_persisted_session(self, backend: str, tmp_path: Path) -> None:
        """Looking for one that cannot exist creates nothing."""
        with open_database(backend, tmp_path) as database:
            store = TableSessions(database)
            assert await store.read("0" * 36) is None
            assert await database.run(_table_names) == set()
            await store.create(Session(id="0" * 36, model="m", is_persisted=True), None)
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
                await store.create(session, None)
                history = tuple(m for n in range(length // 2) for m in turn(str(n), "x" * 100).messages)
                if history:
                    await database.run(partial(_insert_messages, session.id, history))
                read = await store.begin(session.id, Prompt("Hi"), TOKEN, wait=0)
                assert read is not None
                assert len(read.messages) == length
                with _statements() as sent:
                    assert await store.append(read, turn("Hi", "Hi?"), TOKEN)
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
            await store.create(session, None)
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
            await store.create(Session(id="0" * 36, model="m", is_persisted=True), None)
            await database.run(_drop_tables)
            with pytest.raises((Unavailable, ProgrammingError)):
                await store.read("0" * 36)
            assert await store.read("0" * 36) is None
            await store.create(Session(id="1" * 36, model="m", is_persisted=True), None)
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
                await store.create(Session(id="0" * 36, model="m", is_persisted=True), None)
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
