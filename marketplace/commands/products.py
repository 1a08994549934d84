"""`marketplace list`, `show` and `schema`: what is on offer, and how it is written down."""

import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import rich_click as click

from marketplace.catalogue import Catalogue, catalogue
from marketplace.commands.parts import as_json, complete_products, open_installs
from marketplace.installs import Install
from marketplace.manifest import SERVICES, ConfigurationItem, Contact, Product, manifest_schema
from marketplace.output import examples, show_heading, show_json, show_rows, show_table

__all__ = ["list_products", "schema", "show"]


@click.command(
    name="list",
    epilog=examples(
        "marketplace list",
        "marketplace list --json",
    ),
)
@as_json
def list_products(as_json: bool) -> None:
    """List the products on offer."""
    installed = open_installs().load()
    offer = catalogue()
    states = [(product, _state(product, installed)) for product in offer.products]
    for problem in offer.problems:
        click.echo(problem, err=True)
    if as_json:
        show_json([_entry(product, offer, installed) for product in offer.products])
    elif sys.stdout.isatty():
        rows = [(p.name, p.version, p.section, p.summary, state) for p, state in states]
        show_table(("Product", "Version", "Section", "Summary", "State"), rows)
    else:
        show_rows([(f"{p.name} {p.version}", p.summary, state and f"({state})") for p, state in states])


def _state(product: Product, installed: dict[str, Install]) -> str:
    install = installed.get(product.name)
    if install is None:
        return ""
    notice = product.notice(install.answers)
    return f"installed, {notice}" if notice else "installed"


def _entry(product: Product, offer: Catalogue, installed: dict[str, Install]) -> dict[str, Any]:
    install = installed.get(product.name)
    return {
        "name": product.name,
        "version": product.version,
        "section": product.section,
        "summary": product.summary,
        "package": _package(product, offer),
        "installed": install.version if install else None,
        "notice": product.notice(install.answers) if install else None,
    }


def _package(product: Product, offer: Catalogue) -> str:
    package = offer.packages[product.name]
    return f"{package.name} {package.version}"


@click.command(
    epilog=examples(
        "marketplace show OpenAI",
        "marketplace show OpenAI --json",
    )
)
@click.argument("product", shell_complete=complete_products)
@as_json
def show(product: str, as_json: bool) -> None:
    """Show all about PRODUCT before it is installed; none of its code runs."""
    installed = open_installs().load()
    offer = catalogue()
    wanted = offer.product(product)
    if as_json:
        # `installed` and `package` are told as `list` tells them.
        whole = msgspec.structs.replace(wanted, configuration=[_public(i) for i in wanted.configuration])
        show_json(msgspec.to_builtins(whole) | _entry(wanted, offer, installed))
        return
    show_heading(f"{wanted.name} {wanted.version}")
    show_rows(
        [(text,) for text in (wanted.summary, "", wanted.description, "") if text or wanted.description]
    )
    show_rows(_facts(wanted, offer, installed))
    for heading, rows in _sections(wanted).items():
        if rows:
            click.echo()
            show_heading(heading)
            show_rows(rows, indent=2)


def _facts(product: Product, offer: Catalogue, installed: dict[str, Install]) -> list[tuple[str, str]]:
    facts = [
        ("Section:", product.section),
        ("Installed:", _state(product, installed).removeprefix("installed, ") or "no"),
        ("Rights:", offer.warning(product)),
    ]
    if product.documentation:
        facts.insert(1, ("Documentation:", product.documentation))
    if product.trial:
        way = f"{product.trial.label}, with `marketplace install {product.name} --trial`"
        facts.append(("Trial:", way))
    return facts


def _sections(product: Product) -> dict[str, Sequence[Sequence[str]]]:
    base = f"{SERVICES}/{product.name}"
    return {
        "It asks": [row for item in product.configuration for row in _question(item)],
        "It offers": [(m.name, f"{m.verb} {base}{m.route}", m.summary) for m in product.methods],
        "It stores": [(stored.where, stored.what) for stored in product.stores],
        "It talks to": [(_place(contact), contact.why) for contact in product.talks_to],
    }


def _place(contact: Contact) -> str:
    return f"{contact.host}, or as {contact.item} says" if contact.item else contact.host


def _public(item: ConfigurationItem) -> ConfigurationItem:
    return msgspec.structs.replace(item, default=None) if item.is_secret else item


def _question(item: ConfigurationItem) -> list[tuple[str, str]]:
    """Return what is asked, and below it what is good to know before one answers."""
    notes = [item.type.value]
    if item.options:
        notes.append(f"one of {', '.join(item.options)}")
    if item.default is not None:
        notes.append("has a default" if item.is_secret else f"default {item.spelled(item.default)}")
    elif item.required:
        notes.append("required")
    if item.env:
        notes.append(f"or from {item.env}")
    if not item.asked:
        notes.append("asked with --all")
    rows = [(item.name, f"{item.label} ({', '.join(notes)})")]
    return [*rows, ("", item.hint)] if item.hint else rows


@click.command(epilog=examples("marketplace schema > manifest.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a manifest, with which an editor checks and completes one."""
    show_json(manifest_schema())
