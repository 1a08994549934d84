"""Live installs for tests: products of plugins written on the spot, installed without asking anybody."""

import json
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from marketplace.installs import Install, InstallsFile
from marketplace.manifest import read_manifest
from tests.host import Host

__all__ = ["SHELF", "WITHIN", "Shop", "call_afresh", "eventually", "states"]

SHELF = Path(__file__).parent / "shelf"

WITHIN = 2.0
"""Seconds after which a change has to have taken effect."""

_PLUGIN = """
import asyncio, os, sys, time
import msgspec
from litestar import Router, get, post
from marketplace import Service, TimedOut, Unavailable, hookimpl
from pathlib import Path

class Nothing(msgspec.Struct):
    pass

class Thing(Service[Nothing]):
    name = "{name}"
    Configuration = Nothing

    @classmethod
    async def check(cls, configuration):
        pass

    def router(self):
        @get("/word")
        async def word() -> str:
            return "{name}"

        return Router("/", route_handlers=[word])

{inside}

@hookimpl
def register_services():
    return [Thing]

{outside}
"""


class Shop:
    """A folder of plugins, the manifest that offers them, and what is installed of them in ``home``."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self._products = [_product("Tally", "tally", {"word": "STRING"})]
        self.installs = InstallsFile(home)
        self.manifest = folder / "manifest.yaml"
        folder.mkdir()
        self._write_manifest()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a host that finds the plugins."""
        return {"PYTHONPATH": f"{SHELF}:{self._folder}", "MARKETPLACE_MANIFEST": str(self.manifest)}

    def offer(self, name: str, inside: str = "", outside: str = "", **items: str) -> None:
        """Offer a product whose service has more lines ``inside``, and whose module has more ``outside``.

        Its configuration items are given with their types.
        """
        inside = textwrap.indent(textwrap.dedent(inside), "    ")
        plugin = _PLUGIN.format(name=name, inside=inside, outside=outside)
        (self._folder / f"plugin_{name.lower()}.py").write_text(plugin)
        self._products.append(_product(name, f"plugin_{name.lower()}", items))
        self._write_manifest()

    def offer_ours(self) -> None:
        """Offer what the marketplace itself does, too."""
        self._products += [msgspec.to_builtins(product) for product in read_manifest().products]
        self._write_manifest()

    def install(self, product: str, **answers: Any) -> None:
        """Install a product, or configure it anew."""
        self.installs.save(Install(product=product, version="1", answers=answers))

    def uninstall(self, product: str) -> None:
        """Uninstall a product."""
        self.installs.remove(product)

    def _write_manifest(self) -> None:
        new = self.manifest.with_suffix(".new")
        new.write_text(json.dumps({"products": self._products}))
        new.rename(self.manifest)


def _product(name: str, plugin: str, types: Mapping[str, str]) -> dict[str, Any]:
    items = [{"name": item, "label": item, "type": kind} for item, kind in types.items()]
    told = {"name": name, "version": "1", "section": "Tests", "summary": f"{name} for tests"}
    return {**told, "plugin": plugin, "configuration": items}


def states(host: Host) -> dict[str, str]:
    """Return the state of each service by its name."""
    return {info["name"]: info["state"] for info in host.http.get("/api/services").json()}


def eventually(condition: Callable[[], bool], within: float = WITHIN) -> None:
    """Wait until the condition holds; fail if it does not within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} seconds"
        time.sleep(0.02)


def call_afresh(host: Host, path: str) -> httpx2.Response:
    """GET on a connection of its own, which any of the workers may take."""
    with httpx2.Client(base_url=host.url, trust_env=False, timeout=30) as http:
        return http.get(path)
