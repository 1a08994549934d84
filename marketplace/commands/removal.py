"""`marketplace uninstall`: forget an install, and if so wished what its service stored."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Any, TypeVar

import rich_click as click

from marketplace.catalogue import catalogue
from marketplace.commands.hosts import open_client
from marketplace.commands.parts import as_json, complete_installed, open_installs
from marketplace.errors import (
    BadCall,
    DataNotDropped,
    MarketplaceError,
    NoHost,
    PluginError,
    ProductNotFound,
    SettingsError,
)
from marketplace.installs import FromEnvironment, Install
from marketplace.interfaces import Host, Service
from marketplace.manifest import Value
from marketplace.output import examples, harmless, show_json
from marketplace.plugins import configure, load_service
from marketplace.terminal import Terminal

__all__ = ["uninstall"]

LET_GO = 5.0
"""Seconds that a running host is given to let go of a service; it takes two."""

Result = TypeVar("Result")


@click.command(
    epilog=examples(
        "marketplace uninstall OpenAI",
        "marketplace uninstall OpenAI --drop-data",
        "marketplace uninstall OpenAI --drop-data --yes --json",
    )
)
@click.argument("product", shell_complete=complete_installed)
@click.option("--drop-data", is_flag=True, help="Delete for good what its service stored, after asking.")
@click.option("--yes", is_flag=True, help="Do not ask before data is deleted.")
@as_json
def uninstall(product: str, drop_data: bool, yes: bool, as_json: bool) -> None:
    """Forget the install of PRODUCT, and tell what its service stored.

    That is kept, unless --drop-data is given. A running host lets go of the service within two seconds.
    """
    install = open_installs().load().get(product)
    if install is None:
        raise ProductNotFound(f"{product} is not installed.")
    stored, unknown = _stored(install)
    if not drop_data:
        open_installs().remove(product)
        _tell_kept(product, stored, unknown, as_json=as_json)
        return
    if unknown:
        raise DataNotDropped(
            f"What {product} stored cannot be dropped: {unknown} Nothing has changed."
            " Without --drop-data it can be uninstalled all the same."
        )
    if stored and not _is_agreed(product, stored, yes=yes):
        click.echo(f"{product} stays installed, and its data is kept.", err=True)
        return
    _remove_and_drop(install)
    _tell_dropped(product, stored, as_json=as_json)


def _is_agreed(product: str, stored: Sequence[str], *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise BadCall("Nobody can be asked whether data may be deleted. Add --yes if it may.")
    person = Terminal()
    person.tell(f"{product} has stored:")
    for line in stored:
        person.tell(f"  {harmless(line)}")
    return person.agrees("Delete that for good?")


def _remove_and_drop(install: Install) -> None:
    """Forget the install, and then delete the data.

    In that order, because a host that still serves it would store more meanwhile, and make tables anew
    that are gone. So the host at MARKETPLACE_URL, if there is one, is given time to let go. A host
    elsewhere is not waited for: should it store something in those two seconds, that remains. If the data
    cannot be deleted, the install is put back, so that the command can be given again.
    """
    installs = open_installs()
    try:
        installs.remove(install.product)
        _wait_for_host(install.product)
        _with_service(install, lambda service: service.drop_data())
    except BaseException as error:  # Ctrl-C, too, at whatever instant
        if install.product not in installs.load():
            installs.save(install)
        if isinstance(error, Exception):
            text = f"What {install.product} stored could not be dropped: {_reason(error)} It stays installed."
            raise DataNotDropped(text) from error
        raise


def _wait_for_host(name: str) -> None:
    """Wait until the running host, if there is one, no longer serves ``name``; say so if it goes on."""
    try:
        client = open_client()
        deadline = time.monotonic() + LET_GO
        while any(service.name == name for service in client.services(timeout=LET_GO)):
            if time.monotonic() > deadline:
                click.echo(
                    f"The host at {client.url} still serves {name}. If it is a host of this home, stop it:"
                    " whatever it stores from now on remains.",
                    err=True,
                )
                return
            time.sleep(0.1)
    except (NoHost, SettingsError):
        return


def _stored(install: Install) -> tuple[Sequence[str], str | None]:
    """Return what the service has stored, and if that cannot be found out, why."""
    try:
        return _with_service(install, lambda service: service.stored_data()), None
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
        return (), _reason(error)


def _with_service(install: Install, use: Callable[[Service[Any]], Awaitable[Result]]) -> Result:
    """Return what ``use`` does with the service, which is made as a host makes it, but not started."""
    lend = _facilities()
    product = catalogue().product(install.product, package=install.package)
    kind = load_service(product)
    configuration = configure(kind, product.defaults() | _values(install))

    async def run() -> Result:
        async with lend() as host:
            return await use(kind(configuration, host))

    return asyncio.run(run())


def _facilities() -> Callable[[], AbstractAsyncContextManager[Host]]:
    for entry in entry_points(group="marketplace.facilities"):
        lend: Callable[[], AbstractAsyncContextManager[Host]] = entry.load()
        return lend
    raise PluginError("There is no host here whose database could be looked into.")


def _values(install: Install) -> dict[str, Value]:
    """Return the answers; the name stands for the value of a variable that is not set here."""
    return {
        name: (os.environ.get(answer.name) or answer.name) if isinstance(answer, FromEnvironment) else answer
        for name, answer in install.answers.items()
    }


def _reason(error: Exception) -> str:
    if not isinstance(error, MarketplaceError):
        return f"{type(error).__name__}."
    text = harmless(str(error))
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _tell_kept(product: str, stored: Sequence[str], unknown: str | None, *, as_json: bool) -> None:
    if as_json:
        _tell_programs(product, None if unknown else stored, dropped=False)
        return
    click.echo(f"{product} is uninstalled. A running host lets go of it within two seconds.")
    if unknown:
        click.echo(f"What it stored is kept; what that is could not be found out: {unknown}")
    elif stored:
        click.echo("What it stored is kept:")
        for line in stored:
            click.echo(f"  {harmless(line)}")
        click.echo(f"To delete that, install {product} again and uninstall it with --drop-data.")
    else:
        click.echo("It has stored nothing in the database.")
    click.echo("What it keeps in the cache expires by itself.")


def _tell_dropped(product: str, stored: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        _tell_programs(product, stored, dropped=True)
        return
    click.echo(f"{product} is uninstalled. A running host lets go of it within two seconds.")
    click.echo("Deleted:" if stored else "It had stored nothing in the database.")
    for line in stored:
        click.echo(f"  {harmless(line)}")
    click.echo("What it keeps in the cache expires by itself.")


def _tell_programs(product: str, stored: Sequence[str] | None, *, dropped: bool) -> None:
    show_json({"product": product, "stored": None if stored is None else list(stored), "dropped": dropped})
