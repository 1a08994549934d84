"""The services of a host: made of the installs, started, described, mounted under their names."""

import asyncio
import logging
import os
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from litestar import Request, Router
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from marketplace.arguments import Argument, decode_body, decode_query, describe
from marketplace.errors import MarketplaceError, PluginError
from marketplace.installs import Install
from marketplace.interfaces import Host, Service
from marketplace.manifest import Manifest, Product
from marketplace.plugins import configure, load_service
from service.log import hide

__all__ = ["SERVICES", "Method", "RunningService", "ServiceInfo", "start_service"]

log = logging.getLogger("marketplace.services")

SERVICES = "/api/services"
START_TIMEOUT = 10
"""Seconds a service may take to start."""


class Method(msgspec.Struct, frozen=True):
    """One operation of a service, as callers see it."""

    name: str
    verb: str
    route: str
    arguments: list[Argument]


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
    """An install, running, or failed: then it has no ``router``, and may have no ``product``."""

    info: ServiceInfo
    product: Product | None = None
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
        log.warning("%s failed to start", install.product, exc_info=not isinstance(error, MarketplaceError))
        failed = RunningService(info=msgspec.structs.replace(info, reason=_reason(error)), service=service)
        await failed.close()
        return failed


def _mount(service: Service[Any], product: Product, info: ServiceInfo) -> RunningService:
    router = Router(
        f"{SERVICES}/{product.name}",
        route_handlers=[service.router()],
        dependencies={"arguments": Provide(_decode_arguments)},
    )
    methods = list(_methods(router))
    return RunningService(
        info=msgspec.structs.replace(info, state="ok", methods=methods),
        product=product,
        service=service,
        router=router,
    )


def _methods(router: Router) -> Iterable[Method]:
    for route in router.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if "OPTIONS" not in handler.http_methods:
                yield Method(
                    name=_camel_case(handler.handler_name),
                    verb=min(handler.http_methods),
                    route=route.path,
                    arguments=describe(struct) if (struct := _arguments_of(handler)) else [],
                )


def _arguments_of(handler: HTTPRouteHandler) -> type[msgspec.Struct] | None:
    parameter = handler.parsed_fn_signature.parameters.get("arguments")
    return parameter.annotation if parameter else None


async def _decode_arguments(request: Request[Any, Any, Any]) -> Any:
    struct = _arguments_of(request.route_handler)
    if struct is None:
        raise PluginError("the handler takes no arguments")
    if request.method == "GET":
        return decode_query(request.scope["query_string"], struct)
    return decode_body(await request.body(), request.headers.get("content-type", ""), struct)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _reason(error: Exception) -> str:
    if isinstance(error, MarketplaceError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"It did not start within {START_TIMEOUT} seconds."
    # What a stranger's error says may quote a secret; the log has it.
    return f"It failed to start with {type(error).__name__}; the host's log tells more."
