"""`marketplace new`: write a package that offers a product, to begin with; it passes its own tests."""

import importlib.util
import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import rich_click as click

from marketplace.catalogue import catalogue
from marketplace.errors import SetupError
from marketplace.output import examples

__all__ = ["new", "write_skeleton"]

TEMPLATES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "$package/__init__.py": "init.py.txt",
    "$package/manifest.yaml": "manifest.yaml.txt",
    "$package/py.typed": "py.typed.txt",
    "$package/service.py": "service.py.txt",
    "tests/test_$package.py": "test.py.txt",
}
"""What is written, and which of our templates it is made of."""


@click.command(epilog=examples("marketplace new Guestbook"))
@click.argument("name")
def new(name: str) -> None:
    """Write a package that offers a product called NAME, into a new folder here.

    It has a manifest, a service, tests and a README, and passes its tests.
    """
    folder = write_skeleton(name, Path.cwd())
    shown = folder.name
    click.echo(
        f"{shown}/ offers the product {name}. Go on with:\n\n"
        f"cd {shown}\npip install --editable '.[test]'\npytest\nmarketplace install {name}\n"
    )


def write_skeleton(name: str, where: Path) -> Path:
    """Write the package of a product called ``name`` into a folder below ``where``; return that folder.

    Raises:
        SetupError: if there cannot be a product of that name, or the folder exists.
    """
    package = _package_of(name)
    folder = where / package
    if folder.exists() or folder.is_symlink():
        raise SetupError(f"{folder} exists already. Go elsewhere, or choose another name.")
    _refuse_taken(name, package)
    words = {"name": name, "package": package, "distribution": package.replace("_", "-")}
    try:
        for path, template in TEMPLATES.items():
            _write(folder / Template(path).substitute(words), template, words)
    except OSError as error:
        raise SetupError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def _write(path: Path, template: str, words: Mapping[str, str]) -> None:
    text = files("marketplace").joinpath("templates", template).read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template(text).substitute(words), encoding="utf-8")


def _package_of(name: str) -> str:
    """Return what the package of a product is called: ``MyNotes`` is in ``my_notes``."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
        raise SetupError(
            f"{name!r} is no name for a product. It begins with a letter and goes on with letters, digits"
            " and single underscores, such as MyNotes."
        )
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _refuse_taken(name: str, package: str) -> None:
    if catalogue().find(name):
        raise SetupError(f"There is a product {name} already. Choose another name.")
    if keyword.iskeyword(package) or importlib.util.find_spec(package):
        raise SetupError(f"Python has something called {package} already. Choose another name.")
