"""The cache facility and its backends."""

from typing import Protocol

from marketplace.interfaces import Cache
from service.cache.memory import MemoryCache
from service.cache.redis import RedisCache
from service.settings import MEMORY, Settings

__all__ = ["HostCache", "MemoryCache", "RedisCache", "open_cache"]


class HostCache(Cache, Protocol):
    """A cache as the host sees it: it is also closed."""

    async def close(self) -> None:
        """Give back what the cache holds."""


def open_cache(settings: Settings) -> HostCache:
    """Return the cache that the settings name; it connects on first use."""
    if settings.cache_url == MEMORY:
        return MemoryCache(limit=settings.cache_limit)
    return RedisCache(settings.cache_url, prefix=settings.cache_prefix)
