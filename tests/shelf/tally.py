"""A stranger's product that uses all it is lent, and can tell how its process is doing."""

import asyncio
import os
import threading
import uuid
from typing import Any
from weakref import WeakSet

import msgspec
from litestar import Router, get, post
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select

from marketplace import Host, Service, hookimpl

__all__ = ["Tally", "TallyConfiguration", "register_services"]

TABLE = Table("Tally", MetaData(), Column("id", Integer, primary_key=True), Column("word", String(100)))


_living: WeakSet["Tally"] = WeakSet()


class TallyConfiguration(msgspec.Struct):
    """What it was installed with."""

    word: str = "none"


class Tally(Service[TallyConfiguration]):
    """Counts."""

    name = "Tally"
    Configuration = TallyConfiguration

    def __init__(self, configuration: TallyConfiguration, host: Host) -> None:
        super().__init__(configuration, host)
        # Four megabytes, so that one that is kept for nothing is seen. They are many, because of one large
        # piece the allocator keeps the room for a while after it is freed.
        self._ballast = [bytes(500) for _ in range(8000)]
        _living.add(self)
        self._calls = 0

    @classmethod
    async def check(cls, configuration: TallyConfiguration) -> None:
        """There is nothing to try."""

    async def start(self) -> None:
        """Begin to do something that goes on until the end."""
        self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        """End that."""
        self._working.cancel()

    async def _work(self) -> None:
        await asyncio.Event().wait()

    async def count(self) -> int:
        """Use the cache and the database."""
        key = str(uuid.uuid4())
        await self.host.cache.create(key, [b"1"], ttl=5)
        await self.host.database.create_tables(TABLE)
        await self.host.database.run(lambda c: c.execute(insert(TABLE).values(word=self.configuration.word)))
        found = await self.host.database.read(lambda c: c.scalar(select(func.count()).select_from(TABLE)))
        return int(found or 0) + len(await self.host.cache.read(key, ttl=5) or ())

    async def linger(self) -> str:
        """Take two seconds, and say what was installed when the call came."""
        await asyncio.sleep(2)
        return self.configuration.word

    async def about(self) -> dict[str, Any]:
        """Tell how this instance and its process are doing."""
        self._calls += 1
        return {
            "pid": os.getpid(),
            "instance": id(self),
            "instances": len(_living),
            "calls": self._calls,
            "word": self.configuration.word,
            "tasks": len(asyncio.all_tasks()),
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }

    def router(self) -> Router:
        """Return its methods, which are those of the instance."""
        routes = [
            post("/count", status_code=200)(self.count),
            get("/linger")(self.linger),
            get("/about")(self.about),
        ]
        return Router("/", route_handlers=routes)


@hookimpl
def register_services() -> list[type[Service[Any]]]:
    """Offer it."""
    return [Tally]
