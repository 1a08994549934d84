"""Which versions of plugins run: what a process has imported stays as it is until the process ends."""

import sys
from typing import Any

from marketplace.manifest import Manifest, Product

__all__ = ["Versions"]


class Versions:
    """The package that each plugin came from, with the version it had when it was imported."""

    def __init__(self) -> None:
        self._imported: dict[str, Any] = {}

    def note(self, manifest: Manifest, product: Product) -> None:
        """Remember the version of a plugin that is about to be imported, unless it has been."""
        package = _package(manifest, product)
        if product.plugin in sys.modules:
            self._imported.setdefault(product.plugin, package)
        else:
            self._imported[product.plugin] = package

    def outdated(self, manifest: Manifest, product: Product) -> str | None:
        """Return what has to be said if another version is installed than the one that runs."""
        now = _package(manifest, product)
        runs = self._imported.get(product.plugin, now)
        if not now or not runs or now == runs:
            return None
        return f"{now.name} {now.version} is installed, but {runs.version} runs: start the host anew."


def _package(manifest: Manifest, product: Product) -> Any:
    """Return the package that offers the product, if the manifest knows of packages."""
    return getattr(manifest, "packages", {}).get(product.name)
