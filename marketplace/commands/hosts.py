"""The running host that a command calls, and what is there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from marketplace.address import host_url
from marketplace.commands.parts import beginning
from marketplace.errors import BadCall, NoHost, SetupError
from marketplace.output import harmless

if TYPE_CHECKING:
    from marketplace.client import HostClient, RemoteService

__all__ = ["completions", "found_service", "known_names", "open_client"]


PATIENCE = 10.0
"""Seconds that a host may take to say what it serves, to whom calls one of its services."""


def open_client() -> HostClient:
    """Return the client of the host that `host_url` names."""
    # Imported late, as no other command needs it: HTTP takes a while to import.
    from marketplace.client import HostClient

    return HostClient(host_url())


def found_service(client: HostClient, name: str) -> RemoteService:
    """Return the running service of that ``name``.

    Raises:
        NoHost: if no host answers, or if the service failed to start there.
        BadCall: if the host has none of that name; the text lists those it has.
    """
    there = client.services(timeout=PATIENCE)
    service = next((service for service in there if service.name == name), None)
    if service is None:
        raise BadCall(f"{client.url} has no service {name!r}.{known_names(name, [s.name for s in there])}")
    if service.state != "ok":
        raise NoHost(f"{name} does not run at {client.url}: {harmless(service.reason or service.state)}")
    return service


def completions(
    names: Callable[[list[RemoteService]], Iterable[str]], incomplete: str
) -> list[CompletionItem]:
    """Return those ``names`` of what the host serves that begin as typed; none if no host answers at once."""
    try:
        there = open_client().services(timeout=0.5)
    except SetupError:
        return []
    return beginning([CompletionItem(name) for name in names(there)], incomplete)


def known_names(name: str, names: Iterable[str]) -> str:
    """Return what there is, and what was probably meant."""
    known = list(names)
    similar = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {similar[0]}?" if similar and len(known) > 1 else ""
    return f"{meant} It has {', '.join(known)}." if known else " It has none."
