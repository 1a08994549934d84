"""`marketplace install`: ask what a product needs, try it, remember it."""

import os
import sys

import msgspec
import rich_click as click

from marketplace.address import host_url
from marketplace.catalogue import Catalogue, catalogue
from marketplace.commands.parts import (
    as_json,
    complete_items,
    complete_products,
    open_installs,
    pairs,
)
from marketplace.errors import MissingAnswer
from marketplace.installs import Install
from marketplace.manifest import SERVICES, Product, Value
from marketplace.output import examples, show_json
from marketplace.plugins import load_service
from marketplace.terminal import Terminal
from marketplace.wizard import Sources, Wizard

__all__ = ["install"]


class _Options(msgspec.Struct, frozen=True):
    """What was said on the command line."""

    settings: dict[str, str]
    trial: bool
    everything: bool
    no_input: bool
    no_verify: bool
    if_missing: bool


@click.command(
    epilog=examples(
        "marketplace install OpenAI",
        "marketplace install OpenAI --trial",
        "marketplace install OpenAI --no-input --set model=gpt-4o --json",
    )
)
@click.argument("product", shell_complete=complete_products)
@click.option(
    "--set",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=complete_items,
    help="Answer an item; may be repeated.",
)
@click.option("--trial", is_flag=True, help="Try the product without an account of your own.")
@click.option("--all", "everything", is_flag=True, help="Ask every item, not only the usual ones.")
@click.option("--no-input", is_flag=True, help="Ask nothing; a missing answer is an error.")
@click.option("--no-verify", is_flag=True, help="Do not try the answers before they are remembered.")
@click.option(
    "--if-missing",
    is_flag=True,
    help="Do nothing if it is installed; take the trial where nobody can be asked.",
)
@as_json
def install(product: str, options: tuple[str, ...], as_json: bool, **flags: bool) -> None:
    """Install PRODUCT: ask its configuration, try it, remember it.

    An answer comes from --set, else from the item's environment variable, else from the prompt, else
    it is the default. A running host takes the service up within two seconds.
    """
    offer = catalogue()
    wanted = offer.product(product)
    said = _Options(settings=pairs(options), **flags)
    before = open_installs().load().get(wanted.name)  # first of all: a damaged file is told at once
    made = _install(wanted, offer, before, said)
    if as_json:
        _tell_programs(wanted, made or before, changed=made is not None)
    elif made:
        notice = wanted.notice(made.answers)
        click.echo(f"{wanted.name} {wanted.version} is installed{f' ({notice})' if notice else ''}.")
        if not said.if_missing:
            _tell_next(wanted)


def _install(product: Product, offer: Catalogue, before: Install | None, said: _Options) -> Install | None:
    """Install ``product``, unless it turns out that it is to stay as it is."""
    if said.if_missing and before:
        _tell_better(product, before)
        return None
    person = Terminal() if sys.stdin.isatty() and not said.no_input else None
    if person and before and not person.agrees(f"{product.name} is installed. Replace it?"):
        return None
    click.echo(offer.warning(product), err=True)
    sources = Sources(
        options=said.settings, environment=os.environ, person=person, everything=said.everything
    )
    wizard = Wizard(product, sources)
    answers = _answers(wizard, said)
    made = wizard.settle(load_service(product), answers, verify=not said.no_verify)
    made = msgspec.structs.replace(made, package=offer.package_of(product.name))
    open_installs().save(made)
    return made


def _answers(wizard: Wizard, said: _Options) -> dict[str, Value]:
    if said.trial:
        return wizard.trial()
    try:
        return wizard.gather()
    except MissingAnswer as error:
        if not said.if_missing:
            raise
        answers = wizard.trial()
        click.echo(f"{error} Taking the trial.", err=True)
        return answers


def _tell_better(product: Product, installed: Install) -> None:
    """Say so if a trial goes on although there is a key now."""
    notice = product.notice(installed.answers)
    found = [item.env for item in product.configuration if item.required and item.env in os.environ]
    if notice and found:
        click.echo(
            f"{product.name} is installed with the {notice}. To take {found[0]} instead, run:"
            f" marketplace install {product.name}",
            err=True,
        )


def _tell_next(product: Product) -> None:
    click.echo(
        "Start the host with `marketplace serve`; one that runs takes it over within two seconds."
        " Then try, one after the other:\n"
    )
    for line in product.examples_at(host_url()):
        click.echo(line)


def _tell_programs(product: Product, install: Install | None, *, changed: bool) -> None:
    show_json(
        {
            "product": product.name,
            "version": install.version if install else None,
            "notice": product.notice(install.answers) if install else None,
            "changed": changed,
            "path": f"{SERVICES}/{product.name}",
        }
    )
