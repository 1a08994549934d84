"""The entries, in a table of their own."""

import time
import uuid

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from marketplace import Database, NotFound

__all__ = ["Entries", "Entry", "entries"]

entries = Table(
    "GuestbookEntry",
    MetaData(),
    Column("id", String(36), primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("name", String(100), nullable=False),
    Column("text", Text, nullable=False),
    Column("isPublished", Boolean, nullable=False),
)
"""One row an entry; times are nanoseconds since 1970."""


class Entry(msgspec.Struct, frozen=True):
    """What somebody wrote."""

    id: str
    name: str
    text: str


class Entries:
    """All entries of the guestbook."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, name: str, text: str, *, is_published: bool) -> str:
        """Store an entry and return its id."""
        row = {"id": str(uuid.uuid4()), "created": time.time_ns(), "name": name, "text": text}
        await self._database.create_tables(entries)
        await self._database.run(
            lambda connection: connection.execute(insert(entries), {**row, "isPublished": is_published})
        )
        return str(row["id"])

    async def page(self, number: int, size: int, *, newest_first: bool) -> list[Entry]:
        """Return a page of the published entries."""
        order = entries.c.created.desc() if newest_first else entries.c.created
        query = select(entries.c.id, entries.c.name, entries.c.text).where(entries.c.isPublished)
        query = query.order_by(order).offset(number * size).limit(size)
        if not await self._database.tables_exist(entries):
            return []
        return await self._database.read(
            lambda connection: [Entry(*row) for row in connection.execute(query)]
        )

    async def publish(self, entry_id: str) -> None:
        """Publish an entry.

        Raises:
            NotFound: if there is none of that id.
        """

        def work(connection: Connection) -> int:
            change = update(entries).where(entries.c.id == entry_id).values(isPublished=True)
            return connection.execute(change).rowcount

        if not await self._database.tables_exist(entries) or not await self._database.run(work):
            raise NotFound(id=entry_id)

    async def count(self) -> int:
        """Return how many entries there are."""
        if not await self._database.tables_exist(entries):
            return 0
        query = select(func.count()).select_from(entries)
        return await self._database.read(lambda connection: connection.scalar(query) or 0)

    async def drop(self) -> None:
        """Delete the table."""
        await self._database.run(lambda connection: entries.drop(connection, checkfirst=True))
