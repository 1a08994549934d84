"""One service under test: the host's own machinery around it, without a server; see `marketplace.testing`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from marketplace.interfaces import Service
from marketplace.manifest import SERVICES
from service.edge import Edge, HTTPApplication
from service.generation import build
from service.services import ServiceInfo, start
from service.settings import read_settings

__all__ = ["client"]


@asynccontextmanager
async def client(service: Service[Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """Start ``service`` and yield a client for it; to close it is left to the caller."""
    info = ServiceInfo(name=service.name, version="", summary="", state="failed")
    edge = Edge(read_settings({}))
    edge.use(build([await start(service, info)], _nobody))
    transport = httpx2.ASGITransport(edge, raise_app_exceptions=False)  # type: ignore[arg-type]
    address = f"http://localhost{SERVICES}/{service.name}/"
    async with httpx2.AsyncClient(transport=transport, base_url=address) as http:
        yield http


async def _nobody(name: str) -> HTTPApplication | None:
    return None  # it has started
