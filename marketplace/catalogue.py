"""The catalogue: our products, and those that pip packages offer, found without importing any of them.

A package offers products through an entry point of the group ``marketplace.products`` whose value names an
importable package with a file ``manifest.yaml`` in it, a manifest like ours::

    [project.entry-points."marketplace.products"]
    guestbook = "guestbook"
"""

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path

import msgspec

from marketplace.errors import ManifestError, ProductNotFound, SettingsError
from marketplace.manifest import Manifest, Product, Section, read_manifest

__all__ = ["Catalogue", "Package", "allowed_packages", "catalogue", "manifest_in"]

GROUP = "marketplace.products"
VARIABLE = "MARKETPLACE_PLUGINS"
OURS = "chat-marketplace"


class Package(msgspec.Struct, frozen=True):
    """An installed pip package: its name, spelled the one way that pip compares, and its version."""

    name: str
    version: str


class Catalogue(Manifest, frozen=True, kw_only=True):
    """All products on offer, whoever offers them.

    ``packages`` says by a product's name which package it comes from, and ``withheld`` by the name of one
    that is not on offer why it is not. ``problems`` are for the operator, a text each: what was left out
    because a package, or two of them, made a mistake.
    """

    packages: Mapping[str, Package]
    withheld: Mapping[str, str] = {}
    problems: Sequence[str] = ()

    def package_of(self, name: str) -> str | None:
        """Return which pip package offers the product of that name, if it is on offer."""
        return self.packages[name].name if name in self.packages else None

    def product(self, name: str, *, package: str | None = None) -> Product:
        """Return the product of that name; see `Manifest.product`.

        Raises:
            ProductNotFound: if there is none; the first line says why one that exists is not offered, and the
                others what was left out, which may be what was meant. A product that another ``package``
                offers now is not the one that was installed: it is not given the answers meant for that.
        """
        if package and (now := self.package_of(name)) and now != package:
            raise ProductNotFound(
                f"{name} was installed from the package {package}, and is offered by {now} now."
                f" If you trust that one, uninstall {name} and install it anew."
            )
        if not self.find(name) and (reason := self.withheld.get(name)):
            raise ProductNotFound(reason)
        try:
            return super().product(name)
        except ProductNotFound as error:
            raise ProductNotFound("\n".join([str(error), *self.problems])) from None

    def warning(self, product: Product) -> str:
        """Return what has to be said before a product is installed."""
        package = self.packages[product.name]
        return (
            f"{product.name} comes from the package {package.name} {package.version}. Like every plugin it"
            " runs with the host's rights: it can read and change whatever the host can, keys included."
        )


def catalogue(environment: Mapping[str, str] = os.environ) -> Catalogue:
    """Return what is on offer now: nothing is remembered from an earlier call.

    Ours comes first. A package that makes a mistake keeps no other from offering its products; if several
    offer one product, ours is kept, and of strangers' none, as nobody can tell which is meant.

    Raises:
        ManifestError: if our own manifest cannot be used.
        SettingsError: if ``MARKETPLACE_PLUGINS`` holds what is no name of a package.
    """
    importlib.invalidate_caches()
    allowed = allowed_packages(environment)
    shelf = _Shelf(read_manifest())
    claims: dict[str, list[_Claim]] = {}
    for package, entry in sorted(_offering(), key=lambda found: found[0].name):
        is_allowed = allowed is None or package.name in allowed
        try:
            manifest = _manifest_of(entry)
        except ManifestError as error:
            if is_allowed:
                shelf.problems.append(f"The package {package.name} offers nothing: {error}")
            continue
        for product in manifest.products:
            claim = _Claim(product, package, manifest.sections)
            if is_allowed:
                claims.setdefault(claim.product.name, []).append(claim)
            else:
                shelf.withhold(claim)
    for name in sorted(claims):
        shelf.put(name, claims[name])
    return shelf.catalogue()


def allowed_packages(environment: Mapping[str, str]) -> frozenset[str] | None:
    """Return the packages besides ours that may offer products; None stands for all of them.

    Raises:
        SettingsError: if ``MARKETPLACE_PLUGINS`` holds what is no name of a package.
    """
    text = environment.get(VARIABLE)
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
            raise SettingsError(
                f"{VARIABLE} has {name!r}; expected names of pip packages, with commas between."
            )
    return frozenset(map(_normal, names))


def manifest_in(package: str) -> Path | None:
    """Return where the manifest of an importable package is, if it has one; nothing is imported.

    Raises:
        ManifestError: if there is no such package.
    """
    top, *below = package.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of a dotted name it would import what is above
    except Exception as error:
        raise ManifestError(f"{top} cannot be looked for: {error!r}.") from error
    if spec is None or spec.submodule_search_locations is None:
        raise ManifestError(f"There is no package {top}.")
    paths = [Path(place, *below, "manifest.yaml") for place in spec.submodule_search_locations]
    try:
        return next((path for path in paths if path.is_file()), None)
    except OSError as error:
        raise ManifestError(f"{package} cannot be read: {error.strerror}.") from error


class _Claim(msgspec.Struct, frozen=True):
    """That a package has a product, whose section is one of these, if there are any."""

    product: Product
    package: Package
    sections: Sequence[Section]


class _Shelf:
    """The catalogue while it is made."""

    def __init__(self, ours: Manifest) -> None:
        self.problems: list[str] = []
        self._products = list(ours.products)
        self._sections = {section.name: section for section in ours.sections}
        self._packages = {product.name: Package(OURS, version(OURS)) for product in ours.products}
        self._withheld: dict[str, str] = {}

    def withhold(self, claim: _Claim) -> None:
        """Note that the product's package may offer nothing."""
        name, package = claim.product.name, claim.package.name
        self._withheld[name] = f"{name} comes from the package {package}, which {VARIABLE} does not name."

    def put(self, name: str, claims: Sequence[_Claim]) -> None:
        """Offer the product of that ``name``, if it is clear which one that is."""
        packages = sorted({claim.package.name for claim in claims})
        if name in self._packages:
            others = ", ".join(packages)
            self.problems.append(f"{name} of {others} is not offered: there is one of ours.")
        elif len(claims) > 1:
            self._withheld[name] = (
                f"{name} is not offered, because it is there more than once: in {', '.join(packages)}."
                f" Uninstall all but one, or name in {VARIABLE} those that may offer products."
            )
            self.problems.append(self._withheld[name])
        else:
            (claim,) = claims
            self._products.append(claim.product)
            self._packages[name] = claim.package
            for section in claim.sections:
                if section.name == claim.product.section:
                    self._sections.setdefault(section.name, section)

    def catalogue(self) -> Catalogue:
        """Return the catalogue of what was put here."""
        return Catalogue(
            sections=list(self._sections.values()),
            products=self._products,
            packages=self._packages,
            withheld={name: why for name, why in self._withheld.items() if name not in self._packages},
            problems=self.problems,
        )


def _offering() -> Iterator[tuple[Package, EntryPoint]]:
    seen = set()
    for entry in entry_points(group=GROUP):
        name = entry.dist.metadata["Name"] if entry.dist else None
        # While pip replaces a package both of them are there, and for a moment without a name.
        if entry.dist and name and (name, entry.value) not in seen:
            seen.add((name, entry.value))
            yield Package(_normal(name), entry.dist.version), entry


def _manifest_of(entry: EntryPoint) -> Manifest:
    path = manifest_in(entry.value)
    if path is None:
        raise ManifestError(f"{entry.value} has no manifest.yaml.")
    return read_manifest(path)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
