"""What outlives the install: how much of it there is in the tables, and its end."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.schema import DropTable

from marketplace import Database
from plugins.openai_chat.tables import messages, sessions

__all__ = ["describe_stored", "drop_stored"]

_KINDS = ((sessions, "session", "sessions"), (messages, "message", "messages"))


async def describe_stored(database: Database) -> Sequence[str]:
    """Say how many sessions and messages there are, and in which tables; nothing if there are none.

    Raises:
        Unavailable: if the database cannot tell, or has tables of these names that are not ours.
    """
    there = [kind for kind in _KINDS if await database.tables_exist(kind[0])]

    def count(connection: Connection) -> Sequence[str]:
        place = _place(connection)
        found = ((connection.scalar(select(func.count()).select_from(t)), t, o, m) for t, o, m in there)
        return [
            f"{n} {one if n == 1 else many} in the table {t.name} of {place}" for n, t, one, many in found
        ]

    return await database.read(count) if there else ()


async def drop_stored(database: Database) -> None:
    """Drop the two tables with all that is in them; they come into being again when they are wanted.

    Raises:
        Unavailable: if the database cannot do it now, or has tables of these names that are not ours.
    """
    there: list[Table] = [kind[0] for kind in _KINDS if await database.tables_exist(kind[0])]

    def drop(connection: Connection) -> None:
        for table in reversed(there):  # messages refer to sessions
            connection.execute(DropTable(table, if_exists=True))

    if there:
        await database.run(drop)


def _place(connection: Connection) -> str:
    url = connection.engine.url
    if connection.dialect.name == "sqlite":
        return str(url.database)
    return f"{url.database} at {url.host or 'its host'}"
