"""`marketplace services`: what is installed, and what a running host makes of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from marketplace.catalogue import Catalogue, catalogue
from marketplace.commands.hosts import open_client
from marketplace.commands.parts import as_json, open_installs
from marketplace.errors import NoHost
from marketplace.installs import Install, home
from marketplace.output import examples, harmless, show_json, show_rows, show_table

if TYPE_CHECKING:
    from marketplace.client import RemoteService

__all__ = ["services"]

_NOT_RUNNING = "not running"


@click.command(epilog=examples("marketplace services", "marketplace services --json"))
@as_json
def services(as_json: bool) -> None:
    """List what is installed, and what a running host makes of it.

    The host is asked at MARKETPLACE_URL, which is http://127.0.0.1:8080 unless it is set. A service is
    ok, or failed with a reason; where no host answers it is not running.
    """
    installs = open_installs().load()
    if not installs and not as_json:
        click.echo(f"Nothing is installed in {home()}. `marketplace list` shows what is on offer.", err=True)
    there, silence = _running()
    rows = _rows(installs, there, silence)
    if as_json:
        show_json(rows)
        return
    if not rows:
        return
    if sys.stdout.isatty():
        columns = ("Service", "Version", "State", "Reason", "Notice")
        keys = ("name", "version", "state", "reason", "notice")
        show_table(columns, [[_text(row, key) for key in keys] for row in rows])
    else:
        show_rows([_line(row) for row in rows])
    if silence:
        click.echo(harmless(silence), err=True)


def _text(row: Mapping[str, Any], key: str) -> str:
    """Return a cell; that no host answers is told once, below."""
    return "" if key == "reason" and row["state"] == _NOT_RUNNING else str(row[key] or "")


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    reason = harmless(_text(row, "reason"))
    notice = f"({row['notice']})" if row["notice"] else ""
    return f"{row['name']} {row['version']}", f"{row['state']}{reason and f': {reason}'}", notice


def _running() -> tuple[dict[str, RemoteService], str | None]:
    """Return what the host serves, and if it does not say, why."""
    try:
        return {service.name: service for service in open_client().services()}, None
    except NoHost as error:
        return {}, str(error)


def _rows(
    installs: Mapping[str, Install], there: Mapping[str, RemoteService], silence: str | None
) -> list[dict[str, Any]]:
    offer = catalogue()
    rows = [
        {
            "name": name,
            "version": install.version,
            "state": there[name].state if name in there else _NOT_RUNNING,
            "reason": there[name].reason if name in there else silence,
            "notice": _notice(offer, install),
            "installed": True,
        }
        for name, install in installs.items()
    ]
    for name, service in there.items():
        if name not in installs:
            about = msgspec.structs.asdict(service) | {"notice": service.notice or "not installed here"}
            del about["methods"]
            rows.append({**about, "installed": False})
    return rows


def _notice(offer: Catalogue, install: Install) -> str | None:
    if product := offer.find(install.product):
        return product.notice(install.answers)
    return offer.withheld.get(install.product, "no longer on offer")
