"""`marketplace serve`: run the host."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich_click as click

from marketplace.errors import SettingsError
from marketplace.installs import InstallsFile
from marketplace.manifest import read_manifest

if TYPE_CHECKING:
    from service.services import RunningService

__all__ = ["serve"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option("--workers", default=1, show_default=True, help="How many processes serve.")
def serve(host: str, port: int, workers: int) -> None:
    """Serve what is installed, until SIGTERM or Ctrl-C; requests in flight are finished."""
    from service.settings import read_settings

    settings = read_settings(os.environ)
    if workers != 1 and not settings.is_shared:
        raise SettingsError(
            "Sessions in the memory cache live in one process: a second worker would not know them."
            " Leave out --workers."
        )
    installs = InstallsFile(settings.home)
    installs.load()
    manifest = read_manifest()
    listener = _listen(host, port)

    # Imported late: this module is read for every `marketplace --help`.
    import uvicorn

    from service.app import Application
    from service.log import configure_logging

    configure_logging()
    url = _url(listener)
    application = Application(settings, installs, manifest, lambda services: _greet(url, services))
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run([listener])


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
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(url: str, services: Sequence[RunningService]) -> None:
    click.echo(f"Serving on {url}")
    if not services:
        click.echo("Nothing is installed. `marketplace list` shows what is on offer.")
    for service in services:
        info = service.info
        notice = f" ({info.notice})" if info.notice else ""
        click.echo(f"\n{info.name} {info.version}{notice}: {info.reason or info.state}")
        if info.state == "ok" and service.product:
            click.echo(
                "\n".join(["Try it, one line after the other:", "", *service.product.examples_at(url)])
            )
    click.echo()
