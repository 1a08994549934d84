"""The one place where everything is put together: settings, facilities, and what keeps the services going."""

import gc
import logging
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from litestar.types import HTTPScope, LifeSpanReceive, LifeSpanScope, LifeSpanSend

from marketplace.catalogue import Catalogue, catalogue
from marketplace.installs import Installs, InstallsFile
from marketplace.interfaces import Host
from marketplace.manifest import Manifest
from service.cache import open_cache
from service.database import SQLDatabase
from service.edge import Edge
from service.inputs import Inputs
from service.log import configure_logging, hide
from service.reload import Reload
from service.settings import Settings, read_settings

__all__ = ["Application", "from_environment"]

log = logging.getLogger("marketplace.host")


class Application:
    """The host as an ASGI application: what belongs to the process, whatever services come and go in it.

    ``offers`` reads which products are on offer.
    """

    def __init__(self, settings: Settings, installs: Installs, offers: Callable[[], Manifest]) -> None:
        self._cache = open_cache(settings)
        self._database = SQLDatabase(settings.database_url)
        self._edge = Edge(settings)
        self._reload = Reload(Inputs(installs, offers), Host(self._cache, self._database), self._edge.use)

    async def __call__(self, scope: HTTPScope | LifeSpanScope, receive: Any, send: Any) -> None:
        """Answer the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._edge(scope, receive, send)

    async def open(self) -> None:
        """Start what is installed, and keep in step with it.

        Raises:
            SetupError: if that, or the manifest, cannot be read.
        """
        await self._reload.open()

    async def close(self) -> None:
        """Close what `open` started, services before what they were lent."""
        await self._reload.close()
        await self._cache.close()
        await self._database.close()

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        await receive()
        _settle_memory()
        try:
            await self.open()
        except Exception as error:
            log.exception("The host did not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def from_environment() -> Application:
    """Return the host that the environment describes, and set up the log of its process.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    configure_logging()
    settings = read_settings(os.environ)
    for password in (urlsplit(settings.cache_url).password, settings.database_url.password):
        hide(str(password or ""))
    return Application(settings, InstallsFile(settings.home), _offers)


def _offers() -> Catalogue:
    offer = catalogue()
    for problem in offer.problems:
        log.warning("%s", problem)
    return offer


def _settle_memory() -> None:
    """Let the garbage collector pass over what has been loaded and stays; saves a tenth of a request.

    Before there are services: what is frozen is never freed, and they come and go.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
