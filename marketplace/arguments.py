"""The strict argument decoder: a method's arguments are a struct, and a request fits it or is refused.

Checks run in the order of the contract: the body as a whole, unknown arguments, then each argument in
the order the struct declares them. Types are strict: ``0``, ``1`` and ``"true"`` are no booleans.
An argument whose field has a default is optional, and null stands for its absence.
"""

import difflib
import functools
import re
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from marketplace.errors import (
    EmptyArgument,
    InvalidArgument,
    MalformedBody,
    MissingArgument,
    NotAnObject,
    NullArgument,
    UnsupportedType,
)

__all__ = ["Argument", "decode_body", "decode_query", "describe", "plain"]

Arguments = TypeVar("Arguments", bound=msgspec.Struct)

_json = msgspec.json.Decoder()


class Argument(msgspec.Struct, frozen=True):
    """One argument of a method as a caller sees it; ``type`` is a type name of JSON Schema."""

    name: str
    type: str
    required: bool


# Looking the fields up costs as much as decoding them.
_fields = functools.lru_cache(maxsize=256)(msgspec.structs.fields)


def describe(struct: type[msgspec.Struct]) -> list[Argument]:
    """List the arguments that ``struct`` takes, in documented order."""
    properties = msgspec.json.schema_components([struct])[1][struct.__name__]["properties"]
    return [
        Argument(field.encode_name, _json_type(properties[field.encode_name]), field.required)
        for field in _fields(struct)
    ]


def _json_type(schema: dict[str, Any]) -> str:
    for choice in schema.get("anyOf", [schema]):
        if (name := choice.get("type", "object")) != "null":
            return str(name)
    return "null"


def decode_body(
    body: bytes, content_type: str, struct: type[Arguments], *, text_is_argument: bool = False
) -> Arguments:
    """Decode a request body into ``struct``; no body at all means no arguments.

    Without a JSON ``content_type`` a body that parses as a JSON object is the arguments, too; otherwise,
    where ``text_is_argument``, it is the only required argument, if there is just one. That is how the
    official client sends some of its calls.

    Raises:
        InvalidArgument: or the kind of it that names what is wrong.
    """
    if not body:
        return _convert({}, struct)  # some clients announce a type for nothing
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        value = _parse(body)
        if not isinstance(value, dict):
            raise NotAnObject('send an object, such as {"name": "value"}')
    elif not media_type or media_type.startswith("text/"):
        value = _parse_text(body, _only_required(struct) if text_is_argument else None)
    else:
        raise UnsupportedType("send application/json", type=media_type)
    _refuse_unknown(value, struct)
    return _convert(value, struct)


def decode_query(query: bytes, struct: type[Arguments]) -> Arguments:
    """Decode a query string into ``struct``; parameters that it does not know are ignored.

    Raises:
        InvalidArgument: or the kind of it that names what is wrong.
    """
    known = {field.encode_name.encode(): field.encode_name for field in _fields(struct)}
    values: dict[str, str] = {}
    for pair in query.split(b"&"):
        encoded, _, value = pair.partition(b"=")
        name = known.get(_unquote(encoded))
        if name is None:
            continue
        if name in values:
            raise InvalidArgument("it is given more than once", parameter=name)
        try:
            values[name] = _unquote(value).decode()
        except UnicodeDecodeError as error:
            raise MalformedBody("the query is not UTF-8") from error
    return _convert(values, struct, strict=False)


def _unquote(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _parse(body: bytes) -> Any:
    try:
        return _json.decode(body)
    except RecursionError as error:
        raise MalformedBody("nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedBody(str(error)) from error


def _parse_text(body: bytes, argument: str | None) -> dict[str, Any]:
    """Return the object that ``body`` is, or ``body`` itself as the named ``argument``."""
    try:
        value = _parse(body)
    except MalformedBody:
        if argument is None:
            raise
        value = None
    if isinstance(value, dict):
        return value
    if argument is None:
        raise MalformedBody("expected a JSON object")
    try:
        return {argument: body.decode()}
    except UnicodeDecodeError as error:
        raise MalformedBody(str(error)) from error


def _only_required(struct: type[msgspec.Struct]) -> str | None:
    required = [field.encode_name for field in _fields(struct) if field.required]
    return required[0] if len(required) == 1 else None


def _refuse_unknown(values: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    known = {field.encode_name.lower(): field.encode_name for field in _fields(struct)}
    for name in values:
        if name not in known.values():
            name = name[:100]
            details = {"parameter": name}
            if similar := difflib.get_close_matches(name.lower(), known, n=1):
                details["didYouMean"] = known[similar[0]]
            raise InvalidArgument("the method has no such argument", **details)  # type: ignore[arg-type]


def _convert(values: dict[str, Any], struct: type[Arguments], *, strict: bool = True) -> Arguments:
    converted = {}
    for field in _fields(struct):
        value = values.get(field.encode_name)
        if value is None:
            if field.required:
                absent = field.encode_name not in values
                raise (MissingArgument if absent else NullArgument)(parameter=field.encode_name)
            continue
        converted[field.name] = _check(value, field, strict=strict)
    try:
        return struct(**converted)
    except ValueError as error:  # what its __post_init__ refuses
        raise InvalidArgument(str(error), parameter="") from error


def _check(value: Any, field: msgspec.structs.FieldInfo, *, strict: bool) -> Any:
    if isinstance(value, str):
        if not value.strip():
            raise EmptyArgument(parameter=field.encode_name)
        if "\0" in value:
            raise InvalidArgument("it contains a NUL character", parameter=field.encode_name)
    try:
        return msgspec.convert(value, field.type, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidArgument(plain(str(error)), parameter=field.encode_name) from error


def plain(reason: str) -> str:
    """Return what a validation says, in JSON's words for types rather than Python's."""
    words = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object"}
    said = re.sub(r"`(\w+)(?: \| null)?`", lambda word: words.get(word[1], word[1]), reason)
    return said[:1].lower() + said[1:]
