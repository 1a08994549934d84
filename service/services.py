"""The services of a host: made of the installs, started, described, mounted under their names."""

import asyncio
import logging
import os
from collections.abc import Sequence
from threading import Thread
from typing import Any, Literal

import msgspec
from litestar import Litestar, Router
from litestar.di import Provide

from marketplace.errors import MarketplaceError, PluginError, ServiceError
from marketplace.installs import Install
from marketplace.interfaces import CLOSE_TIMEOUT, Host, Service
from marketplace.manifest import SERVICES, Manifest, Product
from marketplace.plugins import configure, load_service
from service.document import document_routes
from service.events import stream_events
from service.guard import Hung, awaited, in_thread
from service.log import hide
from service.methods import Method, Operation, checked_key, decode_arguments, operations_of

__all__ = ["RunningService", "ServiceInfo", "failed", "start", "start_service"]

log = logging.getLogger("marketplace.services")

START_TIMEOUT = 8
"""Seconds that making a service may take, and starting it."""


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the host tells about a service; ``reason`` says why it failed."""

    name: str
    version: str
    summary: str
    state: Literal["ok", "starting", "failed"]
    reason: str | None = None
    notice: str | None = None
    methods: list[Method] = []


class RunningService(msgspec.Struct, frozen=True, kw_only=True):
    """An install, running, or starting or failed: then it has no ``router``.

    ``is_temporary`` says that it failed for a reason that may pass by itself, and ``stuck`` is the thread
    in which it still hangs.
    """

    info: ServiceInfo
    service: Service[Any] | None = None
    router: Router | None = None
    operations: Sequence[Operation] = ()
    is_temporary: bool = False
    stuck: Thread | None = None

    async def close(self) -> None:
        """Close the service; one that does not close keeps nobody else open."""
        if self.service:
            await _close(self.service, CLOSE_TIMEOUT)


async def start_service(install: Install, manifest: Manifest, host: Host) -> RunningService:
    """Start the service of ``install``; one that cannot start is returned as failed."""
    info = ServiceInfo(name=install.product, version=install.version, summary="", state="failed")
    service = None
    try:
        product = manifest.product(install.product, package=install.package)
        info = msgspec.structs.replace(info, summary=product.summary, notice=product.notice(install.answers))
        service = await in_thread(_create, product, install, host, limit=START_TIMEOUT)
        return await start(service, info)
    except BaseException as error:  # a stranger's code may raise anything
        if service:
            await _close(service, START_TIMEOUT)
        if _ends_us(error):
            raise
        return failed(info, error)


async def start(service: Service[Any], info: ServiceInfo) -> RunningService:
    """Start ``service``, which is at ``info``'s name from then on.

    Raises:
        PluginError: if it takes too long, or its methods clash; what its own code raises comes as it is.
    """
    await awaited(service.start(), limit=START_TIMEOUT)
    return await in_thread(_mount, service, info, limit=START_TIMEOUT)


def failed(info: ServiceInfo, error: BaseException) -> RunningService:
    """Return the service as failed with ``error``, and log that."""
    reason = _reason(error)
    log.warning(
        "%s failed to start: %s",
        info.name,
        reason,
        exc_info=not isinstance(error, MarketplaceError) and error,
    )
    return RunningService(
        info=msgspec.structs.replace(info, state="failed", reason=reason, methods=[]),
        is_temporary=isinstance(error, OSError | Hung)
        or (isinstance(error, ServiceError) and error.retryable),
        stuck=error.thread if isinstance(error, Hung) else None,
    )


def _create(product: Product, install: Install, host: Host) -> Service[Any]:
    values = product.defaults() | install.values(os.environ)
    for item in product.configuration:
        if item.is_secret and item.name in values:
            hide(str(values[item.name]))
    kind = load_service(product)
    service: Service[Any] = kind(configure(kind, values), host)
    return service


def _mount(service: Service[Any], info: ServiceInfo) -> RunningService:
    router = Router(
        f"{SERVICES}/{info.name}",
        route_handlers=[service.router()],
        dependencies={"arguments": Provide(decode_arguments), "idempotency_key": Provide(checked_key)},
        after_request=stream_events,
    )
    operations = list(operations_of(info.name, router))
    methods = [operation.method for operation in operations]
    if twice := _twice(methods):
        raise PluginError(f"Two of its methods are {twice}.")
    # Alone first: a router that is no good fails here, and takes no other with it.
    beside = document_routes({info.name: operations})
    Litestar([router, *beside], openapi_config=None, logging_config=None)
    info = msgspec.structs.replace(info, state="ok", methods=methods)
    return RunningService(info=info, service=service, router=router, operations=operations)


async def _close(service: Service[Any], limit: float) -> None:
    try:
        await awaited(service.close(), limit=limit)
    except BaseException as error:
        if _ends_us(error):
            raise
        log.exception("%s did not close", service.name)


def _ends_us(error: BaseException) -> bool:
    """Return whether it is us who are to end; a plugin may raise the like of it for reasons of its own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return bool(task and task.cancelling())
    return isinstance(error, GeneratorExit)


def _twice(methods: Sequence[Method]) -> str | None:
    addresses = [f"{method.verb} {method.route}" for method in methods]
    named = [*addresses, *(method.name for method in methods)]
    return next((name for name in named if named.count(name) > 1), None)


def _reason(error: BaseException) -> str:
    if isinstance(error, MarketplaceError):
        return str(error).partition("\n")[0]  # more of it is for the operator
    # What a stranger's error says may quote a secret; the log has it.
    return f"It failed to start with {type(error).__name__}; the host's log tells more."
