"""What a host lends its services, for a command that has to look into it while no host runs here."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from marketplace.interfaces import Host
from service.cache import open_cache
from service.database import SQLDatabase
from service.settings import read_settings

__all__ = ["lend"]


@asynccontextmanager
async def lend() -> AsyncIterator[Host]:
    """Lend the facilities that the environment names until the block ends; they connect on first use.

    A memory cache is an empty one: that of a running host is in its own process.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    settings = read_settings(os.environ)
    cache, database = open_cache(settings), SQLDatabase(settings.database_url)
    try:
        yield Host(cache, database)
    finally:
        await cache.close()
        await database.close()
