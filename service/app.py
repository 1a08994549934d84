"""The one place where everything is put together: settings, facilities, services, and the application."""

import asyncio
import gc
import logging
import os
from collections.abc import Container, Sequence
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.types import HTTPScope, LifeSpanReceive, LifeSpanScope, LifeSpanSend

from marketplace.errors import ServiceError, Unavailable
from marketplace.installs import Installs, InstallsFile
from marketplace.interfaces import Host
from marketplace.manifest import SERVICES, Manifest, read_manifest
from service.cache import open_cache
from service.database import SQLDatabase
from service.document import document_routes
from service.edge import Edge
from service.errors import MethodNotFound, ServiceNotFound, WrongVerb, answer_to, from_litestar
from service.log import configure_logging, hide
from service.methods import ByName
from service.services import RunningService, ServiceInfo, start_service
from service.settings import Settings, read_settings

__all__ = ["Application", "from_environment"]

log = logging.getLogger("marketplace.host")


class Application:
    """The host as an ASGI application; its services live from the start of its lifespan to the end."""

    def __init__(
        self,
        settings: Settings,
        installs: Installs,
        manifest: Manifest,
    ) -> None:
        self._settings = settings
        self._installs = installs
        self._manifest = manifest
        self._services: list[RunningService] = []
        self._cache = open_cache(settings)
        self._database = SQLDatabase(settings.database_url)

    async def __call__(self, scope: HTTPScope | LifeSpanScope, receive: Any, send: Any) -> None:
        """Answer the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._edge(scope, receive, send)

    async def open(self) -> None:
        """Start what is installed."""
        host = Host(self._cache, self._database)
        installs = self._installs.load().values()
        self._services = list(
            await asyncio.gather(*(start_service(i, self._manifest, host) for i in installs))
        )
        self._edge = Edge(_build(self._services), self._settings)

    async def close(self) -> None:
        """Close what `open` started, services before what they were lent."""
        await asyncio.gather(*(service.close() for service in self._services))
        await self._cache.close()
        await self._database.close()

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        await receive()
        try:
            await self.open()
        except Exception as error:
            log.exception("The host did not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        _settle_memory()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def from_environment() -> Application:
    """Return the host that the environment describes, and set up the log of its process.

    Raises:
        SetupError: if a setting, the installs or the manifest cannot be used.
    """
    configure_logging()
    settings = read_settings(os.environ)
    for password in (urlsplit(settings.cache_url).password, settings.database_url.password):
        hide(str(password or ""))
    return Application(settings, InstallsFile(settings.home), read_manifest())


def _settle_memory() -> None:
    """Let the garbage collector pass over what has been loaded and stays; saves a tenth of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _build(services: Sequence[RunningService]) -> ByName:
    listing = [service.info for service in services]
    by_name = {one.by_name: one.method for service in services for one in service.operations}
    errors = _Errors(listing, by_name)

    @get(SERVICES)
    async def list_services() -> list[ServiceInfo]:
        return listing

    @get("/api/info")
    async def info() -> dict[str, list[str]]:
        """Tell the official client, which asks at its start, that no log is wanted from it."""
        return {"loggers": []}

    operations = {service.info.name: service.operations for service in services if service.operations}
    routers = [service.router for service in services if service.router]
    application = Litestar(
        [list_services, info, *document_routes(operations), *routers],
        exception_handlers={HTTPException: errors.answer, Exception: errors.answer},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # the edge has bounded it
    )
    return ByName(application, by_name)


class _Errors:
    """Answers what handlers and Litestar raise, in the shape of the contract."""

    def __init__(self, services: Sequence[ServiceInfo], by_name: Container[str]) -> None:
        self._services = {info.name: info for info in services}
        self._by_name = by_name

    def answer(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        """Answer ``error``, and log what the caller is not told."""
        meant = from_litestar(error)
        if isinstance(meant, MethodNotFound):
            meant = self._not_found(request.scope["path"])
        answer = answer_to(meant)
        if not isinstance(meant, ServiceError):
            log.error("Internal error", exc_info=error)
        elif answer.is_failure and (cause := meant.__cause__):
            # What an upstream says may quote a prompt; what a facility of ours says does not.
            told = repr(cause) if meant.source == "host" else type(cause).__name__
            log.warning("%s, caused by %s %s", meant, told, meant.details or "")
        return Response(answer.body, status_code=answer.status, headers=answer.headers)

    def _not_found(self, path: str) -> ServiceError:
        """Return what it means that nothing answers at ``path``."""
        below, is_below, rest = path.partition(f"{SERVICES}/")
        if below or not is_below:
            return MethodNotFound()
        info = self._services.get(rest.partition("/")[0])
        if info is None:
            return ServiceNotFound()
        if info.state == "ok":
            return WrongVerb("POST") if path in self._by_name else MethodNotFound()
        text = f"{info.name} failed to start. {info.reason}"
        return Unavailable(text, source="host", reason="not_started", retry_after=30)
