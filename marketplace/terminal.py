"""The person at the terminal, asked on standard error so that standard output stays clean."""

from collections.abc import Iterator

import rich_click as click

from marketplace.errors import InvalidArgument
from marketplace.manifest import ConfigurationItem, ItemType, Value

__all__ = ["Terminal", "warn"]


def warn(text: str) -> None:
    """Print a line on standard error."""
    click.echo(text, err=True)


class Terminal:
    """Asks and tells through the terminal; what is secret is not echoed."""

    def ask(self, item: ConfigurationItem, *, otherwise: str | None) -> Value | None:
        """Ask until there is an answer to ``item``; None stands for Enter alone."""
        self.tell("")
        for line in (item.hint, _form(item), otherwise and f"Enter alone {otherwise}."):
            if line:
                self.tell(line)
        may_be_empty = otherwise is not None or not item.required
        while True:
            answer = self._answer(item, may_be_empty=may_be_empty)
            if not answer and may_be_empty:
                return None
            try:
                if answer:
                    return item.parse(answer)
            except InvalidArgument as error:
                self.tell(f"{item.label}: {error}.")

    def tell(self, text: str) -> None:
        """Print a line."""
        warn(text)

    def agrees(self, question: str) -> bool:
        """Ask for yes or no; Enter alone is no."""
        return click.confirm(question, default=False, err=True)

    def _answer(self, item: ConfigurationItem, *, may_be_empty: bool) -> str:
        default = None if item.default is None else item.spelled(item.default)
        label = f"{item.label} (not shown)" if item.is_secret else item.label
        if default is not None and not item.is_secret:
            label += f" [{_first_line(default)}]"
        answer = self._prompt(label, may_be_empty=may_be_empty or default is not None, hide=item.is_secret)
        if not answer.strip():
            return default or ""
        return "\n".join([answer, *self._more_lines()]) if item.type is ItemType.TEXT else answer

    def _more_lines(self) -> Iterator[str]:
        while line := self._prompt("", suffix="> ", may_be_empty=True):
            yield line

    def _prompt(self, text: str, *, may_be_empty: bool, suffix: str = ": ", hide: bool = False) -> str:
        answer: str = click.prompt(
            text,
            default="" if may_be_empty else None,
            show_default=False,
            hide_input=hide,
            prompt_suffix=suffix,
            err=True,
        )
        return answer


def _form(item: ConfigurationItem) -> str:
    """Return how the answer is typed, where the question does not say it."""
    match item.type:
        case ItemType.CHOICE:
            return f"One of {', '.join(item.options)}."
        case ItemType.BOOL:
            return "Yes or no."
        case ItemType.TEXT:
            return "In one line or several; an empty line ends it."
        case ItemType.SECRET if item.default is not None:
            return "Enter alone takes the one there is."
    return ""


def _first_line(text: str) -> str:
    first, *others = text.split("\n")
    return f"{first} ..." if others else first
