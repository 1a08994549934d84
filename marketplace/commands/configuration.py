"""`marketplace configure`: answer anew what an installed product asked."""

import os
import sys

import msgspec
import rich_click as click

from marketplace.catalogue import catalogue
from marketplace.commands.parts import as_json, complete_installed, complete_items, open_installs, pairs
from marketplace.errors import ProductNotFound
from marketplace.installs import Install
from marketplace.manifest import SERVICES, Product
from marketplace.output import examples, show_json
from marketplace.plugins import load_service
from marketplace.reconfiguration import Reconfiguration
from marketplace.terminal import Terminal
from marketplace.wizard import Sources

__all__ = ["configure"]


@click.command(
    epilog=examples(
        "marketplace configure OpenAI",
        "marketplace configure OpenAI --all",
        "marketplace configure OpenAI --no-input --set timeout=30",
        'printf %s "$NEW_KEY" | marketplace configure OpenAI --set apiKey=-',
    )
)
@click.argument("product", shell_complete=complete_installed)
@click.option(
    "--set",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=complete_items,
    help="Answer an item; may be repeated. With - for the value, a secret is read from standard input.",
)
@click.option("--all", "everything", is_flag=True, help="Ask every item, not only the usual ones.")
@click.option("--no-input", is_flag=True, help="Ask nothing; what is not --set stays as it is.")
@click.option("--no-verify", is_flag=True, help="Do not try the answers before they are remembered.")
@as_json
def configure(
    product: str,
    options: tuple[str, ...],
    everything: bool,
    no_input: bool,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Change the configuration of PRODUCT, which is installed.

    An answer comes from --set, else from the prompt, else it stays as it is: Enter alone keeps it, and
    a secret is never shown. The answers are tried before they are remembered; if they are refused,
    nothing changes. A running host takes them over within two seconds.
    """
    installs = open_installs()
    before = installs.load().get(product)
    if before is None:
        raise ProductNotFound(
            f"{product} is not installed. `marketplace services` lists what is,"
            f" and `marketplace install {product}` would install it."
        )
    wanted = catalogue().product(product, package=before.package)
    person = Terminal() if sys.stdin.isatty() and not no_input else None
    sources = Sources(options=pairs(options), environment=os.environ, person=person, everything=everything)
    wizard = Reconfiguration(wanted, sources, before, piped=sys.stdin)
    made = wizard.settle(load_service(wanted), wizard.gather(), verify=not no_verify)
    made = msgspec.structs.replace(made, package=before.package)
    changed = made != before
    if changed:
        installs.save(made)
    _tell(wanted, before, made, as_json=as_json)


def _tell(product: Product, before: Install, made: Install, *, as_json: bool) -> None:
    notice = product.notice(made.answers)
    names = before.answers.keys() | made.answers.keys()
    changed = sorted(name for name in names if before.answers.get(name) != made.answers.get(name))
    if as_json:
        show_json(
            {
                "product": product.name,
                "version": made.version,
                "notice": notice,
                "changed": changed,
                "path": f"{SERVICES}/{product.name}",
            }
        )
    elif made == before:
        click.echo(f"{product.name} {product.version} stays as it was.")
    else:
        said = f" ({notice})" if notice else ""
        told = ", ".join(changed) or "its version"
        click.echo(f"{product.name} {product.version} is configured{said}. Changed: {told}.")
        click.echo("A running host takes it over within two seconds.")
