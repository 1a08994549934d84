"""The remembered installs: one file, readable by its owner only, replaced as a whole or not at all."""

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from marketplace.errors import InstallsError, MissingAnswer, ProductNotFound
from marketplace.manifest import Value

__all__ = ["FromEnvironment", "Install", "Installs", "InstallsFile", "home"]


LOCK_TIMEOUT = 10.0
"""Seconds that an installer waits for another one."""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for all that is remembered: ``MARKETPLACE_HOME``, or ``.marketplace`` here."""
    return Path(environment.get("MARKETPLACE_HOME") or ".marketplace").absolute()


class FromEnvironment(msgspec.Struct, frozen=True):
    """A secret that is not stored: its value is in the environment variable ``name``."""

    name: str = msgspec.field(name="$env")


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """A product with the answers to its configuration items, and the pip ``package`` that it came from."""

    product: str
    version: str
    answers: dict[str, Value | FromEnvironment]
    package: str | None = None

    def values(self, environment: Mapping[str, str]) -> dict[str, Value]:
        """Return the answers, with those that stand in the ``environment`` filled in.

        Raises:
            MissingAnswer: if a variable is not set.
        """
        return {name: _resolve(answer, environment) for name, answer in self.answers.items()}

    def __repr__(self) -> str:
        return f"Install(product={self.product!r}, version={self.version!r})"


def _resolve(answer: Value | FromEnvironment, environment: Mapping[str, str]) -> Value:
    if not isinstance(answer, FromEnvironment):
        return answer
    if value := environment.get(answer.name, "").strip():
        return value
    raise MissingAnswer(f"{answer.name} is not set where the host runs. Set it and start the host anew.")


class Installs(Protocol):
    """Where installs are remembered."""

    def load(self) -> dict[str, Install]:
        """Return all installs by the name of their product.

        Raises:
            InstallsError: if they cannot be read; the text says what to do.
        """

    def save(self, install: Install) -> None:
        """Remember ``install``, in the place of an earlier one of the same product.

        Raises:
            InstallsError: if that is not possible; then nothing has changed.
        """

    def remove(self, product: str) -> None:
        """Forget the install of ``product``.

        Raises:
            ProductNotFound: if it is not installed.
            InstallsError: if that is not possible; then nothing has changed.
        """

    def revision(self) -> str:
        """Return a word that changes whenever the installs do."""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    installs: list[Install]


class InstallsFile:
    """Installs in ``installs.json`` of a folder that belongs to one user.

    Every change is made under a lock, written beside the file, flushed to disk and moved into its
    place: a reader or a crash at any instant finds the old content or the new one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "installs.json"

    def load(self) -> dict[str, Install]:
        """Return all installs by the name of their product; see `Installs.load`."""
        try:
            with self.path.open("rb") as file:
                self._check_mode(os.fstat(file.fileno()))
                content = msgspec.json.decode(file.read(), type=_Content)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InstallsError(f"{self.path} cannot be read: {error.strerror}.") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # What the decoder says may quote a secret: neither it nor the content is shown.
            raise InstallsError(
                f"{self.path} is damaged. Put a copy of it back, or delete it and install anew."
            ) from None
        if content.format != 1:
            raise InstallsError(
                f"{self.path} has format {content.format}, written by a newer marketplace. Use that one."
            )
        return {install.product: install for install in content.installs}

    def save(self, install: Install) -> None:
        """Remember ``install``; see `Installs.save`."""
        with self._changing() as installs:
            installs[install.product] = install

    def remove(self, product: str) -> None:
        """Forget the install of ``product``; see `Installs.remove`."""
        if product not in self.load():
            raise ProductNotFound(f"{product} is not installed.")
        with self._changing() as installs:
            installs.pop(product, None)

    def revision(self) -> str:
        """Return a word that changes whenever the installs do."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return "none"
        # The change time, too: `chmod 600` mends a file, and leaves all else as it was.
        return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"

    def _check_mode(self, status: os.stat_result) -> None:
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise InstallsError(
                f"{self.path} holds secrets and others can read it. Run: chmod 600 {self.path}"
            )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Install]]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._folder / "installs.lock"):
                installs = self.load()
                yield installs
                self._replace(installs)
        except OSError as error:
            raise InstallsError(f"{self.path} cannot be written: {error.strerror}.") from error

    def _replace(self, installs: dict[str, Install]) -> None:
        content = _Content(format=1, installs=sorted(installs.values(), key=lambda i: i.product))
        for leftover in self._folder.glob(".installs-*"):  # of a process that was killed right here
            leftover.unlink(missing_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".installs-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(self._folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InstallsError(
                        f"Another installer holds {path}. Try again when it is done."
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
