"""Copies of this environment, so that a test can install a stranger's package where it harms nobody."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["Copy"]


class Copy:
    """An environment that has all that this one has, and what is installed into it besides."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = str(folder / "bin" / "python")
        self.command = [self.python, "-m", "marketplace"]
        (self._ours,) = folder.glob("lib/python*/site-packages")
        # Not a mere path: the .pth files there have to be read, too.
        theirs = sysconfig.get_path("purelib")
        (self._ours / "copied.pth").write_text(f"import site; site.addsitedir({theirs!r})\n")

    def install(self, folder: Path, *options: str) -> None:
        """Install the package in ``folder`` with pip, and nothing that it depends on."""
        offline = ["--no-deps", "--no-build-isolation", "--no-index"]
        self._pip("install", *offline, *options, str(folder))

    def uninstall(self, package: str) -> None:
        """Remove a package that was installed."""
        self._pip("uninstall", "--yes", package)

    def _pip(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", self.python, command, "--quiet", *arguments],
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
