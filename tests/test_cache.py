"""The cache facility: one contract for every backend, and what is the memory cache's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from marketplace import Cache, Unavailable
from marketplace.errors import OutOfSpace
from service.cache import MemoryCache, RedisCache
from tests.facilities import CACHES, open_cache
from tests.servers import SERVERS, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=CACHES)
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    opened = open_cache(request.param)
    yield opened
    await opened.close()


class TestContract:
    async def test_entries_come_back_in_order(self, cache: Cache) -> None:
        """Any bytes are kept, and what is appended follows what was there."""
        await cache.create("key", [b"\0\xff", b""], ttl=60)
        assert await cache.append("key", [b"3", b"4"], length=2, ttl=60)
        assert await cache.read("key", ttl=60) == [b"\0\xff", b"", b"3", b"4"]

    async def test_an_unknown_key_has_no_entries(self, cache: Cache) -> None:
        """Neither reading nor appending makes one."""
        assert await cache.read("key", ttl=60) is None
        assert not await cache.append("key", [b"1"], length=0, ttl=60)
        assert await cache.read("key", ttl=60) is None

    async def test_an_append_needs_the_length_that_was_read(self, cache: Cache) -> None:
        """Of two that read the same length only one can append."""
        await cache.create("key", [b"1"], ttl=60)
        done = await asyncio.gather(*(cache.append("key", [b"2", b"3"], length=1, ttl=60) for _ in range(10)))
        assert done.count(True) == 1
        assert await cache.read("key", ttl=60) == [b"1", b"2", b"3"]

    async def test_entries_are_gone_when_their_time_is_over(self, cache: Cache) -> None:
        """The time counts from the last use."""
        await cache.create("used", [b"1"], ttl=0.4)
        await cache.create("unused", [b"1"], ttl=0.4)
        await asyncio.sleep(0.25)
        assert await cache.read("used", ttl=0.4)
        await asyncio.sleep(0.25)
        assert await cache.append("used", [b"2"], length=1, ttl=0.4)
        await asyncio.sleep(0.25)
        assert await cache.read("used", ttl=0.4) == [b"1", b"2"]
        assert await cache.read("unused", ttl=0.4) is None

    async def test_reading_never_shortens_the_time_that_is_left(self, cache: Cache) -> None:
        """Somebody may read while a turn keeps the entries for longer; an append sets it anew."""
        await cache.create("key", [b"1"], ttl=60)
        await cache.read("key", ttl=0.1)
        await asyncio.sleep(0.2)
        assert await cache.append("key", [b"2"], length=1, ttl=0.1)
        await asyncio.sleep(0.2)
        assert await cache.read("key", ttl=60) is None

    async def test_a_key_that_is_created_again_begins_anew(self, cache: Cache) -> None:
        """What was there before is gone."""
        for _ in range(3):
            await cache.create("key", [b"1"], ttl=0.1)
        assert await cache.read("key", ttl=0.1) == [b"1"]
        await asyncio.sleep(0.2)
        assert await cache.read("key", ttl=60) is None

    async def test_what_is_read_is_a_copy(self, cache: Cache) -> None:
        """Changing it changes nothing that is kept."""
        await cache.create("key", [b"1"], ttl=60)
        read = await cache.read("key", ttl=60)
        assert read is not None
        read.clear()
        assert await cache.read("key", ttl=60) == [b"1"]


async def test_redis_is_reached_over_tls(tmp_path: Path) -> None:
    """With `rediss://`; a server whose certificate nobody vouches for is not trusted."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("ca", "key", "chain")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.private_key_pem.write_to_path(files["key"])
    certificate.cert_chain_pems[0].write_to_path(files["chain"])
    tls = free_port()
    options = ["--tls-port", str(tls), "--tls-cert-file", files["chain"], "--tls-key-file", files["key"]]
    with SERVERS["redis"](None, *options, "--tls-ca-cert-file", files["ca"], "--tls-auth-clients", "no"):
        cache = RedisCache(f"rediss://127.0.0.1:{tls}?ssl_ca_certs={files['ca']}", prefix="")
        await cache.create("key", [b"1"], ttl=60)
        assert await cache.read("key", ttl=60) == [b"1"]
        await cache.close()
        stranger = RedisCache(f"rediss://127.0.0.1:{tls}", prefix="")
        with pytest.raises(Unavailable):
            await stranger.read("key", ttl=60)
        await stranger.close()


class TestMemory:
    async def test_memory_is_given_back_without_anybody_asking(self) -> None:
        """Expired entries leave by themselves, not when they are looked for."""
        cache = MemoryCache(limit=10_000_000)
        for number in range(100):
            await cache.create(str(number), [b"x" * 1000], ttl=0.05 if number else 60)
        assert cache.size > 100_000
        await asyncio.sleep(0.2)
        assert 1000 < cache.size < 2000
        assert await cache.read("0", ttl=60)
        await cache.close()

    async def test_a_full_cache_refuses_and_evicts_nobody(self) -> None:
        """What lives stays; the refusal says when there will be room."""
        cache = MemoryCache(limit=5000)
        await cache.create("old", [b"x" * 4000], ttl=30)
        with pytest.raises(OutOfSpace) as refused:
            await cache.create("new", [b"x" * 4000], ttl=60)
        assert isinstance(refused.value.retry_after, float)
        assert 0 < refused.value.retry_after <= 30
        with pytest.raises(OutOfSpace):
            await cache.read("old", ttl=60, room=1000)
        assert await cache.read("old", ttl=60) == [b"x" * 4000]
        await cache.close()

    async def test_room_that_was_asked_for_is_there(self) -> None:
        """A reply that has been paid for is stored even if the cache fills up meanwhile."""
        cache = MemoryCache(limit=5000)
        await cache.create("key", [b""], ttl=30)
        await cache.read("key", ttl=60, room=1000)
        await cache.create("other", [b"x" * 3500], ttl=60)
        assert await cache.append("key", [b"x" * 1000, b"y" * 1000], length=1, ttl=60)
        await cache.close()

    async def test_there_is_room_again_when_something_has_expired(self) -> None:
        """A full cache looks for what is over before it refuses."""
        cache = MemoryCache(limit=5000)
        await cache.create("old", [b"x" * 4000], ttl=0.05)
        await asyncio.sleep(0.1)
        await cache.create("new", [b"x" * 4000], ttl=60)
        assert await cache.read("new", ttl=60)
        await cache.close()
