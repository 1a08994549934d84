"""Where sessions are kept in a run: private servers of each kind, and how hosts are told of them."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
from sqlalchemy import make_url

from tests.servers import SERVERS, Server, redis_cluster

__all__ = ["BACKENDS", "SHARED", "Site", "site_of"]

SHARED = ["redis", "cluster", "sqlite", "postgresql", "mariadb"]
"""The backends that several hosts can share."""

BACKENDS = ["memory", *SHARED]


class Site(msgspec.Struct, frozen=True):
    """A backend; ``servers`` are those that can be restarted, the one that has the sessions first.

    ``port`` is where that one listens, ``nodes`` are the ports of a cluster.
    """

    backend: str
    environment: dict[str, str]
    servers: tuple[Server, ...] = ()
    port: int | None = None
    nodes: tuple[int, ...] = ()

    @property
    def is_persisted(self) -> bool:
        """Whether it is a database."""
        return self.backend in ("sqlite", "postgresql", "mariadb")


@contextmanager
def site_of(backend: str) -> Iterator[Site]:
    """Run what the backend needs until the block ends."""
    with ExitStack() as stack:
        if backend == "memory":
            yield Site(backend, {})
            return
        if backend == "cluster":
            nodes = stack.enter_context(redis_cluster())
            # All of them, as one is killed, which a worker may not have asked yet.
            url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in nodes)
            yield Site(backend, {"MARKETPLACE_CACHE_URL": url}, nodes=tuple(nodes))
            return
        # More than one worker takes a cache that they share, wherever the sessions are.
        cache = stack.enter_context(SERVERS["redis"]())
        environment = {"MARKETPLACE_CACHE_URL": cache.url}
        if backend == "redis":
            yield Site(backend, environment, (cache,), make_url(cache.url).port)
        elif backend == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            environment["MARKETPLACE_DATABASE_URL"] = f"sqlite:///{folder}/marketplace.db"
            yield Site(backend, environment, (cache,))
        else:
            database = stack.enter_context(SERVERS[backend]())
            environment["MARKETPLACE_DATABASE_URL"] = database.url
            yield Site(backend, environment, (database, cache), make_url(database.url).port)
