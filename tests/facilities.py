"""Every backend of the two facilities, each opened anew for a test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from marketplace import Cache, Database
from service.cache import MemoryCache
from service.database import SQLiteDatabase

__all__ = ["CACHES", "DATABASES"]


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[Cache]:
    cache = MemoryCache(limit=1_000_000)
    yield cache
    await cache.close()


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[Database]:
    database = SQLiteDatabase(folder / "marketplace.db")
    yield database
    await database.close()


CACHES: dict[str, Callable[[Path], AbstractAsyncContextManager[Cache]]] = {"memory": _memory}
DATABASES: dict[str, Callable[[Path], AbstractAsyncContextManager[Database]]] = {"sqlite": _sqlite}
