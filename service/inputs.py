"""What the services follow from: the installs, the manifest and the packages; and whether it has changed."""

import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from marketplace.errors import MarketplaceError
from marketplace.installs import Install, Installs
from marketplace.manifest import Manifest

__all__ = ["Found", "Inputs"]

SETTLE = 1.5
"""Seconds that packages have to be left alone: one that is replaced is gone for a moment."""

_OTHERS = 2  # what comes before the packages in a state

log = logging.getLogger("marketplace.reload")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed, and what is on offer; ``state`` is that of the files it was read from."""

    installs: Mapping[str, Install]
    manifest: Manifest
    state: tuple[str, ...]


class Inputs:
    """Reads what is installed; all of it may take its time on a slow disk."""

    def __init__(self, installs: Installs, offers: Callable[[], Manifest]) -> None:
        self._installs = installs
        self._offers = offers
        self._trouble = ""
        self._arriving: tuple[tuple[str, ...], float] = ((), 0.0)

    def read(self) -> Found:
        """Return what there is now.

        Raises:
            SetupError: if it cannot be read; the text says what to do.
        """
        state = self._state()  # from before it is read: a change meanwhile is seen the next time
        importlib.invalidate_caches()  # packages that came since are found
        return Found(manifest=self._offers(), installs=self._installs.load(), state=state)

    def changed(self, since: Found) -> Found | None:
        """Return what there is now, or None if nothing has changed ``since``.

        What cannot be read is told once, and tried again at every call.
        """
        try:
            if not self._trouble and self._is_still(since):
                return None
            found = self.read()
        except (MarketplaceError, OSError) as error:
            if str(error) != self._trouble:
                log.error("%s The services stay as they are until then.", error)
            self._trouble = str(error)
            return None
        if self._trouble:
            log.info("What is installed can be read again")
        self._trouble = ""
        return found

    def _is_still(self, since: Found) -> bool:
        """Return whether nothing has changed, or nothing but packages that may still be half there."""
        state = self._state()
        if state == since.state:
            return True
        if state[:_OTHERS] != since.state[:_OTHERS]:
            return False
        if state != self._arriving[0]:
            self._arriving = state, time.monotonic()
        return time.monotonic() < self._arriving[1] + SETTLE

    def _state(self) -> tuple[str, ...]:
        """Return words that change with what the services follow from: the state of files, unread.

        A manifest that no variable names changes with its package.
        """
        manifest = os.environ.get("MARKETPLACE_MANIFEST")
        # The folder that the host was started in is no place for packages, and is written to by whoever.
        folders = (folder for folder in sys.path if folder and Path(folder) != Path.cwd())
        return (
            self._installs.revision(),
            _state_of(manifest) if manifest else "",
            *(_state_of(folder) for folder in folders),
        )


def _state_of(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "none"
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
