"""A guestbook for the marketplace."""

from acme_guestbook.service import Guestbook
from marketplace import hookimpl

__all__ = ["register_services"]


@hookimpl
def register_services() -> list[type[Guestbook]]:
    """Offer the guestbook."""
    return [Guestbook]
