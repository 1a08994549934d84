"""What several commands have in common: where they look, their options, and names to complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from click.shell_completion import CompletionItem

from marketplace.catalogue import catalogue
from marketplace.errors import BadCall, SetupError
from marketplace.installs import InstallsFile, home

__all__ = [
    "as_json",
    "beginning",
    "complete_installed",
    "complete_items",
    "complete_products",
    "open_installs",
    "pairs",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def as_json(command: Function) -> Function:
    """Give ``command`` the option that every command has which a script may want to read."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    return option(command)


def open_installs() -> InstallsFile:
    """Return what is remembered in the home."""
    return InstallsFile(home())


def pairs(options: tuple[str, ...]) -> dict[str, str]:
    """Return the answers that were given as ``NAME=VALUE``.

    Raises:
        BadCall: if one is not written that way.
    """
    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise BadCall("Write what you --set as NAME=VALUE.")
        found[name] = value
    return found


def complete_products(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a product on offer."""
    try:
        offered = [CompletionItem(product.name, help=product.summary) for product in catalogue().products]
    except SetupError:
        return []
    return beginning(offered, incomplete)


def complete_installed(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a product that is installed."""
    try:
        installed = [CompletionItem(name) for name in open_installs().load()]
    except SetupError:
        return []
    return beginning(installed, incomplete)


def complete_items(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of an item that can be set."""
    # With --set half typed, click does not know the product yet.
    typed = os.environ.get("COMP_WORDS", "").split()
    try:
        products = [product for product in catalogue().products if product.name in typed]
    except SetupError:
        return []
    items = [item for product in products for item in product.configuration]
    settable = [CompletionItem(f"{item.name}=", help=item.label) for item in items if not item.is_secret]
    return beginning(settable, incomplete)


def beginning(items: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    """Return those of the ``items`` that begin with what was typed, upper or lower case."""
    return [item for item in items if item.value.lower().startswith(incomplete.lower())]
