"""The host's settings, each from an environment variable that its docstring names."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from marketplace.errors import SettingsError
from marketplace.installs import home

__all__ = ["Settings", "read_settings"]

MEMORY = "memory://"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set.

    ``home``
        ``MARKETPLACE_HOME``: the folder of the installs and the SQLite file.
    ``cache_url``
        ``MARKETPLACE_CACHE_URL``: where cached sessions live; ``memory://`` is this process.
    ``cache_limit``
        ``MARKETPLACE_CACHE_LIMIT``: how many bytes the memory cache may hold.
    ``database``
        ``MARKETPLACE_DATABASE_URL``, as ``sqlite:///PATH``: the SQLite file of sessions that are
        persisted; ``marketplace.db`` in ``home`` unless set.
    ``max_body``
        ``MARKETPLACE_MAX_BODY``: how many bytes a request's body may have.
    ``body_timeout``
        ``MARKETPLACE_BODY_TIMEOUT``: how many seconds a caller may take to send it.
    """

    home: Path
    database: Path
    cache_url: str = MEMORY
    cache_limit: int = 256 * 1024 * 1024
    max_body: int = 4 * 1024 * 1024
    body_timeout: int = 30

    @property
    def is_shared(self) -> bool:
        """Whether several processes see the same cached sessions."""
        return self.cache_url != MEMORY


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: if a variable holds what it may not; the text names it.

    """
    folder = home()
    cache_url = environment.get("MARKETPLACE_CACHE_URL") or MEMORY
    if cache_url != MEMORY:
        raise SettingsError(f"MARKETPLACE_CACHE_URL can only be {MEMORY}.")
    database_url = environment.get("MARKETPLACE_DATABASE_URL")
    if database_url and not database_url.startswith("sqlite:///"):
        raise SettingsError("MARKETPLACE_DATABASE_URL can only be sqlite:///PATH.")
    database = database_url.removeprefix("sqlite:///") if database_url else folder / "marketplace.db"
    return Settings(
        home=folder,
        cache_url=cache_url,
        database=Path(database),
        cache_limit=_number(environment, "MARKETPLACE_CACHE_LIMIT", 256 * 1024 * 1024),
        max_body=_number(environment, "MARKETPLACE_MAX_BODY", 4 * 1024 * 1024),
        body_timeout=_number(environment, "MARKETPLACE_BODY_TIMEOUT", 30),
    )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise SettingsError(f"{name} has to be a whole number above 0, not {text!r}.")
    return int(text)
