"""The database facility: one contract for every backend."""

import asyncio
import multiprocessing
import stat
import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import IntegrityError

from marketplace import Database, Unavailable
from plugins.openai_chat.chat import Session
from plugins.openai_chat.stores import TableSessions
from plugins.openai_chat.tables import sessions
from service.database import SQLDatabase
from tests.facilities import DATABASES, FAKE, database_url, open_database

pytestmark = pytest.mark.anyio

notes = Table("Note", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text))


def sqlite(path: Path) -> SQLDatabase:
    return SQLDatabase(URL.create("sqlite", database=str(path)))


@pytest.fixture(params=[*DATABASES, FAKE])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    with open_database(request.param, tmp_path) as opened:
        yield opened
        await opened.close()


class TestContract:
    async def test_tables_are_created_once(self, database: Database) -> None:
        """Creating them again changes nothing, even at the same time."""
        await asyncio.gather(*(database.create_tables(notes) for _ in range(5)))
        await database.run(lambda connection: connection.execute(insert(notes), {"id": 1, "text": "🎉"}))
        await database.create_tables(notes)
        assert await database.run(lambda connection: connection.scalar(select(notes.c.text))) == "🎉"

    async def test_work_that_raises_stores_nothing(self, database: Database) -> None:
        """All of a transaction is stored or none, and the work's own error comes back."""
        await database.create_tables(notes)

        def work(connection: Connection) -> None:
            connection.execute(insert(notes), {"id": 1, "text": "one"})
            raise ValueError("never mind")

        with pytest.raises(ValueError, match="never mind"):
            await database.run(work)
        assert await database.run(lambda connection: connection.scalar(select(notes.c.id))) is None

    async def test_a_broken_rule_is_the_works_own_fault(self, database: Database) -> None:
        """It is no outage of the database."""
        await database.create_tables(notes)
        await database.run(lambda connection: connection.execute(insert(notes), {"id": 1}))
        with pytest.raises(IntegrityError):
            await database.run(lambda connection: connection.execute(insert(notes), {"id": 1}))

    async def test_work_runs_beside_the_event_loop(self, database: Database) -> None:
        """No request waits for the database of another one."""
        assert await database.run(lambda connection: threading.get_ident()) != threading.get_ident()


class TestManyProcesses:
    @pytest.mark.parametrize("backend", DATABASES)
    def test_sixteen_create_the_first_session_at_the_same_instant(self, backend: str, tmp_path: Path) -> None:
        """Each of them succeeds, and all sessions are there."""
        context = multiprocessing.get_context("spawn")
        with database_url(backend, tmp_path) as url, context.Manager() as manager:
            barrier = manager.Barrier(16)
            with ProcessPoolExecutor(16, mp_context=context) as pool:
                created = list(pool.map(partial(_create_first, url, barrier), range(16)))
            assert asyncio.run(_count_sessions(url)) == 16
        assert len(set(created)) == 16


def _create_first(url: str, barrier: threading.Barrier, number: int) -> str:
    async def create() -> str:
        database = SQLDatabase(make_url(url))
        session = Session(id=str(uuid.uuid4()), model="m", is_persisted=True)
        barrier.wait(60)
        await TableSessions(database).create(session, None)
        await database.close()
        return session.id

    return asyncio.run(create())


async def _count_sessions(url: str) -> int:
    database = SQLDatabase(make_url(url))
    found = await database.read(lambda connection: connection.execute(select(sessions)).all())
    await database.close()
    return len(found)


class TestSQLite:
    async def test_the_file_is_made_on_first_use(self, tmp_path: Path) -> None:
        """A host that stores nothing leaves nothing, and what it stores is its user's alone."""
        path = tmp_path / "folder" / "what? #%20.db"
        database = sqlite(path)
        assert not path.parent.exists()
        tables = await database.run(lambda connection: inspect(connection).get_table_names())
        assert tables == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await database.close()

    async def test_a_file_that_is_no_database_is_an_outage(self, tmp_path: Path) -> None:
        """The error tells so, and not what was to be stored."""
        path = tmp_path / "marketplace.db"
        path.write_text("This is no database." * 100)
        database = sqlite(path)
        with pytest.raises(Unavailable) as failed:
            await database.run(lambda connection: connection.scalar(select(1)))
        assert failed.value.source == "host"
        assert failed.value.retry_after
        await database.close()

    async def test_two_hosts_share_a_file(self, tmp_path: Path) -> None:
        """Each sees what the other stored, and neither is locked out."""
        first, second = (sqlite(tmp_path / "marketplace.db") for _ in range(2))
        await asyncio.gather(first.create_tables(notes), second.create_tables(notes))
        await asyncio.gather(
            *(database.run(partial(_add, number)) for number, database in enumerate([first, second] * 50))
        )
        assert len(await first.run(lambda connection: connection.execute(select(notes)).all())) == 100
        await first.close()
        await second.close()


def _add(number: int, connection: Connection) -> None:
    connection.execute(insert(notes), {"id": number})
