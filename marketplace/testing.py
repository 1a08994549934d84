"""Test a service as its callers see it: in a host with fake facilities, without a server.

::

    async with testing.host(Notes, {"title": "Mine"}) as host:
        assert await host.invoke("addNote", {"text": "Buy milk"}) == {"count": 1}

The arguments are decoded, the methods found and the errors answered by the host's own code, which is
loaded when `host` is entered.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from marketplace.catalogue import manifest_in
from marketplace.errors import InvalidArgument, ManifestError
from marketplace.fakes import FakeCache, FakeDatabase
from marketplace.interfaces import Cache, Database, Host, Service
from marketplace.manifest import Product, Value, read_manifest
from marketplace.plugins import configure

if TYPE_CHECKING:
    import httpx2

__all__ = ["CallFailed", "FakeCache", "FakeDatabase", "FakeHost", "host"]

ServiceT = TypeVar("ServiceT", bound=Service[Any])


class CallFailed(Exception):
    """A call was answered with an error: its HTTP ``status``, and what the envelope says."""

    def __init__(self, status: int, envelope: Mapping[str, Any]) -> None:
        self.status = status
        self.code: int = envelope["code"]
        self.message: str = envelope["message"]
        self.error_data: dict[str, Any] = envelope.get("errorData", {})
        super().__init__(f"{status} {self.code} {self.message} {self.error_data or ''}".rstrip())


class FakeHost(Generic[ServiceT]):
    """A host of one service. ``http`` is a client whose relative addresses are those of the service."""

    def __init__(self, service: ServiceT, http: "httpx2.AsyncClient") -> None:
        self.service = service
        self.http = http

    async def invoke(self, method: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call a method by its name, and return its answer as it was decoded from JSON.

        Raises:
            CallFailed: if the answer is an error.
        """
        answer = await self.http.post(method, json=dict(arguments or {}))
        if not answer.is_success:
            raise CallFailed(answer.status_code, answer.json())
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


@asynccontextmanager
async def host(
    service: type[ServiceT],
    answers: Mapping[str, Value] | None = None,
    *,
    cache: Cache | None = None,
    database: Database | None = None,
) -> AsyncIterator[FakeHost[ServiceT]]:
    """Run ``service``, configured with ``answers`` to its configuration items, until the block ends.

    Items that are not answered have the defaults of the manifest in the service's package, if it is there.
    What the constructor, `start` and `close` raise is raised here. Two hosts with one cache or database
    are a host that was started anew, or two that share it.

    Raises:
        InvalidArgument: if an answer is none; ``parameter`` names the item.
        ManifestError: if the manifest cannot be used.
    """
    (client,) = entry_points(group="marketplace.testing", name="client")
    own = FakeDatabase()
    lent = Host(cache or FakeCache(), database or own)
    try:
        configuration = configure(service, _complete(service, answers or {}))
        running = await asyncio.to_thread(service, configuration, lent)  # as every host does
        try:
            async with client.load()(running) as http:
                yield FakeHost(running, http)
        finally:
            await running.close()
    finally:
        await own.close()


def _complete(service: type[Service[Any]], answers: Mapping[str, Value]) -> dict[str, Value]:
    product = _product_of(service)
    if product is None:
        return dict(answers)
    for name in answers:
        if product.item(name) is None:
            raise InvalidArgument(f"{product.name} has no item {name!r}", parameter=name)
    return product.defaults() | dict(answers)


def _product_of(service: type[Service[Any]]) -> Product | None:
    """Return the product that ``service`` is, if its package has a manifest, or ours knows it."""
    packages = service.__module__.split(".")
    path = None
    while packages and path is None:
        try:
            path = manifest_in(".".join(packages))
        except ManifestError:
            break  # it is a module by itself
        packages.pop()
    product = read_manifest(path).find(service.name)
    return product if product and f"{service.__module__}.".startswith(f"{product.plugin}.") else None
