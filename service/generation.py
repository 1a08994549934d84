"""What answers from one swap to the next: the services as they are then, and the application made of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any

from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.types import HTTPScope, Receive, Send

from marketplace.errors import ServiceError, Unavailable
from marketplace.manifest import SERVICES
from service.document import document_routes
from service.edge import HTTPApplication
from service.errors import MethodNotFound, ServiceNotFound, WrongVerb, answer_to, from_litestar
from service.methods import called_by_name
from service.services import RunningService, ServiceInfo, failed

__all__ = ["Generation", "Successor", "build"]

log = logging.getLogger("marketplace.host")

Successor = Callable[[str], Awaitable[HTTPApplication | None]]
"""Waits for the start of the service of that name, and returns who answers then, if it came to an end."""


class Generation:
    """An ASGI application that answers for ``services``, and knows when the last request has left it.

    The official client sends every call as ``POST {service}/{method name}``; here it becomes one of the
    method's own route. A call of a service that is still starting waits, and its ``successor`` answers.
    """

    def __init__(self, services: Sequence[RunningService], successor: Successor) -> None:
        self.services = services
        self._by_name = {one.by_name: one.method for service in services for one in service.operations}
        self._application: HTTPApplication = _application(services, self._by_name)
        self.starting = {service.info.name for service in services if service.info.state == "starting"}
        if self.starting:
            self._application = _Patient(self._application, self.starting, successor)
        self._calls = 0
        self._last_call: asyncio.Event | None = None

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        method = self._by_name.get(scope["path"]) if scope["method"] == "POST" else None
        if method:
            scope = called_by_name(method, scope)
        self._calls += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._calls -= 1
            if self._last_call and not self._calls:
                self._last_call.set()

    async def drained(self) -> None:
        """Wait for the last request to leave; none may come any more."""
        self._last_call = asyncio.Event()
        if self._calls:
            await self._last_call.wait()


def build(services: Sequence[RunningService], successor: Successor) -> Generation:
    """Return a generation of ``services``.

    Each of them works alone. If some do not go together, those that came first are served, and the others
    are failed.
    """
    try:
        return Generation(services, successor)
    except Exception:
        log.exception("The services do not go together")
    kept: list[RunningService] = []
    for service in services:
        try:
            Generation([*kept, service], successor)
            kept.append(service)
        except Exception as error:  # noqa: BLE001 - whatever it is, it keeps nobody else down
            kept.append(failed(service.info, error))
    return Generation(kept, successor)


def _application(services: Sequence[RunningService], by_name: Container[str]) -> HTTPApplication:
    listing = [service.info for service in services]
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
    return Litestar(
        [list_services, info, *document_routes(operations), *routers],
        exception_handlers={HTTPException: errors.answer, Exception: errors.answer},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # the edge has bounded it
    )


class _Patient:
    """Lets calls of services that are ``starting`` wait."""

    def __init__(self, application: HTTPApplication, starting: Container[str], successor: Successor) -> None:
        self._application = application
        self._starting = starting
        self._successor = successor

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        application = None
        if (name := _service_at(scope["path"])) in self._starting:
            application = await self._successor(str(name))
        await (application or self._application)(scope, receive, send)


def _service_at(path: str) -> str | None:
    """Return the name of the service that ``path`` is below, if it is below one."""
    before, is_below, rest = path.partition(f"{SERVICES}/")
    return None if before or not is_below else rest.partition("/")[0]


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
        name = _service_at(path)
        if name is None:
            return MethodNotFound()
        info = self._services.get(name)
        if info is None:
            return ServiceNotFound()
        if info.state == "ok":
            return WrongVerb("POST") if path in self._by_name else MethodNotFound()
        if info.state == "starting":
            return Unavailable(f"{name} is starting", source="host", reason="starting", retry_after=5)
        text = f"{name} failed to start. {info.reason}"
        return Unavailable(text, source="host", reason="not_started", retry_after=30)
