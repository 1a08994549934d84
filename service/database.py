"""The database facility: transactions in a worker thread, opened on first use."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from marketplace.errors import Unavailable

__all__ = ["SQLiteDatabase"]

Result = TypeVar("Result")

BUSY_TIMEOUT = 15.0
"""Seconds that a process waits while another one writes."""


class SQLiteDatabase:
    """An SQLite file. All work runs in one thread with one connection, so nothing waits for a lock of ours.

    Several processes may use the file; a writer waits for another up to fifteen seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction; see `marketplace.Database.run`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    async def create_tables(self, *tables: Table) -> None:
        """Create the ``tables`` that do not exist; see `marketplace.Database.create_tables`."""

        def create(connection: Connection) -> None:
            for table in tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))

        await self.run(create)

    async def close(self) -> None:
        """Close the connection after the work that is under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._dispose)
        self._thread.shutdown()

    def _transact(self, work: Callable[[Connection], Result]) -> Result:
        try:
            self._engine = self._engine or _open(self._path)
            with self._engine.begin() as connection:
                return work(connection)
        except (DataError, IntegrityError, ProgrammingError):
            raise  # the work is at fault, not the database
        except (DatabaseError, InterfaceError, OSError) as error:
            raise Unavailable(
                "the database cannot be used", source="host", reason="database", retry_after=5
            ) from error

    def _dispose(self) -> None:
        if self._engine:
            self._engine.dispose()


def _open(path: Path) -> Engine:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,  # they are what people wrote
        poolclass=StaticPool,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "isolation_level": None},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, _: Any) -> None:
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, which SQLite refuses at once, without waiting, while another process does."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
