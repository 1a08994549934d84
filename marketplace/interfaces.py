"""What a plugin gives (`Service`) and what it is lent (`Host`, with its `Cache` and `Database`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from litestar import Router
    from sqlalchemy import Connection, Table

__all__ = ["Cache", "Database", "Host", "Service"]

Result = TypeVar("Result")
ConfigurationT = TypeVar("ConfigurationT", bound=msgspec.Struct)


class Cache(Protocol):
    """Entries that are kept together under a key for a time, and forgotten together.

    A time to live is in seconds and slides: every call that names one starts it anew. Every call may
    raise `Unavailable` when the cache cannot be reached.
    """

    async def create(self, key: str, entries: Sequence[bytes], *, ttl: float) -> None:
        """Keep ``entries`` under ``key``, in the place of any that were there.

        Raises:
            OutOfSpace: if the cache is full of what still lives.
        """

    async def read(self, key: str, *, ttl: float, room: int = 0) -> list[bytes] | None:
        """Return the entries under ``key`` in the order they were appended, or None if there are none.

        Reading never shortens the time that is left.

        Raises:
            OutOfSpace: if ``room`` more bytes, about to be appended, would not fit.
        """

    async def append(self, key: str, entries: Sequence[bytes], *, length: int, ttl: float) -> bool:
        """Append all ``entries`` if exactly ``length`` are there; otherwise do nothing and return False."""


class Database(Protocol):
    """Tables, reached by work that runs in a thread of its own."""

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction: all of it is stored, or, where it raises, nothing.

        Raises:
            Unavailable: if the database cannot do it now.
        """

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` that only reads, and so waits for nobody who writes.

        Raises:
            Unavailable: if the database cannot do it now.
        """

    async def create_tables(self, *tables: Table) -> None:
        """Create those of the ``tables`` that do not exist yet; several processes may do so at once.

        Raises:
            Unavailable: if the database cannot do it now, or has another table of that name: that is
                reported, never altered.
        """

    async def tables_exist(self, *tables: Table) -> bool:
        """Return whether all ``tables`` exist.

        Raises:
            Unavailable: as `create_tables` does.
        """


class Host(msgspec.Struct, frozen=True):
    """What the host lends a service."""

    cache: Cache
    database: Database


class Service(ABC, Generic[ConfigurationT]):
    """One installed product, running. The host makes one from the install's configuration.

    ``name`` is the product's, as in the manifest and the URL; ``Configuration`` is the struct that the
    answers of the configuration items are converted to. It may raise `InvalidArgument` from its
    ``__post_init__``, with the item's name as ``parameter``.
    """

    name: ClassVar[str]
    Configuration: ClassVar[type[Any]]

    def __init__(self, configuration: ConfigurationT, host: Host) -> None:
        self.configuration = configuration
        self.host = host

    @classmethod
    @abstractmethod
    async def check(cls, configuration: ConfigurationT) -> None:
        """Really try the configuration, before it is remembered.

        Raises:
            InvalidArgument: if an item has to be answered otherwise; ``parameter`` names it.
            Unavailable: if it could not be tried.
            TimedOut: if trying it took too long.
        """

    async def start(self) -> None:
        """Open what the service needs; it is not called before the host runs."""

    async def close(self) -> None:
        """Give back what `start` opened; it is called whether or not `start` succeeded."""

    @abstractmethod
    def router(self) -> Router:
        """Return the Litestar handlers of the started service.

        A handler that takes arguments has a parameter ``arguments: NamedDependency[SomeStruct]``; the
        host decodes it strictly, from the query of a GET and from the body otherwise. The method's
        name is the handler's function name in camelCase.
        """
