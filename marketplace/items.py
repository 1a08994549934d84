"""Configuration items: the questions of the wizard, and what is an answer to each."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from marketplace.errors import InvalidArgument
from marketplace.strict_yaml import Mistake
from marketplace.yaml_forms import kind_of, one_of, shown

__all__ = ["ANSWER", "ConfigurationItem", "ItemName", "ItemType", "Line", "Value", "repeated"]

Value = str | int | bool
"""An answer to a configuration item."""

ANSWER = Meta(extra={"expected": "text, a whole number, or yes or no", "private": True})
"""What goes with an answer that is written in a manifest: it may be a secret, and is never repeated."""

Line = Annotated[str, Meta(pattern=r"^[^\r\n]*\S[^\r\n]*$", extra={"expected": "a line of text"})]
"""Text on one line, not blank."""

ItemName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        extra={"expected": "a name of letters, digits and _ that begins with a letter"},
    ),
]
"""What an answer is called where it is remembered."""

Variable = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        extra={"expected": "the name of an environment variable, such as OPENAI_API_KEY"},
    ),
]

YES = ("yes", "y", "true")
NO = ("no", "n", "false")


class ItemType(StrEnum):
    """What an answer has to be.

    ``STRING`` is a line and ``TEXT`` may have several, ``BOOL`` is yes or no, ``INT`` a whole number,
    ``CHOICE`` one of the item's options, and ``SECRET`` a line that is never shown.
    """

    STRING = "STRING"
    TEXT = "TEXT"
    BOOL = "BOOL"
    INT = "INT"
    CHOICE = "CHOICE"
    SECRET = "SECRET"  # noqa: S105


class ConfigurationItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question of the wizard."""

    name: Annotated[ItemName, Meta(description="What the answer is called, unique in the product.")]
    label: Annotated[Line, Meta(description="The question, in a few words.")]
    type: Annotated[ItemType, Meta(description="What an answer has to be.")]
    hint: Annotated[str, Meta(description="A sentence that helps to answer.")] = ""
    default: Annotated[
        Value | None,
        ANSWER,
        Meta(description="The answer where nobody gives another."),
    ] = None
    required: Annotated[bool, Meta(description="Whether there has to be an answer.")] = False
    options: Annotated[list[Line], Meta(description="The possible answers to a CHOICE.")] = []
    env: Annotated[Variable | None, Meta(description="The environment variable that may answer.")] = None
    asked: Annotated[
        bool,
        Meta(description="Whether it is asked each time; otherwise the default stands unless it is set."),
    ] = True

    @property
    def is_secret(self) -> bool:
        """Whether the answer must never be shown."""
        return self.type is ItemType.SECRET

    @property
    def expected(self) -> str:
        """What an answer has to be, in words."""
        match self.type:
            case ItemType.BOOL:
                return "yes or no"
            case ItemType.INT:
                return "a whole number"
            case ItemType.CHOICE:
                return one_of(self.options)
            case ItemType.TEXT:
                return "text"
        return "a line of text"

    def parse(self, text: str) -> Value:
        """Turn what somebody typed into an answer.

        Raises:
            InvalidArgument: if it is none; the text says what was expected. It does not repeat a secret.
        """
        text = text.strip()
        answer = self._answer(text)
        if answer is None:
            seen = "something else" if self.is_secret else shown(text)
            raise InvalidArgument(f"expected {self.expected}, not {seen}", parameter=self.name)
        return answer

    def spelled(self, answer: Value) -> str:
        """Return what somebody would type to give this answer."""
        if isinstance(answer, bool):
            return YES[0] if answer else NO[0]
        return str(answer)

    def refusal(self, answer: Value) -> str | None:
        """Return why something that is written in a manifest is no answer, without repeating it."""
        kind = {ItemType.BOOL: bool, ItemType.INT: int}.get(self.type, str)
        if type(answer) is not kind:
            hint = " in quotes" if kind is str else " without quotes" if isinstance(answer, str) else ""
            return f"expected {self.expected}{hint}, not {kind_of(answer)}"
        if isinstance(answer, str) and not answer.strip():
            return f"expected {self.expected}, not an empty text"
        if self._answer(self.spelled(answer).strip()) in (answer, self.spelled(answer).strip()):
            return None
        return f"expected {self.expected}"

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what makes no sense in a manifest; see `Mistake`."""
        is_choice = self.type is ItemType.CHOICE
        kind = (("type",),)
        if is_choice and not self.options:
            yield Mistake(("options",), "a CHOICE needs options to choose from", kind)
        if self.options and not is_choice:
            yield Mistake(
                ("options",), f"only a CHOICE has options, and this is {self.type}", kind, on_key=True
            )
        yield from repeated("options", None, self.options)
        can_judge = self.options or not is_choice
        if self.default is not None and can_judge and (why := self.refusal(self.default)):
            yield Mistake(("default",), why, (*kind, ("options",)))
        if self.required and self.default is None:
            yield from self._unanswerable()

    def _unanswerable(self) -> Iterator[Mistake]:
        needs = (("type",), ("required",), ("default",), ("env",))
        if not self.asked:
            text = "an item that is required and has no default has to be asked"
            yield Mistake(("asked",), text, needs, on_key=True)
        if self.is_secret and not self.env:
            text = "a required SECRET needs env: nobody could answer it without a terminal"
            yield Mistake(("env",), text, needs)

    def _answer(self, text: str) -> Value | None:
        if re.search("[\0\ud800-\udfff]", text):  # what neither JSON nor a database keeps
            return None
        match self.type:
            case ItemType.BOOL:
                return {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}.get(text.lower())
            case ItemType.INT:
                return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else None
            case ItemType.CHOICE:
                alike = [option for option in self.options if option.lower() == text.lower()]
                return text if text in self.options else alike[0] if len(alike) == 1 else None
            case ItemType.STRING:
                return None if re.search(r"[\r\n]", text) else text
        return text


def repeated(where: str, field: str | None, values: Sequence[str | None]) -> Iterator[Mistake]:
    """Yield a mistake for each of the ``values``, of a ``field`` in the list ``where``, that came before."""
    for number, value in enumerate(values):
        first = values.index(value)
        if value is not None and first < number:
            at, before = ((where, n, *([field] if field else ())) for n in (number, first))
            yield Mistake(at, f"{shown(value)} is there already, in {where}[{first}]", (before,))
