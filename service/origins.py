"""Whose pages may call from a browser.

A string or an empty POST is sent by any page without asking first, so that headers in the answer alone
would not keep a foreign page from spending the operator's key: a foreign ``Origin`` is refused.
"""

import ipaddress

__all__ = ["Origins"]

_EXPOSED = b"idempotency-replayed, retry-after, x-context-messages, x-request-id"
_ALLOWED = (
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, bl-execution-type, content-type, idempotency-key, user-token, x-request-id",
    ),
    (b"access-control-max-age", b"600"),
)


class Origins:
    """The origins that the operator has allowed, and our own.

    Our own is the one that has the request's ``Host``, if that is an address or localhost: any other name
    could be made to lead to us by whoever owns it, so it has to be allowed by name.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = {origin.encode() for origin in allowed}

    def allow(self, origin: bytes, host: bytes) -> bool:
        """Return whether a page of ``origin`` may call us at ``host``."""
        origin = origin.lower()
        if origin in self._allowed:
            return True
        return origin.partition(b"://")[2] == host.lower() and _is_unmistakable(host.decode("latin-1"))

    def headers(self, origin: bytes, *, preflight: bool) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of ``origin`` read the answer."""
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
            *(_ALLOWED if preflight else ()),
        ]


def _is_unmistakable(host: str) -> bool:
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        if port and not port.startswith(":"):
            return False
    else:
        name = host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
