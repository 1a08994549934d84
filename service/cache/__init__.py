"""The cache facility and its backends."""

from service.cache.memory import MemoryCache

__all__ = ["MemoryCache"]
