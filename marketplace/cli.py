"""The `marketplace` command: parse, call, print, exit code.

Other packages add commands through the entry-point group ``marketplace.commands``.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import rich_click as click

from marketplace.errors import MissingAnswer, SetupError
from marketplace.installs import Install, InstallsFile, home
from marketplace.manifest import Manifest, Product, read_manifest
from marketplace.plugins import load_service
from marketplace.terminal import Terminal
from marketplace.wizard import Sources, Wizard

__all__ = ["main"]

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where a host answers that was not told otherwise."""


class _Commands(click.RichGroup):
    """Our commands and those that other packages add; what has to be mended is told in a line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *_added_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, loading the package that adds it."""
        if cmd_name in (added := _added_commands()):
            command: click.Command = added[cmd_name].load()
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; 2 is the exit code of a call that cannot be answered, 1 of all else."""
        try:
            return super().invoke(ctx)
        except SetupError as error:
            click.echo(f"{ctx.info_name}: {error}", err=True)
            ctx.exit(2 if isinstance(error, MissingAnswer) else 1)


def _added_commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="marketplace.commands")}


@click.group(cls=_Commands)
@click.version_option(version("chat-marketplace"), prog_name="marketplace")
def main() -> None:
    """Install services from the marketplace and run them."""


@main.command(name="list")
def list_products() -> None:
    """List the products on offer."""
    installed = InstallsFile(home()).load()
    for product in read_manifest().products:
        mark = ""
        if install := installed.get(product.name):
            notice = product.notice(install.answers)
            mark = f"  (installed, {notice})" if notice else "  (installed)"
        click.echo(f"{product.name} {product.version}  {product.summary}{mark}")


@main.command()
@click.argument("product")
@click.option(
    "--set", "options", multiple=True, metavar="NAME=VALUE", help="Answer an item; may be repeated."
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
def install(
    product: str,
    options: tuple[str, ...],
    trial: bool,
    everything: bool,
    no_input: bool,
    no_verify: bool,
    if_missing: bool,
) -> None:
    """Install PRODUCT: ask its configuration, try it, remember it.

    An answer comes from --set, else from the item's environment variable, else from the prompt, else
    it is the default.
    """
    installs = InstallsFile(home())
    wanted = read_manifest().product(product)
    known = installs.load()  # first of all: a damaged file is told before any question
    if if_missing and wanted.name in known:
        return _tell_better(wanted, known[wanted.name])
    person = Terminal() if sys.stdin.isatty() and not no_input else None
    if person and wanted.name in known and not person.agrees(f"{wanted.name} is installed. Replace it?"):
        return None
    sources = Sources(options=_pairs(options), environment=os.environ, person=person, everything=everything)
    wizard = Wizard(wanted, sources)
    try:
        answers = wizard.trial() if trial else wizard.gather()
    except MissingAnswer as error:
        if not if_missing or trial:
            raise
        answers = wizard.trial()
        click.echo(f"{error} Taking the trial.", err=True)
    made = wizard.settle(load_service(wanted), answers, verify=not no_verify)
    installs.save(made)
    notice = wanted.notice(made.answers)
    click.echo(f"{wanted.name} {wanted.version} is installed{f' ({notice})' if notice else ''}.")
    if not if_missing:
        _tell_next(wanted)
    return None


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise click.BadParameter("write it as NAME=VALUE.", param_hint="--set")
        pairs[name] = value
    return pairs


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
        "Start the host with `marketplace serve`, or anew if it runs. Then try, one after the other:\n"
    )
    for line in product.examples_at(DEFAULT_URL):
        click.echo(line)


@main.command()
@click.argument("product")
def uninstall(product: str) -> None:
    """Forget the install of PRODUCT; what its service stored in the database stays there."""
    InstallsFile(home()).remove(product)
    click.echo(
        f"{product} is uninstalled. What it stored in the database is still there."
        " A host that runs serves it until it is started anew."
    )


@main.command()
def services() -> None:
    """List what is installed."""
    installs = InstallsFile(home()).load()
    manifest = read_manifest()
    if not installs:
        click.echo(f"Nothing is installed in {home()}. `marketplace list` shows what is on offer.", err=True)
    for install in installs.values():
        notice = _notice(manifest, install)
        click.echo(f"{install.product} {install.version}{f'  ({notice})' if notice else ''}")


def _notice(manifest: Manifest, install: Install) -> str | None:
    product = manifest.find(install.product)
    return product.notice(install.answers) if product else "no longer on offer"
