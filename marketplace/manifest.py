"""The manifest: which products are on offer and what each of them asks, read without running their code."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from marketplace.errors import ManifestError, ProductNotFound
from marketplace.items import ConfigurationItem, ItemType, Line, Value, repeated
from marketplace.products import SERVICES, Contact, Product, ProductMethod, Stored, Trial
from marketplace.strict_yaml import Mistake, read_strictly
from marketplace.yaml_forms import one_of

__all__ = [
    "SERVICES",
    "ConfigurationItem",
    "Contact",
    "ItemType",
    "Manifest",
    "Product",
    "ProductMethod",
    "Section",
    "Stored",
    "Trial",
    "Value",
    "manifest_schema",
    "read_manifest",
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the shop."""

    name: Annotated[Line, Meta(description="What products give as their section.")]
    summary: Annotated[Line, Meta(description="What is to be found there, in a line.")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All products on offer."""

    sections: Annotated[
        list[Section],
        Meta(description="The sections in the order they are shown; if given, every product is in one."),
    ] = []
    products: Annotated[list[Product], Meta(description="The products on offer.")]

    def find(self, name: str) -> Product | None:
        """Return the product of that name, if it is on offer."""
        return next((product for product in self.products if product.name == name), None)

    def package_of(self, name: str) -> str | None:
        """Return which pip package offers the product of that name, where that is known."""
        return None

    def product(self, name: str, *, package: str | None = None) -> Product:
        """Return the product of that name; one that was installed has to come from the same ``package``.

        Raises:
            ProductNotFound: if there is none; the text lists those there are.
        """
        if product := self.find(name):
            return product
        offered = ", ".join(product.name for product in self.products) or "nothing"
        raise ProductNotFound(f"There is no product {name!r}. On offer: {offered}.")

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what makes no sense although it can be read; see `Mistake`."""
        names = [section.name for section in self.sections]
        yield from repeated("sections", "name", names)
        yield from repeated("products", "name", [product.name for product in self.products])
        for number, product in enumerate(self.products):
            yield from (mistake.inside("products", number) for mistake in product.mistakes())
            if names and product.section not in names:
                needs = [("sections", position, "name") for position in range(len(names))]
                text = f"is none of the sections; expected {one_of(names)}"
                yield Mistake(("products", number, "section"), text, needs)


def read_manifest(path: Path | None = None) -> Manifest:
    """Read the manifest at ``path``, or else where it is usually found.

    That is the file ``MARKETPLACE_MANIFEST`` names, the one packaged with the marketplace, or the one in
    its checkout.

    Raises:
        ManifestError: if it cannot be used; the text has a line ``FILE:LINE:COLUMN: KEYS: ...`` for every
            mistake in it.
    """
    path = path or _usual_path()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
    return read_strictly(content, Manifest, name=str(path))


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of a marketplace",
        **msgspec.json.schema(Manifest),
    }


def _usual_path() -> Path:
    if named := os.environ.get("MARKETPLACE_MANIFEST"):
        return Path(named)
    # An editable install has no packaged copy: the checkout is the folder above.
    here = Path(__file__).parent
    packaged = here / "manifest.yaml"
    return packaged if packaged.exists() else here.parent / "manifest.yaml"
