"""What the commands show: tables and colour at a terminal, plain lines and JSON everywhere else."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["examples", "harmless", "show_heading", "show_json", "show_rows", "show_table"]


def examples(*lines: str) -> str:
    """Return the end of a command's help: the ``lines``, each a command that works when pasted."""
    return "\n\n".join(("Examples:", *lines))  # one line break alone would be taken for a space


def harmless(text: str) -> str:
    """Return ``text`` without the control characters with which a stranger could steer the terminal."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) != "Cc")


def show_json(value: Any) -> None:
    """Print ``value`` as JSON, for programs and, indented, for people."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if sys.stdout.isatty():
        _console().print_json(text, indent=2, ensure_ascii=False)
    else:
        click.echo(text)


def show_heading(text: str) -> None:
    """Print a line that stands out at a terminal."""
    if sys.stdout.isatty():
        _console().print(harmless(text), style="bold")
    else:
        click.echo(text)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` under the names of their ``columns``; for a terminal only."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*map(_cell, row))
    _console().print(table)


def show_rows(rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """Print ``rows``: aligned at a terminal, otherwise a line each, with two spaces between its cells."""
    if not sys.stdout.isatty():
        for row in rows:
            # What continues the row above begins with an empty cell.
            deeper = indent + 2 * (not row[0] and len(row) > 1)
            click.echo(" " * deeper + "  ".join(cell for cell in row if cell))
        return
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*map(_cell, row))
    _console().print(Padding(table, (0, 0, 0, indent)))


def _cell(text: str) -> Any:
    from rich.text import Text

    words = {"ok": "green", "installed": "green", "failed": "red", "not running": "yellow"}
    return Text(harmless(text), style=words.get(text, ""))


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
