"""The `marketplace` command: parse, call, print, exit code.

Other packages add commands through the entry-point group ``marketplace.commands``.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import rich_click as click

from marketplace.errors import MissingAnswer, ProductNotFound, SetupError
from marketplace.installs import InstallsFile, home
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
    is_installed = wanted.name in installs.load()  # read first: a damaged file is told before any question
    if is_installed and if_missing:
        return
    person = Terminal() if sys.stdin.isatty() and not no_input else None
    wizard = Wizard(
        wanted,
        Sources(options=_pairs(options), environment=os.environ, person=person, everything=everything),
    )
    try:
        answers = wizard.trial() if trial else wizard.gather()
    except MissingAnswer:
        if not (if_missing and wanted.trial):
            raise
        answers = wizard.trial()
    service = load_service(wanted)
    made = wizard.settle(service, answers, verify=not no_verify)
    installs.save(made)
    _tell_installed(wanted, wanted.notice(made.answers))
    if not if_missing:
        _tell_next(wanted)


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise click.BadParameter("write it as NAME=VALUE.", param_hint="--set")
        pairs[name] = value
    return pairs


def _tell_installed(product: Product, notice: str | None) -> None:
    click.echo(f"{product.name} {product.version} is installed{f' ({notice})' if notice else ''}.")


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
    click.echo(f"{product} is uninstalled. What it stored in the database is still there.")


@main.command()
def services() -> None:
    """List what is installed."""
    installs = InstallsFile(home()).load()
    manifest = read_manifest()
    if not installs:
        click.echo("Nothing is installed. `marketplace list` shows what is on offer.", err=True)
    for install in installs.values():
        notice = _notice(manifest, install.product, install.answers)
        click.echo(f"{install.product} {install.version}{f'  ({notice})' if notice else ''}")


def _notice(manifest: Manifest, name: str, answers: dict[str, Any]) -> str | None:
    try:
        return manifest.product(name).notice(answers)
    except ProductNotFound:
        return "no longer on offer"
