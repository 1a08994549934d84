"""The methods of the services: as callers see them, and called by their names.

The official client sends every call as ``POST {service}/{method name}`` with all arguments in the body. So
each method answers there, too, whatever its own verb and route.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Send

from marketplace.arguments import Argument, decode_body, decode_query, describe
from marketplace.errors import PluginError

__all__ = ["ByName", "Method", "Operation", "decode_arguments", "operations_of"]

_BY_NAME = "marketplace.by_name"


class Method(msgspec.Struct, frozen=True):
    """One operation of a service, as callers see it."""

    name: str
    verb: str
    route: str
    arguments: list[Argument]


class Operation(msgspec.Struct, frozen=True):
    """A method with the types behind it; ``by_name`` is the path that ends in its name."""

    service: str
    method: Method
    by_name: str
    arguments: type[msgspec.Struct] | None
    result: Any
    description: str


class ByName:
    """An ASGI application that turns a call by method name into one of the method's own route.

    ``methods`` are by the paths that end in their names.
    """

    def __init__(self, application: ASGIApp, methods: Mapping[str, Method]) -> None:
        self._application = application
        self._methods = methods

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        method = self._methods.get(scope["path"]) if scope["method"] == "POST" else None
        if method:
            path = {"path": method.route, "raw_path": method.route.encode(), "method": method.verb}
            scope = {**scope, **path, _BY_NAME: True}  # type: ignore[typeddict-item]
        await self._application(scope, receive, send)


def operations_of(service: str, router: Router) -> Iterable[Operation]:
    """Yield the operations that a service's handlers are; ``router`` is mounted at the service's path."""
    for route in router.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if "OPTIONS" not in handler.http_methods:
                struct = _struct_of(handler)
                name = handler.opt.get("method", _camel_case(handler.handler_name))
                yield Operation(
                    service,
                    Method(name, min(handler.http_methods), route.path, describe(struct) if struct else []),
                    f"{router.path}/{name}",
                    struct,
                    handler.parsed_fn_signature.return_type.annotation,
                    handler.fn.__doc__ or "",
                )


async def decode_arguments(request: Request[Any, Any, Any]) -> Any:
    """Return the arguments of a request as the struct that its handler takes.

    Raises:
        InvalidArgument: or the kind of it that names what is wrong.
    """
    struct = _struct_of(request.route_handler)
    if struct is None:
        raise PluginError("The handler takes no arguments.")
    by_name = _BY_NAME in request.scope
    if request.method == "GET" and not by_name:
        return decode_query(request.scope["query_string"], struct)
    content_type = request.headers.get("content-type", "")
    return decode_body(await request.body(), content_type, struct, text_is_argument=by_name)


def _struct_of(handler: HTTPRouteHandler) -> type[msgspec.Struct] | None:
    parameter = handler.parsed_fn_signature.parameters.get("arguments")
    return parameter.annotation if parameter else None


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
