"""The services of a host: made of the installs, started, described, mounted under their names."""

import asyncio
import logging
import os
from typing import Any, Literal

import msgspec
from litestar import Router
from litestar.di import Provide

from marketplace.errors import MarketplaceError
from marketplace.installs import Install
from marketplace.interfaces import Host, Service
from marketplace.manifest import Manifest, Product
from marketplace.plugins import configure, load_service
from service.log import hide
from service.methods import Method, decode_arguments, methods_of

__all__ = ["SERVICES", "RunningService", "ServiceInfo", "start_service"]

log = logging.getLogger("marketplace.services")

SERVICES = "/api/services"
START_TIMEOUT = 10
"""Seconds a service may take to start."""


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

    async def close(self) -> None:
        """Close the service; one that cannot be closed keeps nobody else open."""
        try:
            if self.service:
                await self.service.close()
        except Exception:
            log.exception("%s did not close", self.info.name)


async def start_service(install: Install, manifest: Manifest, host: Host) -> RunningService:
    """Start the service of ``install``; one that cannot start is returned as failed."""
    info = ServiceInfo(name=install.product, version=install.version, summary="", state="failed")
    service = None
    try:
        product = manifest.product(install.product)
        info = msgspec.structs.replace(info, summary=product.summary, notice=product.notice(install.answers))
        values = product.defaults() | install.values(os.environ)
        for item in product.configuration:
            if item.is_secret and item.name in values:
                hide(str(values[item.name]))
        kind = load_service(product)
        service = kind(configure(kind, values), host)
        async with asyncio.timeout(START_TIMEOUT):
            await service.start()
        return _mount(service, product, info)
    except Exception as error:
        reason = _reason(error)
        is_told = isinstance(error, MarketplaceError | TimeoutError)
        log.warning("%s failed to start: %s", install.product, reason, exc_info=not is_told)
        failed = RunningService(info=msgspec.structs.replace(info, reason=reason), service=service)
        await failed.close()
        return failed


def _mount(service: Service[Any], product: Product, info: ServiceInfo) -> RunningService:
    router = Router(
        f"{SERVICES}/{product.name}",
        route_handlers=[service.router()],
        dependencies={"arguments": Provide(decode_arguments)},
    )
    methods = list(methods_of(router))
    return RunningService(
        info=msgspec.structs.replace(info, state="ok", methods=methods),
        service=service,
        router=router,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, MarketplaceError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"It did not start within {START_TIMEOUT} seconds."
    # What a stranger's error says may quote a secret; the log has it.
    return f"It failed to start with {type(error).__name__}; the host's log tells more."
