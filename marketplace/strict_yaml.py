"""Read YAML strictly into a struct, and tell every mistake with its line and column, all of them at once.

What may stand where is taken from the struct's types. What makes no sense although its types are right is
found by the struct's own ``mistakes``, which are placed here. A pattern has to match the whole text; its
``expected`` says it in words, and a ``private`` value is never repeated::

    version: Annotated[str, msgspec.Meta(pattern="^[0-9.]+$", extra={"expected": "a version"})]
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import msgspec.inspect as mi
import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from marketplace.errors import ManifestError
from marketplace.yaml_forms import (
    accepts,
    fits,
    hint,
    is_merge,
    one_of,
    placeholder,
    scalar,
    seen,
    shown,
    words,
)

__all__ = ["Checked", "Keys", "Mistake", "read_strictly"]

Keys = tuple[str | int, ...]
"""The keys, and positions in lists, that lead to a value."""

DEEPEST = 32
"""How deep a file may be nested."""


class Mistake(msgspec.Struct, frozen=True):
    """Something that makes no sense.

    It is told unless the value ``at`` these keys is mistaken already, or one of those it ``needs`` to be
    judged by. A mistake ``on_key`` is that the last of the keys is there at all.
    """

    at: Keys
    text: str
    needs: Sequence[Keys] = ()
    on_key: bool = False

    def inside(self, *keys: str | int) -> "Mistake":
        """Return the same mistake, seen from further out."""
        needs = [(*keys, *need) for need in self.needs]
        return msgspec.structs.replace(self, at=(*keys, *self.at), needs=needs)


class Checked(Protocol):
    """A struct that knows what makes no sense in it."""

    def mistakes(self) -> Iterator[Mistake]:
        """Yield everything that does not."""


CheckedT = TypeVar("CheckedT", bound=Checked)


def read_strictly(content: bytes, kind: type[CheckedT], *, name: str) -> CheckedT:
    """Return ``content``, the file ``name``, as a struct of the given ``kind``.

    Raises:
        ManifestError: with a line ``NAME:LINE:COLUMN: KEYS: ...`` for each mistake.
    """
    reading = _Reading()
    value = reading.read_all(content, kind)
    if value is not None and not reading.told:
        return value
    lines = "\n".join(f"{name}:{line}:{column}: {text}" for line, column, text in sorted(set(reading.told)))
    raise ManifestError(f"{name} cannot be used:\n{lines}")


class _Loader(yaml.SafeLoader):
    """Composes nodes down to a depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and all below it."""
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reading:
    """One file being read: the mistakes so far, and where everything is."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, str]] = []
        self._wrong: set[Keys] = set()
        self._nodes: dict[Keys, tuple[yaml.Node, yaml.Node]] = {}

    def read_all(self, content: bytes, kind: type[CheckedT]) -> CheckedT | None:
        """Read the file; what is mistaken in it is replaced by nothing in particular."""
        node = self._compose(content)
        form = mi.type_info(kind)
        if node is None:
            if not self.told:
                self._tell_at(1, 1, f"the file is empty; expected {words(form)}")
            return None
        self._nodes[()] = (node, node)
        value: CheckedT = self._read(node, form, ())
        for mistake in value.mistakes():
            if not any(
                _overlap(wrong, keys) for wrong in self._wrong for keys in (mistake.at, *mistake.needs)
            ):
                self._tell(self._nearest(mistake), mistake.at, mistake.text)
        return value

    def _compose(self, content: bytes) -> yaml.Node | None:
        """Return the root of the file; what is no YAML is told, and has none."""
        try:
            loader = _Loader(content.decode())
        except UnicodeDecodeError as error:
            text = f"byte {error.start} is not UTF-8: save the file in that encoding"
            self._tell_after(content[: error.start].decode(), text)
            return None
        except ReaderError as error:
            text = f"{chr(error.character)!r} may not stand in YAML"
            self._tell_after(content.decode()[: error.position], text)
            return None
        try:
            return loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or loader.get_mark()
            text = f"{error.context}, {error.problem}" if error.context else str(error.problem)
        except (ValueError, OverflowError):
            mark, text = loader.get_mark(), "there is no such character or number"
        self._tell_at(mark.line + 1, mark.column + 1, text)
        return None

    def _tell_after(self, before: str, text: str) -> None:
        lines = before.split("\n")
        self._tell_at(len(lines), len(lines[-1]) + 1, text)

    def _tell_at(self, line: int, column: int, text: str) -> None:
        """Tell a mistake; lines and columns are counted from 1."""
        self.told.append((line, column, text))

    def _tell(self, node: yaml.Node, keys: Keys, text: str) -> None:
        spelled = "".join(f"[{key}]" if isinstance(key, int) else f".{_key(key)}" for key in keys)
        mark = node.start_mark
        self._tell_at(mark.line + 1, mark.column + 1, f"{spelled[1:]}: {text}" if spelled else text)

    def _nearest(self, mistake: Mistake) -> yaml.Node:
        keys = mistake.at
        while keys not in self._nodes:
            keys = keys[:-1]
        return self._nodes[keys][0 if mistake.on_key and keys == mistake.at else 1]

    def _refuse(self, node: yaml.Node, keys: Keys, text: str) -> None:
        self._wrong.add(keys)
        self._tell(node, keys, text)

    def _read(
        self, node: yaml.Node, form: mi.Type, keys: Keys, extra: Mapping[str, Any] | None = None
    ) -> Any:
        extra = extra or {}
        if isinstance(form, mi.Metadata):
            return self._read(node, form.type, keys, {**extra, **(form.extra or {})})
        if isinstance(form, mi.UnionType):
            member = next((member for member in form.types if fits(node, member)), None)
            if member is not None:
                return self._read(node, member, keys, extra)
        elif fits(node, form):
            if isinstance(node, yaml.MappingNode):
                return self._read_mapping(node, form, keys)
            if isinstance(node, yaml.SequenceNode):
                return self._read_list(node, form, keys)
            if accepts(form, node.value):
                return scalar(form, node.value)
        expected = extra.get("expected") or words(form)
        there = seen(node, is_private=extra.get("private", False))
        self._refuse(node, keys, f"expected {expected}, not {there}{hint(node, form)}")
        return placeholder(form)

    def _read_list(self, node: yaml.SequenceNode, form: Any, keys: Keys) -> list[Any]:
        values = []
        for number, item in enumerate(node.value):
            self._nodes[*keys, number] = (item, item)
            values.append(self._read(item, form.item_type, (*keys, number)))
        return values

    def _read_mapping(self, node: yaml.MappingNode, form: Any, keys: Keys) -> Any:
        pairs = self._pairs(node, keys)
        if isinstance(form, mi.StructType):
            return self._read_struct(node, pairs, form, keys)
        return {key: self._read(value, form.value_type, (*keys, key)) for key, value in pairs.items()}

    def _read_struct(
        self, node: yaml.Node, pairs: dict[str, yaml.Node], form: mi.StructType, keys: Keys
    ) -> Any:
        known = {field.encode_name: field for field in form.fields}
        absent = known.keys() - pairs.keys()
        misspelt = {key: _similar(key, absent) or _similar(key, known) for key in pairs.keys() - known.keys()}
        for key, meant in misspelt.items():
            instead = f"did you mean {meant}?" if meant else f"expected {one_of(known)}"
            self._refuse(self._nodes[*keys, key][0], (*keys, key), f"unknown key; {instead}")
        values = {}
        for key, field in known.items():
            if key in pairs:
                values[field.name] = self._read(pairs[key], field.type, (*keys, key))
            elif key in misspelt.values():
                self._wrong.add((*keys, key))
            elif field.required:
                self._refuse(node, (*keys, key), f"missing; expected {words(field.type)}")
            if field.required:
                values.setdefault(field.name, placeholder(field.type))
        return form.cls(**values)

    def _pairs(self, node: yaml.MappingNode, keys: Keys) -> dict[str, yaml.Node]:
        pairs: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                self._refuse(key, keys, f"expected a name as the key, not {seen(key)}")
            elif is_merge(key):
                self._refuse(key, (*keys, name), "is not merged here: write the keys out")
            elif name in pairs:
                first = self._nodes[*keys, name][0].start_mark.line + 1
                self._refuse(key, (*keys, name), f"given twice; first in line {first}")
            else:
                pairs[name] = value
                self._nodes[*keys, name] = (key, value)
        return pairs


def _overlap(one: Keys, other: Keys) -> bool:
    return one[: len(other)] == other[: len(one)]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w.-]{1,60}", key) else shown(key)


def _similar(key: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, n=1)), None)
