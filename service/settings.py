"""The host's settings, each from an environment variable that its docstring names."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from marketplace.errors import SettingsError
from marketplace.installs import home
from service.database import DRIVERS

__all__ = ["Settings", "node_urls", "read_settings"]

MEMORY = "memory://"
CACHE_PREFIX = "marketplace:"
CACHE_LIMIT = 256 * 1024 * 1024
MAX_BODY = 4 * 1024 * 1024
BODY_TIMEOUT = 30
REDIS = ("redis", "rediss", "redis+cluster", "rediss+cluster")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set.

    ``home``
        ``MARKETPLACE_HOME``: the folder of the installs and the SQLite file.
    ``cache_url``
        ``MARKETPLACE_CACHE_URL``: where cached sessions live: ``memory://`` (this process), ``redis://``,
        ``rediss://``, or ``redis+cluster://`` and ``rediss+cluster://`` with some nodes of a Redis Cluster,
        separated by commas.
    ``cache_prefix``
        ``MARKETPLACE_CACHE_PREFIX``: what the names of all keys in Redis begin with.
    ``cache_limit``
        ``MARKETPLACE_CACHE_LIMIT``: how many bytes the memory cache may hold.
    ``database_url``
        ``MARKETPLACE_DATABASE_URL``: where persisted sessions live: ``sqlite:///PATH``, ``postgresql://``,
        ``mariadb://`` or ``mysql://``; ``marketplace.db`` in ``home`` unless set.
    ``origins``
        ``MARKETPLACE_ORIGINS``: whose pages may call from a browser, besides our own: origins such as
        ``https://app.example``, separated by commas.
    ``max_body``
        ``MARKETPLACE_MAX_BODY``: how many bytes a request's body may have.
    ``body_timeout``
        ``MARKETPLACE_BODY_TIMEOUT``: how many seconds a caller may take to send it.
    """

    home: Path
    database_url: URL
    cache_url: str = MEMORY
    cache_prefix: str = CACHE_PREFIX
    cache_limit: int = CACHE_LIMIT
    origins: frozenset[str] = frozenset()
    max_body: int = MAX_BODY
    body_timeout: int = BODY_TIMEOUT

    @property
    def is_shared(self) -> bool:
        """Whether several processes see the same cached sessions."""
        return self.cache_url != MEMORY

    def __repr__(self) -> str:
        return f"Settings(home={str(self.home)!r}, database_url={self.database_url!r}, ...)"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: if a variable holds what it may not; the text names it.
    """
    folder = home(environment)
    return Settings(
        home=folder,
        database_url=_database_url(environment.get("MARKETPLACE_DATABASE_URL"), folder),
        cache_url=_cache_url(environment.get("MARKETPLACE_CACHE_URL") or MEMORY),
        cache_prefix=environment.get("MARKETPLACE_CACHE_PREFIX") or CACHE_PREFIX,
        cache_limit=_number(environment, "MARKETPLACE_CACHE_LIMIT", CACHE_LIMIT),
        origins=_origins(environment.get("MARKETPLACE_ORIGINS", "")),
        max_body=_number(environment, "MARKETPLACE_MAX_BODY", MAX_BODY),
        body_timeout=_number(environment, "MARKETPLACE_BODY_TIMEOUT", BODY_TIMEOUT),
    )


def _database_url(text: str | None, folder: Path) -> URL:
    if not text:
        return URL.create("sqlite", database=str(folder / "marketplace.db"))
    # The text itself is never repeated: it may hold a password.
    known = ", ".join(f"{scheme}://" for scheme in DRIVERS)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(f"MARKETPLACE_DATABASE_URL is no URL; it begins with {known}.") from None
    if url.drivername not in DRIVERS:
        raise SettingsError(f"MARKETPLACE_DATABASE_URL has to begin with one of {known}.")
    if not url.database or url.database == ":memory:":
        raise SettingsError("MARKETPLACE_DATABASE_URL names no database, or file, at its end.")
    return url


def _cache_url(text: str) -> str:
    if text != MEMORY and text.partition("://")[0] not in REDIS:
        known = ", ".join(f"{scheme}://" for scheme in REDIS)
        raise SettingsError(f"MARKETPLACE_CACHE_URL has to be {MEMORY} or begin with one of {known}.")
    nodes = node_urls(text)
    if len(nodes) > 1 and "+cluster" not in text.partition("://")[0]:
        raise SettingsError(
            "MARKETPLACE_CACHE_URL names several hosts; only redis+cluster:// and rediss+cluster:// may."
        )
    try:
        is_named = all(urlsplit(node).port or urlsplit(node).hostname for node in nodes)
    except ValueError:
        raise SettingsError("MARKETPLACE_CACHE_URL has a port that is no number of a port.") from None
    if len(nodes) > 1 and not is_named:
        raise SettingsError("MARKETPLACE_CACHE_URL has a comma with no HOST:PORT beside it.")
    return text


def node_urls(url: str) -> list[str]:
    """Return a URL for each host that ``url`` names, separated by commas."""
    scheme, _, rest = url.partition("://")
    account, hosts, end = re.fullmatch(r"(.*@)?([^/?#]*)(.*)", rest, re.DOTALL).groups("")  # type: ignore[union-attr]
    return [f"{scheme}://{account}{host.strip()}{end}" for host in hosts.split(",")]


def _origins(text: str) -> frozenset[str]:
    origins = [origin.strip().rstrip("/").lower() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s*]+", origin):
            raise SettingsError(
                f"MARKETPLACE_ORIGINS has {origin!r}; expected origins such as https://app.example."
            )
    return frozenset(origins)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise SettingsError(f"{name} has to be a whole number above 0, not {text[:20]!r}.")
    return int(text)
