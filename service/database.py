"""The database facility: transactions in worker threads, on SQLite, PostgreSQL and MariaDB or MySQL."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
)
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from marketplace.errors import Unavailable

__all__ = ["DRIVERS", "SQLDatabase"]

Result = TypeVar("Result")

BUSY_TIMEOUT = 5.0
"""Seconds that a process waits while another one writes to an SQLite file."""

CONNECT_TIMEOUT = 3
STATEMENT_TIMEOUT = 10
"""Seconds that a server may take to let us in, and to answer a statement."""

LOCK_TIMEOUT = 3
"""Seconds that a statement waits for a row that somebody else is changing."""

WORK_TIMEOUT = 15.0
"""Seconds that a caller waits for its work, the time until a thread is free for it included."""


class _Driver(msgspec.Struct, frozen=True):
    """How one kind of database is opened: SQLAlchemy's name for it, how many threads, and more."""

    name: str
    threads: int
    options: dict[str, Any]


_POSTGRESQL = {
    "connect_timeout": CONNECT_TIMEOUT,
    "client_encoding": "utf8",
    "options": (
        f"-c statement_timeout={STATEMENT_TIMEOUT}s -c lock_timeout={LOCK_TIMEOUT}s"
        f" -c idle_in_transaction_session_timeout={STATEMENT_TIMEOUT}s"
    ),
    "tcp_user_timeout": STATEMENT_TIMEOUT * 1000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
_MYSQL = {
    # Without summer time the clock never goes back.
    "init_command": f"SET time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_TIMEOUT}",
    "connect_timeout": CONNECT_TIMEOUT,
    "read_timeout": STATEMENT_TIMEOUT,
    "write_timeout": STATEMENT_TIMEOUT,
    "charset": "utf8mb4",
}
_SQLITE = {"timeout": BUSY_TIMEOUT, "check_same_thread": False, "isolation_level": None}

DRIVERS = {
    "sqlite": _Driver("sqlite", 1, _SQLITE),
    "postgresql": _Driver("postgresql+psycopg", 8, _POSTGRESQL),
    "mysql": _Driver("mysql+pymysql", 8, _MYSQL),
    "mariadb": _Driver("mariadb+pymysql", 8, _MYSQL),
}
"""The kinds of database by the scheme of their URL."""


class SQLDatabase:
    """A database that SQLAlchemy reaches synchronously, from as many threads as there are connections.

    Connects on first use, and anew whenever the connection was lost. SQLite has one thread and one
    connection, so that nothing here waits for a lock of ours; other processes may use the file, too.
    The scheme of ``url`` is one of `DRIVERS`.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._driver = DRIVERS[url.drivername]
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(self._driver.threads, thread_name_prefix="database")

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction; see `marketplace.Database.run`."""
        return await self._in_thread(self._transact, work, "BEGIN IMMEDIATE")

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` that only reads; see `marketplace.Database.read`."""
        return await self._in_thread(self._transact, work, "BEGIN")

    async def create_tables(self, *tables: Table) -> None:
        """Create the ``tables`` that do not exist; see `marketplace.Database.create_tables`."""
        await self.run(lambda connection: _create(connection, tables))

    async def tables_exist(self, *tables: Table) -> bool:
        """Return whether all ``tables`` exist; see `marketplace.Database.tables_exist`."""
        return await self._in_thread(self._look_for, tables)

    async def close(self) -> None:
        """Close all connections; nobody waits for work any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._engine:
            self._engine.dispose()

    async def _in_thread(self, call: Callable[..., Result], *arguments: Any) -> Result:
        loop = asyncio.get_running_loop()
        given_up = threading.Event()
        try:
            async with asyncio.timeout(WORK_TIMEOUT):  # what has not begun by then never does
                return await loop.run_in_executor(self._threads, call, given_up, *arguments)
        except TimeoutError as error:
            given_up.set()
            raise _unavailable() from error

    def _look_for(self, given_up: threading.Event, tables: tuple[Table, ...]) -> bool:
        if self._driver.name == "sqlite" and not Path(str(self._url.database)).exists():
            return False  # looking makes no file
        return self._transact(
            given_up, lambda connection: all(_exists(connection, t) for t in tables), "BEGIN"
        )

    def _transact(
        self, given_up: threading.Event, work: Callable[[Connection], Result], begin: str
    ) -> Result:
        def attempted(connection: Connection) -> Result:
            result = work(connection)
            if given_up.is_set():  # the caller has been told that nothing was stored
                raise TimeoutError
            return result

        try:
            engine = self._opened()
            try:
                return _attempt(engine, attempted, begin)
            except _LostBeforeCommit:
                return _attempt(engine, attempted, begin)
        except (DataError, IntegrityError):
            raise  # the work is at fault, not the database
        except (DatabaseError, InterfaceError, OSError, _LostBeforeCommit) as error:
            raise _unavailable() from error

    def _opened(self) -> Engine:
        with self._opening:
            self._engine = self._engine or _engine(self._url, self._driver)
            return self._engine


def _unavailable() -> Unavailable:
    text = "the database cannot be used"
    return Unavailable(text, source="host", reason="database", retry_after=5)


class _LostBeforeCommit(Exception):
    """The connection turned out to be lost while nothing was stored yet: trying again is safe."""


def _attempt(engine: Engine, work: Callable[[Connection], Result], begin: str) -> Result:
    with engine.connect().execution_options(begin=begin) as connection, connection.begin() as transaction:
        try:
            result = work(connection)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _LostBeforeCommit(str(error.orig)) from error
            raise
        transaction.commit()
        return result


def _engine(url: URL, driver: _Driver) -> Engine:
    options: dict[str, Any] = {"connect_args": driver.options, "hide_parameters": True}
    if driver.name == "sqlite":
        return _sqlite_engine(url, options)
    return create_engine(
        url.set(drivername=driver.name),
        poolclass=QueuePool,
        pool_size=driver.threads,
        max_overflow=0,
        pool_reset_on_return=None,
        isolation_level="READ COMMITTED",  # MariaDB would lock rows that a statement only looks at
        **options,
    )


def _sqlite_engine(url: URL, options: dict[str, Any]) -> Engine:
    path = Path(str(url.database))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(url, poolclass=StaticPool, **options)
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
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin(connection: Connection) -> None:
    # A writer takes the lock at once: one that read first could not get it while another has it.
    connection.exec_driver_sql(connection.get_execution_options()["begin"])


def _create(connection: Connection, tables: tuple[Table, ...]) -> None:
    if connection.dialect.name == "postgresql":
        # IF NOT EXISTS does not help there: two that create at once collide in the catalogue.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('marketplace.create_tables'))"))
        if (encoding := connection.scalar(text("SHOW server_encoding"))) != "UTF8":
            raise Unavailable(
                f"the database has the encoding {encoding}: use one with UTF8",
                source="host",
                reason="encoding",
                retryable=False,
            )
    for table in tables:
        if not _exists(connection, table):
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _exists(connection: Connection, table: Table) -> bool:
    """Return whether ``table`` exists.

    Raises:
        Unavailable: if somebody else has made one of that name that is not like it.
    """
    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return False
    found = {column["name"] for column in inspector.get_columns(table.name)}
    if missing := [column.name for column in table.columns if column.name not in found]:
        raise Unavailable(
            f"the database has another table named {table.name}, without {', '.join(missing)}:"
            " rename it, or use another database",
            source="host",
            reason="foreign_table",
            retryable=False,
        )
    return True
