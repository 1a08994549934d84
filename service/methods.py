"""The methods of the services: as callers see them, and called by their names.

The official client sends every call as ``POST {service}/{method name}`` with all arguments in the body. So
each method answers there, too, whatever its own verb and route.
"""

import re
from collections.abc import Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from litestar import Request, Response, Router
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import HTTPScope

from marketplace.arguments import Argument, decode_body, decode_query, describe
from marketplace.errors import InvalidArgument, PluginError
from marketplace.interfaces import EventStream

__all__ = [
    "IDEMPOTENCY_KEY",
    "Method",
    "Operation",
    "called_by_name",
    "checked_key",
    "decode_arguments",
    "operations_of",
]

IDEMPOTENCY_KEY = "Idempotency-Key"

_BY_NAME = "marketplace.by_name"


class Method(msgspec.Struct, frozen=True):
    """One operation of a service, as callers see it."""

    name: str
    verb: str
    route: str
    arguments: list[Argument]


class Operation(msgspec.Struct, frozen=True):
    """A method with the types behind it; ``by_name`` is the path that ends in its name.

    ``streams`` says that it can answer in parts, ``has_key`` that it takes an Idempotency-Key.
    """

    service: str
    method: Method
    by_name: str
    arguments: type[msgspec.Struct] | None
    result: Any
    description: str
    streams: bool = False
    has_key: bool = False


def called_by_name(method: Method, scope: HTTPScope) -> HTTPScope:
    """Return the ``scope`` of a call by name as one of the method's own route."""
    path = {"path": method.route, "raw_path": method.route.encode(), "method": method.verb}
    return {**scope, **path, _BY_NAME: True}  # type: ignore[typeddict-item]


def operations_of(service: str, router: Router) -> Iterable[Operation]:
    """Yield the operations that a service's handlers are; ``router`` is mounted at the service's path."""
    for route in router.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if "OPTIONS" not in handler.http_methods:
                struct = _struct_of(handler)
                results = _results_of(handler.parsed_fn_signature.return_type.annotation)
                name = handler.opt.get("method", _camel_case(handler.handler_name))
                yield Operation(
                    service,
                    Method(name, min(handler.http_methods), route.path, describe(struct) if struct else []),
                    f"{router.path}/{name}",
                    struct,
                    next((kind for kind in results if kind is not EventStream), None),
                    handler.fn.__doc__ or "",
                    streams=EventStream in results,
                    has_key="idempotency_key" in handler.parsed_fn_signature.parameters,
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


async def checked_key(request: Request[Any, Any, Any], arguments: NamedDependency[Any]) -> str | None:
    """Return the ``Idempotency-Key`` of a request whose ``arguments`` are right.

    Raises:
        InvalidArgument: if it is none.
    """
    found = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not found:
        return None
    key = found[0].strip()
    if len(found) > 1 or not re.fullmatch(r"[\x20-\x7e]{1,255}", key):
        text = "send one key, of 1 to 255 printable ASCII characters"
        raise InvalidArgument(text, parameter=IDEMPOTENCY_KEY)
    return key


def _struct_of(handler: HTTPRouteHandler) -> type[msgspec.Struct] | None:
    parameter = handler.parsed_fn_signature.parameters.get("arguments")
    return parameter.annotation if parameter else None


def _results_of(annotation: Any) -> tuple[Any, ...]:
    """Return what a handler may answer with: ``Response[A | B]`` has A and B."""
    if get_origin(annotation) is Response:
        return _results_of(get_args(annotation)[0])
    return get_args(annotation) if get_origin(annotation) in (UnionType, Union) else (annotation,)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
