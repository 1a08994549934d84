"""The OpenAPI document: every method with its arguments, answers, errors and headers.

Made of what the handlers say of themselves: the structs of their arguments and answers, whose field
descriptions and examples are those of the document, and their docstrings.
"""

import inspect
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from itertools import chain
from typing import Any

import msgspec
from litestar import MediaType, get
from litestar.handlers import HTTPRouteHandler

from marketplace.manifest import SERVICES
from service.errors import TABLE
from service.events import EVENTS
from service.methods import IDEMPOTENCY_KEY, Operation

__all__ = ["document", "document_routes"]

_PAGE = files("service").joinpath("document.html").read_bytes()
_SHAPE = "#/components/schemas/{name}"
_ERROR = {"$ref": "#/components/schemas/Error"}
_Shapes = dict[Any, dict[str, Any]]
_NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"

_REQUEST_ID = {
    "X-Request-Id": {
        "description": "The id under which the host's log has this request.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "How many seconds to wait before trying again, where that is known.",
        "schema": {"type": "string"},
    }
}
_REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` if this is the answer to an earlier call with the same key.",
        "schema": {"type": "string"},
    }
}
_KEY = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "Calls with the same key are done once; each gets the answer to the first.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*$",
    },
}
_ALLOW = {"Allow": {"description": "The verbs that the path takes.", "schema": {"type": "string"}}}


class _ErrorData(msgspec.Struct):
    parameter: str = ""
    hint: str = ""
    source: str = ""
    reason: str = ""
    retryable: bool = False


def document_routes(services: Mapping[str, Sequence[Operation]]) -> list[HTTPRouteHandler]:
    """Return the handlers of the documents, one for all services and one for each, and of the page."""

    def serve(path: str, title: str, operations: Sequence[Operation]) -> HTTPRouteHandler:
        content = msgspec.json.encode(document(title, operations))

        @get(path, media_type=MediaType.JSON)
        async def openapi() -> bytes:
            return content

        return openapi

    @get("/schema", media_type=MediaType.HTML)
    async def page() -> bytes:
        return _PAGE

    everything = list(chain.from_iterable(services.values()))
    each = [serve(f"{SERVICES}/{name}/api-docs", name, found) for name, found in services.items()]
    return [page, serve("/schema/openapi.json", "The services of this host", everything), *each]


def document(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document of ``operations``, each at its route and at its name."""
    types = [kind for operation in operations for kind in (operation.arguments, operation.result) if kind]
    known = [kind for kind in dict.fromkeys(types) if _is_json(kind)]
    references, schemas = msgspec.json.schema_components(known, ref_template=_SHAPE)
    shapes: _Shapes = dict(zip(known, references, strict=True))
    for kind in {operation.arguments for operation in operations if operation.arguments}:
        # Two structs of one name, of two services perhaps, are told apart by the names of their modules.
        name = shapes[kind]["$ref"].removeprefix(_SHAPE.format(name=""))
        schemas[name] = _strict(schemas[name])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method = operation.method
        paths.setdefault(method.route, {})[method.verb.lower()] = _operation(operation, shapes)
        if operation.by_name not in paths:
            paths[operation.by_name] = {"post": _operation(operation, shapes, by_name=True)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("chat-marketplace")},
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _error_schema()}, "responses": _error_responses()},
    }


def _operation(operation: Operation, shapes: _Shapes, *, by_name: bool = False) -> dict[str, Any]:
    method = operation.method
    suffix = "ByName" if by_name else ""
    told: dict[str, Any] = {
        "operationId": f"{operation.service}_{method.name}{suffix}",
        "tags": [operation.service],
        "summary": f"{method.name}, by its name" if by_name else method.name,
        "description": inspect.cleandoc(operation.description),
        "responses": {"200": _success(operation, shapes.get(operation.result, {})), **_references()},
    }
    if operation.has_key:
        told["parameters"] = [_KEY]
    if operation.arguments is None:
        return told
    if method.verb == "GET" and not by_name:
        told["parameters"] = [*told.get("parameters", []), *_parameters(operation.arguments)]
    else:
        shape = shapes[operation.arguments]
        needs_body = any(argument.required for argument in method.arguments)
        told["requestBody"] = {"required": needs_body, "content": {"application/json": {"schema": shape}}}
    return told


def _success(operation: Operation, shape: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": shape}}
    if operation.streams:
        content[EVENTS] = {"schema": {"type": "string", "description": "Server-sent events."}}
    headers = {**_REQUEST_ID, **(_REPLAYED if operation.has_key else {})}
    return {"description": "It is done.", "headers": headers, "content": content}


def _is_json(kind: Any) -> bool:
    """Return whether JSON knows ``kind``; it does not know a ready response, for one."""
    if kind is bytes:
        return False
    try:
        msgspec.json.schema_components([kind])
    except TypeError:
        return False
    return True


def _parameters(arguments: type[msgspec.Struct]) -> Sequence[dict[str, Any]]:
    schema = _strict(msgspec.json.schema_components([arguments])[1][arguments.__name__])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "description": about.get("description", ""),
            "schema": about,
        }
        for name, about in schema["properties"].items()
    ]


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what the argument decoder really takes: no other names, no blank text, null for the optional."""
    required = schema.get("required", [])
    properties = {}
    for name, about in schema["properties"].items():
        stated = {key: value for key, value in about.items() if key not in ("anyOf", "default")}
        for choice in about.get("anyOf", []):
            stated |= choice if choice.get("type") != "null" else {}
        if stated.get("type") == "string":
            stated |= {"minLength": 1, "pattern": _NOT_BLANK}
        if name not in required:
            stated["type"] = [stated["type"], "null"]
        properties[name] = stated
    return {**schema, "properties": properties, "additionalProperties": False}


def _error_schema() -> dict[str, Any]:
    data = msgspec.json.schema_components([_ErrorData])[1]["_ErrorData"]
    properties = {name: {"type": about["type"]} for name, about in data["properties"].items()}
    return {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "enum": sorted({row.code for row in TABLE.values()})},
            "message": {"type": "string"},
            "errorData": {"type": "object", "properties": properties, "additionalProperties": True},
        },
        "examples": [
            {"code": 8007, "message": "Missing parameter 'message'.", "errorData": {"parameter": "message"}}
        ],
    }


def _references() -> dict[str, dict[str, str]]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in _statuses()}


def _statuses() -> list[int]:
    return sorted({row.status for row in TABLE.values()})


def _error_responses() -> dict[str, Any]:
    responses = {}
    for status in _statuses():
        codes = sorted({row.code for row in TABLE.values() if row.status == status})
        headers = {**_REQUEST_ID, **(_ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else _RETRY_AFTER)}
        responses[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}; code {', '.join(map(str, codes))}.",
            "headers": headers,
            "content": {"application/json": {"schema": _ERROR}},
        }
    return responses
