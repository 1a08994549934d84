"""What the types of a struct want of a YAML node, whether it is that, and how both are called in words."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec.inspect as mi
import yaml

__all__ = [
    "accepts",
    "fits",
    "hint",
    "is_merge",
    "kind_of",
    "one_of",
    "placeholder",
    "scalar",
    "seen",
    "shown",
    "words",
]

TAG = "tag:yaml.org,2002:"
TAGS = {
    mi.StructType: "map",
    mi.DictType: "map",
    mi.ListType: "seq",
    mi.IntType: "int",
    mi.BoolType: "bool",
    mi.NoneType: "null",
}
"""Which of YAML's tags a type wants; all others want text."""

NAMED = {
    "map": "keys with values",
    "seq": "a list",
    "str": "text",
    "int": "number",
    "float": "number",
    "bool": "boolean",
    "timestamp": "date",
    "null": "nothing",
}

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal might obey, and what is no character."""


def shown(text: str, most: int = 60) -> str:
    """Return ``text`` as it can be shown in a line."""
    return repr(text if len(text) <= most else f"{text[:most]}...")


def kind_of(value: str | int | bool) -> str:
    """Return in words what kind of value it is, without telling the value."""
    return {bool: "a boolean", int: "a number"}.get(type(value), "text")


def one_of(names: Iterable[object]) -> str:
    """Return the names as a choice."""
    return f"one of {', '.join(map(str, names))}"


def _bare(form: mi.Type) -> Any:
    return _bare(form.type) if isinstance(form, mi.Metadata) else form


def fits(node: yaml.Node, form: mi.Type) -> bool:
    """Say whether the node has the shape that is wanted, whatever is in it."""
    form = _bare(form)
    if isinstance(form, mi.UnionType):
        return any(fits(node, member) for member in form.types)
    return str(node.tag) == TAG + TAGS.get(type(form), "str")


def accepts(form: mi.Type, text: str) -> bool:
    """Say whether ``text``, of a scalar of the right shape, may stand there."""
    match form:
        case mi.StrType(pattern=pattern):
            return not CONTROL.search(text) and (pattern is None or bool(re.fullmatch(pattern, text)))
        case mi.IntType():
            # YAML 1.1 reads 010 as eight and 1:30 as ninety.
            return bool(re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", text))
        case mi.EnumType() | mi.LiteralType():
            return text in _choices(form)
    return True


def _choices(form: mi.EnumType | mi.LiteralType) -> list[str]:
    return [str(choice) for choice in (form.cls if isinstance(form, mi.EnumType) else form.values)]


def scalar(form: mi.Type, text: str) -> Any:
    """Return the value of a scalar that is accepted."""
    match form:
        case mi.IntType():
            return int(text)
        case mi.BoolType():
            return yaml.SafeLoader.bool_values[text.lower()]
        case mi.EnumType():
            return form.cls(text)
        case mi.NoneType():
            return None
    return text


def placeholder(form: mi.Type) -> Any:
    """Return a value to stand for a mistaken one, so that all the rest can be checked."""
    match _bare(form):
        case mi.UnionType(types=types):
            return None if any(isinstance(kind, mi.NoneType) for kind in types) else placeholder(types[0])
        case mi.StructType(cls=cls, fields=fields):
            return cls(**{field.name: placeholder(field.type) for field in fields if field.required})
        case mi.ListType():
            return []
        case mi.DictType():
            return {}
        case mi.IntType() | mi.BoolType():
            return 0
        case mi.EnumType(cls=cls):
            return next(iter(cls))
    return ""


def words(form: mi.Type) -> str:
    """Return in words what is wanted."""
    match form:
        case mi.Metadata(type=inner, extra=extra):
            return str((extra or {}).get("expected") or words(inner))
        case mi.UnionType(types=types):
            return " or ".join(words(kind) for kind in types if not isinstance(kind, mi.NoneType))
        case mi.StructType(fields=fields):
            names = [field.encode_name for field in fields if field.required]
            return f"the key{'s' if len(names) != 1 else ''} {', '.join(names)}"
        case mi.EnumType() | mi.LiteralType():
            return one_of(_choices(form))
    others = {mi.IntType: "a whole number", mi.BoolType: "yes or no", mi.ListType: "a list"}
    return others.get(type(form), "keys with values" if isinstance(form, mi.DictType) else "text")


def seen(node: yaml.Node, *, is_private: bool = False) -> str:
    """Return in words what is there."""
    tag = str(node.tag)
    kind = NAMED.get(tag.removeprefix(TAG), f"something of the type {shown(tag)}")
    if not isinstance(node, yaml.ScalarNode) or kind == "nothing":
        return kind
    if is_private:
        return kind if kind == "text" else f"a {kind}"
    return shown(node.value) if kind == "text" else f"the {kind} {shown(node.value)[1:-1]}"


def is_merge(key: yaml.Node) -> bool:
    """Say whether this key is the ``<<`` of YAML 1.1."""
    return str(key.tag) == f"{TAG}merge"


def hint(node: yaml.Node, form: mi.Type) -> str:
    """Tell what is easily overlooked: text is read as something else, or has what is not seen."""
    if not isinstance(node, yaml.ScalarNode):
        return ""
    if CONTROL.search(node.value):
        return ": it has control characters"
    forms = [_bare(kind) for kind in form.types] if isinstance(form, mi.UnionType) else [form]
    wants_text = any(isinstance(kind, mi.StrType) for kind in forms)
    is_other = node.tag not in (f"{TAG}str", f"{TAG}null") and str(node.tag).startswith(TAG)
    return ": put it in quotes" if wants_text and is_other else ""
