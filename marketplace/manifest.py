"""The manifest: which products are on offer and what each of them asks, read without running their code."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import yaml

from marketplace.errors import InvalidArgument, ManifestError, ProductNotFound

__all__ = [
    "SERVICES",
    "ConfigurationItem",
    "ItemType",
    "Manifest",
    "Product",
    "Trial",
    "Value",
    "read_manifest",
]

SERVICES = "/api/services"
"""The path that all services are mounted under."""

Value = str | int
"""An answer to a configuration item."""


class ItemType(StrEnum):
    """What an answer has to be."""

    STRING = "STRING"
    INT = "INT"
    SECRET = "SECRET"  # noqa: S105


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ConfigurationItem(_Strict, frozen=True, kw_only=True):
    """One question of the wizard.

    ``env`` is the environment variable that may answer it; an item that is not ``asked`` takes its
    default unless it is set or asked for on purpose.
    """

    name: str
    label: str
    type: ItemType
    hint: str = ""
    default: Value | None = None
    required: bool = False
    env: str | None = None
    asked: bool = True

    @property
    def is_secret(self) -> bool:
        """Whether the answer must never be shown."""
        return self.type is ItemType.SECRET

    def parse(self, text: str) -> Value:
        """Turn what somebody typed into an answer.

        Raises:
            InvalidArgument: if it is none; the text says what was expected.
        """
        text = text.strip()
        if self.type is not ItemType.INT:
            return text
        try:
            return int(text)
        except ValueError:
            raise InvalidArgument(f"expected a whole number, not {text!r}", parameter=self.name) from None


class Trial(_Strict, frozen=True, kw_only=True):
    """A way to try the product with nothing in hand: what it is called, and the answers it stands for."""

    label: str
    answers: dict[str, Value]


class Product(_Strict, frozen=True, kw_only=True):
    """What the shop offers.

    ``plugin`` is the module that registers the service. ``examples`` are shell lines that work when
    pasted one after the other; ``{url}`` in them stands for the service's address.
    """

    name: str
    version: str
    section: str
    summary: str
    plugin: str
    configuration: list[ConfigurationItem]
    description: str = ""
    documentation: str | None = None
    trial: Trial | None = None
    examples: list[str] = []

    def item(self, name: str) -> ConfigurationItem | None:
        """Return the configuration item of that name, if there is one."""
        return next((item for item in self.configuration if item.name == name), None)

    def notice(self, answers: dict[str, Any]) -> str | None:
        """Return what has to be said wherever a service with these answers is shown: that it is a trial."""
        if self.trial and self.trial.answers.items() <= answers.items():
            return self.trial.label
        return None

    def examples_at(self, url: str) -> list[str]:
        """Return the examples for a host that answers at ``url``."""
        return [line.replace("{url}", f"{url}{SERVICES}/{self.name}") for line in self.examples]

    def defaults(self) -> dict[str, Value]:
        """Return the answers that stand where nobody gave any."""
        return {item.name: item.default for item in self.configuration if item.default is not None}


class Manifest(_Strict, frozen=True, kw_only=True):
    """All products on offer."""

    products: list[Product]

    def find(self, name: str) -> Product | None:
        """Return the product of that name, if it is on offer."""
        return next((product for product in self.products if product.name == name), None)

    def product(self, name: str) -> Product:
        """Return the product of that name.

        Raises:
            ProductNotFound: if there is none; the text lists those there are.
        """
        if product := self.find(name):
            return product
        offered = ", ".join(product.name for product in self.products) or "nothing"
        raise ProductNotFound(f"There is no product {name!r}. On offer: {offered}.")


def read_manifest(path: Path | None = None) -> Manifest:
    """Read the manifest at ``path``, or else where it is usually found.

    That is the file ``MARKETPLACE_MANIFEST`` names, the one packaged with the marketplace, or the one in
    its checkout.

    Raises:
        ManifestError: if it cannot be read; the text says where and why.
    """
    path = path or _usual_path()
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Manifest)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from error


def _usual_path() -> Path:
    if named := os.environ.get("MARKETPLACE_MANIFEST"):
        return Path(named)
    # An editable install has no packaged copy: the checkout is the folder above.
    here = Path(__file__).parent
    packaged = here / "manifest.yaml"
    return packaged if packaged.exists() else here.parent / "manifest.yaml"
