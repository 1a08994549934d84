"""What the fake upstream was asked, read from the process that it is."""

import asyncio

import aiohttp
import msgspec

from tests.reliability.upstream import Call, Upstream

__all__ = ["asked", "ledger_of"]


async def ledger_of(upstream: Upstream) -> list[Call]:
    """Return all calls so far."""
    async with aiohttp.ClientSession() as http, http.get(f"{upstream.url}/ledger") as answer:
        return msgspec.json.decode(await answer.read(), type=list[Call])


async def asked(upstream: Upstream, prompt: str, seconds: float = 30) -> None:
    """Wait until the upstream has been asked ``prompt``."""
    async with asyncio.timeout(seconds):
        while True:
            if any(call.prompt == prompt for call in await ledger_of(upstream)):
                return
            await asyncio.sleep(0.02)
