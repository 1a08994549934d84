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
from service.methods import Operation

__all__ = ["document", "document_routes"]

_PAGE = files("service").joinpath("document.html").read_bytes()
_SHAPE = "#/components/schemas/{name}"
_ERROR = {"$ref": "#/components/schemas/Error"}
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
    known = [kind for kind in dict.fromkeys(types) if _schema(kind) is not None]
    _, schemas = msgspec.json.schema_components(known, ref_template=_SHAPE)
    for kind in {operation.arguments for operation in operations if operation.arguments}:
        schemas[kind.__name__] = _strict(schemas[kind.__name__])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method = operation.method
        paths.setdefault(method.route, {})[method.verb.lower()] = _operation(operation)
        if operation.by_name not in paths:
            paths[operation.by_name] = {"post": _operation(operation, by_name=True)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("chat-marketplace")},
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _error_schema()}, "responses": _error_responses()},
    }


def _operation(operation: Operation, *, by_name: bool = False) -> dict[str, Any]:
    method = operation.method
    suffix = "ByName" if by_name else ""
    told: dict[str, Any] = {
        "operationId": f"{operation.service}_{method.name}{suffix}",
        "tags": [operation.service],
        "summary": f"{method.name}, by its name" if by_name else method.name,
        "description": inspect.cleandoc(operation.description),
        "responses": {"200": _success(operation), **_references()},
    }
    if operation.arguments is None:
        return told
    if method.verb == "GET" and not by_name:
        told["parameters"] = list(_parameters(operation.arguments))
    else:
        reference = {"$ref": _SHAPE.format(name=operation.arguments.__name__)}
        needs_body = any(argument.required for argument in method.arguments)
        told["requestBody"] = {"required": needs_body, "content": {"application/json": {"schema": reference}}}
    return told


def _success(operation: Operation) -> dict[str, Any]:
    return {
        "description": "It is done.",
        "headers": _REQUEST_ID,
        "content": {"application/json": {"schema": _schema(operation.result) or {}}},
    }


def _schema(kind: Any) -> dict[str, Any] | None:
    """Return the JSON Schema of ``kind``, or None for what JSON does not know, such as a ready response."""
    try:
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=_SHAPE)
    except TypeError:
        return None
    return schema


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
