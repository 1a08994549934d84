"""What a plugin gives (`Service`) and what it is lent (`Host`, with its `Cache` and `Database`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import msgspec

if TYPE_CHECKING:
    from litestar import Router
    from sqlalchemy import Connection, Table

__all__ = ["CLOSE_TIMEOUT", "Cache", "Database", "Doubt", "Event", "EventStream", "Host", "Service"]

CLOSE_TIMEOUT = 90
"""Seconds that a service may take to close."""

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

    async def append(
        self, key: str, entries: Sequence[bytes], *, length: int, ttl: float, token: str | None = None
    ) -> bool:
        """Append all ``entries`` if exactly ``length`` are there; otherwise do nothing and return False.

        With a ``token`` it is also needed that the lease of ``key`` still has that token, and a call that is
        made again because its answer was lost appends nothing a second time and returns True.
        """

    async def delete(self, key: str) -> None:
        """Forget the entries under ``key``, if there are any."""

    async def lease(self, key: str, token: str, *, ttl: float, wait: float) -> bool:
        """Take the lease of ``key`` for ``ttl`` seconds, under a random ``token`` of the caller's.

        While somebody has it the others wait, ``wait`` seconds at most, in the order in which they came, and
        return False if it did not come to them. A holder that stops renewing loses it to the next one.
        There need not be entries under ``key``.
        """

    async def renew(self, leases: Mapping[str, str], *, ttl: float) -> set[str]:
        """Keep ``leases``, tokens by their keys, for ``ttl`` seconds from now; return the keys still held.

        One that ran out is still held if nobody else took it meanwhile.
        """

    async def release(self, key: str, token: str) -> None:
        """Give back the lease of ``key``, if ``token`` still has it, to whoever waits longest."""


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


class Event(msgspec.Struct, frozen=True):
    """One event of an `EventStream`: its name, and what is told as JSON."""

    name: str
    data: Any


class EventStream(msgspec.Struct, frozen=True):
    """An answer in parts, which a handler returns as the content of a Litestar ``Response``.

    The host sends it as server-sent events (``text/event-stream``) and keeps the connection open meanwhile.
    What ``events`` raises becomes an event ``error`` with the envelope that an error answer has.
    """

    events: AsyncIterator[Event]


class Host(msgspec.Struct, frozen=True):
    """What the host lends a service."""

    cache: Cache
    database: Database


class Doubt(msgspec.Struct, frozen=True):
    """Something to be told of a configuration that works all the same.

    ``text`` is a clause without a full stop. Where ``parameter`` names a configuration item, a person is
    asked whether to keep the answer to it; where nobody can be asked it is kept, and the text is a warning.
    """

    text: str
    parameter: str | None = None


class Service(ABC, Generic[ConfigurationT]):
    """One installed product, running. The host makes one from the install's configuration.

    ``name`` is the product's, as in the manifest and the URL; ``Configuration`` is the struct that the
    answers of the configuration items are converted to. It may raise `InvalidArgument` from its
    ``__post_init__``, with the item's name as ``parameter``.

    The class is imported and constructed, and `router` called, in a thread: what needs the event loop
    belongs in `start`. That must not block: what waits is awaited, or done in a thread of its own. A
    service that takes longer for either than the host waits has failed.
    """

    name: ClassVar[str]
    Configuration: ClassVar[type[Any]]

    def __init__(self, configuration: ConfigurationT, host: Host) -> None:
        self.configuration = configuration
        self.host = host

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the service itself: Litestar copies handlers, which may be methods of it."""
        return self

    @classmethod
    async def check(cls, configuration: ConfigurationT) -> Sequence[Doubt] | None:
        """Really try the configuration, before it is remembered.

        Return what is doubtful about it although it works; None is nothing. It does nothing unless it is
        overridden, for a service that has nobody to ask.

        Raises:
            InvalidArgument: if an item has to be answered otherwise; ``parameter`` names it.
            Unavailable: if it could not be tried.
            TimedOut: if trying it took too long.
        """

    async def start(self) -> None:
        """Open what the service needs; it is not called before the host runs."""

    async def close(self) -> None:
        """End what is under way, then give back what `start` opened; called whether or not that succeeded.

        That is when the host ends, or when the install was changed or removed: then its successor may
        be at work already. Calls of the service's methods have ended by then; the host waits for
        `CLOSE_TIMEOUT` at most.
        """

    async def stored_data(self) -> Sequence[str]:
        """Say what the service has stored that outlives its install, and where: a line for each kind.

        It is called without `start`. Nothing stored is an empty sequence.

        Raises:
            Unavailable: if that cannot be found out.
        """
        return ()

    async def drop_data(self) -> None:
        """Delete for good what `stored_data` tells of; it is called without `start`.

        Raises:
            Unavailable: if that is not possible.
        """

    @abstractmethod
    def router(self) -> Router:
        """Return the Litestar handlers of the started service.

        A handler that takes arguments has a parameter ``arguments: NamedDependency[SomeStruct]``; the
        host decodes it strictly, from the query of a GET and from the body otherwise. One with a parameter
        ``idempotency_key: NamedDependency[str | None]`` gets the checked header of that name. The method's
        name is the handler's function name in camelCase.
        """
