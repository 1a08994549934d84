"""The two facilities as plain as can be, for tests; they keep the same contract as the real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from marketplace.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

__all__ = ["FakeCache", "FakeDatabase"]

Result = TypeVar("Result")


class FakeCache:
    """A `Cache` in a dictionary; it is never full."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._waiting: dict[str, list[str]] = {}

    async def create(self, key: str, entries: Sequence[bytes], *, ttl: float) -> None:
        """Keep ``entries`` under ``key``; see `marketplace.Cache.create`."""
        self._kept[key] = _Kept(entries, _now() + ttl)

    async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
        """Return the entries under ``key``; see `marketplace.Cache.read`."""
        if kept := self._living(key):
            kept.until = max(kept.until, _now() + ttl)
            return list(kept.entries)
        return None

    async def append(
        self, key: str, entries: Sequence[bytes], *, length: int, ttl: float, token: str | None = None
    ) -> bool:
        """Append ``entries`` if there are ``length``; see `marketplace.Cache.append`."""
        kept = self._living(key)
        if kept is None:
            return False
        if token and kept.token == token and len(kept.entries) == length + len(entries):
            return True  # it is made again
        if len(kept.entries) != length or (token and self._holder(key) != token):
            return False
        kept.entries += entries
        kept.until, kept.token = _now() + ttl, token
        return True

    async def delete(self, key: str) -> None:
        """Forget the entries under ``key``; see `marketplace.Cache.delete`."""
        self._kept.pop(key, None)

    async def lease(self, key: str, token: str, *, ttl: float, wait: float) -> bool:
        """Take the lease of ``key`` when it is one's turn; see `marketplace.Cache.lease`."""
        line = self._waiting.setdefault(key, [])
        line.append(token)
        deadline = _now() + wait
        try:
            while line[0] != token or not self._is_free(key, token):
                if _now() >= deadline:
                    return False
                await asyncio.sleep(0.005)
            self._leases[key] = (token, _now() + ttl)
            return True
        finally:
            line.remove(token)

    async def renew(self, leases: Mapping[str, str], *, ttl: float) -> set[str]:
        """Keep ``leases``; see `marketplace.Cache.renew`."""
        held = {key for key, token in leases.items() if self._holder(key) == token}
        self._leases |= {key: (leases[key], _now() + ttl) for key in held}
        return held

    async def release(self, key: str, token: str) -> None:
        """Give back the lease of ``key``; see `marketplace.Cache.release`."""
        if self._holder(key) == token:
            del self._leases[key]

    async def close(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._leases.clear()

    def _living(self, key: str) -> _Kept | None:
        kept = self._kept.get(key)
        return kept if kept and kept.until > _now() else None

    def _holder(self, key: str) -> str | None:
        return self._leases.get(key, (None, 0))[0]

    def _is_free(self, key: str, token: str) -> bool:
        return self._holder(key) in (None, token) or self._leases[key][1] <= _now()


class _Kept:
    def __init__(self, entries: Sequence[bytes], until: float) -> None:
        self.entries = list(entries)
        self.until = until
        self.token: str | None = None


def _now() -> float:
    return time.monotonic()


class FakeDatabase:
    """A `Database` in memory: SQLite, in a thread of its own, and gone when it is closed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fake-database")
        self._engine: Engine | None = None

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction; see `marketplace.Database.run`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` that only reads; see `marketplace.Database.read`."""
        return await self.run(work)

    async def create_tables(self, *tables: Table) -> None:
        """Create the ``tables`` that do not exist; see `marketplace.Database.create_tables`."""

        def create(connection: Connection) -> None:
            for table in tables:
                if not _exists(connection, table):
                    table.create(connection)

        await self.run(create)

    async def tables_exist(self, *tables: Table) -> bool:
        """Return whether all ``tables`` exist; see `marketplace.Database.tables_exist`."""
        return await self.run(lambda connection: all(_exists(connection, table) for table in tables))

    async def close(self) -> None:
        """Forget everything."""
        if self._engine:
            self._engine.dispose()
        self._thread.shutdown(wait=False)

    def _transact(self, work: Callable[[Connection], Result]) -> Result:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool

        if self._engine is None:
            options = {"check_same_thread": False}
            self._engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=options)
        with self._engine.begin() as connection:
            return work(connection)


def _exists(connection: Connection, table: Table) -> bool:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return False
    found = {column["name"] for column in inspector.get_columns(table.name)}
    if missing := [column.name for column in table.columns if column.name not in found]:
        text = f"the database has another table named {table.name}, without {', '.join(missing)}"
        raise Unavailable(text, source="host", reason="foreign_table", retryable=False)
    return True
