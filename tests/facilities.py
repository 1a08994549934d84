"""Every backend of the two facilities: real ones, each with a place in it that is the test's own."""

import functools
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from marketplace.fakes import FakeCache, FakeDatabase
from service.cache import HostCache, MemoryCache, RedisCache
from service.database import DRIVERS, SQLDatabase
from tests.servers import redis_cluster

__all__ = [
    "CACHES",
    "DATABASES",
    "FAKE",
    "PREFIX",
    "cache_environment",
    "cache_url",
    "close_all",
    "database_url",
    "open_cache",
    "open_database",
]

CACHES = ["memory", "redis", "cluster"]
DATABASES = ["sqlite", "postgresql", "mariadb"]

FAKE = "fake"
"""The backend that `marketplace.testing` lends; it keeps the same contract, but no host can name it."""

_REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")
_SERVERS = {
    "postgresql": os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/test"),
    "mariadb": os.environ.get("TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/test"),
}

PREFIX = f"test-{uuid.uuid4()}:"
"""What the names of the keys of this run begin with."""

_of_the_run = ExitStack()
"""What lives as long as the test run; closed by `close_all`."""


def close_all() -> None:
    """Stop what was started for the whole run, and drop what it has left in Redis."""
    _of_the_run.close()
    try:
        with redis.Redis.from_url(_REDIS) as client:
            for key in client.scan_iter(f"{PREFIX}*"):
                client.delete(key)
    except redis.RedisError:
        pass  # there was none to leave anything in


def cache_environment(backend: str) -> dict[str, str]:
    """Return the variables for a host that uses a cache, in a place of the run's own."""
    return {"MARKETPLACE_CACHE_URL": cache_url(backend), "MARKETPLACE_CACHE_PREFIX": PREFIX}


@functools.cache
def cache_url(backend: str) -> str:
    """Return the URL of a running cache; skip the test where there is none."""
    if backend == "memory":
        return "memory://"
    if backend == "cluster":
        return f"redis+cluster://127.0.0.1:{_of_the_run.enter_context(redis_cluster())[0]}"
    try:
        with redis.Redis.from_url(_REDIS) as client:
            client.ping()
    except redis.RedisError as error:
        pytest.skip(f"no Redis at {_REDIS}: {error}")
    return _REDIS


def open_cache(backend: str) -> HostCache:
    """Open a cache that has no entries yet; in a shared one, under a prefix of its own."""
    if backend == FAKE:
        return FakeCache()
    if backend == "memory":
        return MemoryCache(limit=10_000_000)
    return RedisCache(cache_url(backend), prefix=f"{PREFIX}{uuid.uuid4()}:")


@contextmanager
def database_url(backend: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database, dropped afterwards; skip the test where there is no server."""
    if backend == "sqlite":
        yield f"sqlite:///{folder}/marketplace.db"
        return
    server = make_url(_SERVERS[backend])
    name = f"test_{uuid.uuid4().hex}"
    try:
        _administer(server, f"CREATE DATABASE {name}")
    except OperationalError as error:
        pytest.skip(f"no {backend} at {server}: {error.orig}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if backend == "postgresql" else ""
        _administer(server, f"DROP DATABASE {name}{force}")


@contextmanager
def open_database(backend: str, folder: Path) -> Iterator[SQLDatabase | FakeDatabase]:
    """Open an empty database, dropped afterwards."""
    if backend == FAKE:
        yield FakeDatabase()
        return
    with database_url(backend, folder) as url:
        yield SQLDatabase(make_url(url))


def _administer(server: URL, statement: str) -> None:
    engine = create_engine(server.set(drivername=DRIVERS[server.drivername].name))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()
