"""The services of a host: made of the installs, started, described, mounted under their names."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import Litestar, Router
from litestar.di import Provide

from marketplace.errors import MarketplaceError, PluginError
from marketplace.installs import Install
from marketplace.interfaces import Host, Service
from marketplace.manifest import SERVICES, Manifest, Product
from marketplace.plugins import configure, load_service
from service.log import hide
from service.methods import Method, Operation, decode_arguments, operations_of

__all__ = ["RunningService", "ServiceInfo", "start_service"]

log = logging.getLogger("marketplace.services")

START_TIMEOUT = 10
"""Seconds a service may take to start, and to close."""


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the host tells about a service; ``reason`` says why it failed."""

    name: str
    version: str
    summary: str
    state: Literal["ok", "failed"]
    reason: str | None = None
    notice: str | None = None
    methods: list[Method] = []


class RunningService(msgspec.Struct, frozen=True, kw_only=True):
    """An install, running, or failed: then it has no ``router``."""

    info: ServiceInfo
    service: Service[Any] | None = None
    router: Router | None = None
    operations: Sequence[Operation] = ()

    async def close(self) -> None:
        """Close the service; one that does not close keeps nobody else open."""
        if self.service:
            await _close(self.service)


async def start_service(install: Install, manifest: Manifest, host: Host) -> RunningService:
    """Start the service of ``install``; one that cannot start is returned as failed."""
    info = ServiceInfo(name=install.product, version=install.version, summary="", state="failed")
    try:
        product = manifest.product(install.product)
        info = msgspec.structs.replace(info, summary=product.summary, notice=product.notice(install.answers))
        service = await _create(product, install, host)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
        return _failed(info, error)
    try:
        return await _start(service, info)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        await _close(service)
        return _failed(info, error)


async def _create(product: Product, install: Install, host: Host) -> Service[Any]:
    values = product.defaults() | install.values(os.environ)
    for item in product.configuration:
        if item.is_secret and item.name in values:
            hide(str(values[item.name]))
    kind = await asyncio.to_thread(load_service, product)
    service: Service[Any] = kind(configure(kind, values), host)
    return service


async def _start(service: Service[Any], info: ServiceInfo) -> RunningService:
    try:
        async with asyncio.timeout(START_TIMEOUT) as limit:
            await service.start()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise PluginError(f"It did not start within {START_TIMEOUT} seconds.") from error
    router = Router(
        f"{SERVICES}/{info.name}",
        route_handlers=[service.router()],
        dependencies={"arguments": Provide(decode_arguments)},
    )
    # Alone first: a router that is no good fails here, and takes no other with it.
    Litestar([router], openapi_config=None, logging_config=None)
    operations = list(operations_of(info.name, router))
    methods = [operation.method for operation in operations]
    if twice := _twice(methods):
        raise PluginError(f"Two of its methods are {twice}.")
    info = msgspec.structs.replace(info, state="ok", methods=methods)
    return RunningService(info=info, service=service, router=router, operations=operations)


async def _close(service: Service[Any]) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await service.close()
    except (Exception, SystemExit):
        log.exception("%s did not close", service.name)


def _twice(methods: Sequence[Method]) -> str | None:
    addresses = [f"{method.verb} {method.route}" for method in methods]
    named = [*addresses, *(method.name for method in methods)]
    return next((name for name in named if named.count(name) > 1), None)


def _failed(info: ServiceInfo, error: BaseException) -> RunningService:
    reason = _reason(error)
    log.warning(
        "%s failed to start: %s",
        info.name,
        reason,
        exc_info=not isinstance(error, MarketplaceError) and error,
    )
    return RunningService(info=msgspec.structs.replace(info, reason=reason))


def _reason(error: BaseException) -> str:
    if isinstance(error, MarketplaceError):
        return str(error)
    # What a stranger's error says may quote a secret; the log has it.
    return f"It failed to start with {type(error).__name__}; the host's log tells more."
