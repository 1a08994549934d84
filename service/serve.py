"""`marketplace serve`: run the host."""

import os
import socket
from collections.abc import Collection

import rich_click as click

from marketplace.catalogue import catalogue
from marketplace.errors import SettingsError
from marketplace.installs import Install, InstallsFile
from marketplace.manifest import Manifest
from marketplace.output import examples

__all__ = ["serve"]


@click.command(
    epilog=examples(
        "marketplace serve",
        "marketplace serve --port 8090",
        "MARKETPLACE_CACHE_URL=redis://localhost marketplace serve --workers 4",
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="How many processes serve."
)
def serve(host: str, port: int, workers: int) -> None:
    """Serve what is installed, until SIGTERM or Ctrl-C; requests in flight are finished."""
    # Imported late: this module is read for every `marketplace --help`.
    from service import server
    from service.settings import read_settings

    settings = read_settings(os.environ)
    if workers != 1 and not settings.is_shared:
        raise SettingsError(
            "Sessions in the memory cache live in one process: a second worker would not know them."
            " Leave out --workers, or set MARKETPLACE_CACHE_URL to a Redis that all workers share."
        )
    installs = InstallsFile(settings.home).load()
    manifest = catalogue()
    listener = _listen(host, port)
    _greet(_url(listener), manifest, installs.values())
    server.run(listener, workers)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"Cannot listen on {host} port {port}: {reason}. Choose another --port or --host."
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(url: str, manifest: Manifest, installs: Collection[Install]) -> None:
    click.echo(f"Serving on {url}")
    if not installs:
        click.echo("Nothing is installed. In another terminal, run: marketplace install OpenAI")
    for install in installs:
        product = manifest.find(install.product)
        if product is None:
            continue
        notice = product.notice(install.answers)
        click.echo(f"\n{product.name} {product.version}{f' ({notice})' if notice else ''}")
        if notice:
            click.echo(f"For the real one: marketplace install {product.name}")
        click.echo("Try it in another terminal, one line after the other:\n")
        click.echo("\n".join(product.examples_at(url)))
    click.echo("\nCtrl-C ends it.\n")
