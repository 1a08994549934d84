"""Where a running host is: the address that the commands call."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from marketplace.errors import SettingsError

__all__ = ["DEFAULT_URL", "host_url"]

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where a host answers that was not told otherwise."""


def host_url(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the host to call: ``MARKETPLACE_URL``, or where one usually answers.

    Raises:
        SettingsError: if the variable holds no address.
    """
    url = (environment.get("MARKETPLACE_URL") or DEFAULT_URL).rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise SettingsError(f"MARKETPLACE_URL has to be an address such as {DEFAULT_URL}.")
    return url
