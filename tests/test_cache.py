"""The cache facility: one contract for every backend, and what is the memory cache's own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis
import trustme

from marketplace import Cache, Unavailable
from marketplace.errors import OutOfSpace
from service.cache import MemoryCache, RedisCache
from service.cache.leases import Leases
from tests.facilities import CACHES, FAKE, PREFIX, cache_url, open_cache
from tests.servers import SERVERS, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[*CACHES, FAKE])
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


class TestLeases:
    async def test_one_has_the_lease_and_the_next_gets_it_when_it_is_given_back(self, cache: Cache) -> None:
        """Who waits is woken at once."""
        assert await cache.lease("key", "a", ttl=60, wait=0)
        assert not await cache.lease("key", "b", ttl=60, wait=0)
        assert await cache.lease("other", "b", ttl=60, wait=0)
        waiting = asyncio.create_task(cache.lease("key", "b", ttl=60, wait=30))
        await asyncio.sleep(0.1)
        await cache.release("key", "stranger")
        assert not waiting.done()
        await cache.release("key", "a")
        async with asyncio.timeout(0.5):
            assert await waiting

    async def test_those_who_wait_get_it_in_the_order_in_which_they_came(self, cache: Cache) -> None:
        """Nobody passes by, and nobody has it together with another."""
        order: list[int] = []

        async def take(number: int) -> None:
            assert await cache.lease("key", str(number), ttl=60, wait=30)
            order.append(number)
            await asyncio.sleep(0.01)
            assert order[-1] == number
            await cache.release("key", str(number))

        assert await cache.lease("key", "first", ttl=60, wait=0)
        waiting = []
        for number in range(8):
            waiting.append(asyncio.create_task(take(number)))
            await asyncio.sleep(0.02)
        await cache.release("key", "first")
        await asyncio.gather(*waiting)
        assert order == list(range(8))

    async def test_a_lease_that_nobody_renews_runs_out(self, cache: Cache) -> None:
        """The next one need not wait longer than for that."""
        assert await cache.lease("key", "dead", ttl=0.3, wait=0)
        async with asyncio.timeout(2):
            assert await cache.lease("key", "next", ttl=60, wait=30)
        assert await cache.renew({"key": "dead"}, ttl=60) == set()

    async def test_a_lease_that_is_renewed_stays(self, cache: Cache) -> None:
        """Many are renewed together; those that are lost are not among the answers."""
        tokens = {f"key-{number}": f"token-{number}" for number in range(100)}
        for key, token in tokens.items():
            assert await cache.lease(key, token, ttl=0.5, wait=0)
        assert await cache.renew({**tokens, "unknown": "x"}, ttl=60) == tokens.keys()
        await asyncio.sleep(0.6)
        assert not await cache.lease("key-7", "other", ttl=60, wait=0)

    async def test_one_that_ran_out_is_still_held_if_nobody_took_it(self, cache: Cache) -> None:
        """A holder that was late can go on, but not after somebody else had it."""
        await cache.create("key", [b"1"], ttl=60)
        assert await cache.lease("key", "late", ttl=0.05, wait=0)
        await asyncio.sleep(0.1)
        assert await cache.append("key", [b"2"], length=1, ttl=60, token="late")
        assert await cache.renew({"key": "late"}, ttl=0.05) == {"key"}
        await asyncio.sleep(0.1)
        assert await cache.lease("key", "next", ttl=60, wait=0)
        await cache.release("key", "next")
        assert not await cache.append("key", [b"3"], length=2, ttl=60, token="late")
        assert await cache.renew({"key": "late"}, ttl=60) == set()

    async def test_an_append_needs_the_lease_that_it_names(self, cache: Cache) -> None:
        """The right length is not enough."""
        await cache.create("key", [b"1"], ttl=60)
        assert not await cache.append("key", [b"2"], length=1, ttl=60, token="a")
        assert await cache.lease("key", "a", ttl=60, wait=0)
        assert not await cache.append("key", [b"2"], length=1, ttl=60, token="b")
        assert await cache.append("key", [b"2"], length=1, ttl=60, token="a")
        assert await cache.read("key", ttl=60) == [b"1", b"2"]

    async def test_the_same_append_again_changes_nothing(self, cache: Cache) -> None:
        """Somebody whose answer was lost may ask once more."""
        await cache.create("key", [b"1"], ttl=60)
        assert await cache.lease("key", "a", ttl=60, wait=0)
        for _ in range(2):
            assert await cache.append("key", [b"2"], length=1, ttl=60, token="a")
        assert await cache.append("key", [b"3"], length=2, ttl=60, token="a")
        assert await cache.read("key", ttl=60) == [b"1", b"2", b"3"]

    async def test_who_gives_up_waiting_stands_in_nobodys_way(self, cache: Cache) -> None:
        """Neither by time nor by being cancelled."""
        assert await cache.lease("key", "a", ttl=60, wait=0)
        left = asyncio.create_task(cache.lease("key", "left", ttl=60, wait=30))
        tired = asyncio.create_task(cache.lease("key", "tired", ttl=60, wait=0.1))
        patient = asyncio.create_task(cache.lease("key", "patient", ttl=60, wait=30))
        await asyncio.sleep(0.2)
        left.cancel()
        assert not await tired
        await asyncio.sleep(0.05)
        await cache.release("key", "a")
        async with asyncio.timeout(0.5):
            assert await patient

    async def test_deleted_entries_are_gone(self, cache: Cache) -> None:
        """Deleting what is not there is nothing."""
        await cache.create("key", [b"1"], ttl=60)
        await cache.delete("key")
        await cache.delete("key")
        assert await cache.read("key", ttl=60) is None


@pytest.mark.parametrize("backend", ["redis", "cluster"])
async def test_a_waiter_on_another_host_is_woken(backend: str) -> None:
    """Through Redis, long before it would look for itself."""
    async with AsyncExitStack() as stack:
        hosts = [RedisCache(cache_url(backend), prefix=f"{PREFIX}wake:") for _ in range(2)]
        for host in hosts:
            stack.push_async_callback(host.close)
        assert await hosts[0].lease("key", "a", ttl=60, wait=0)
        waiting = asyncio.create_task(hosts[1].lease("key", "b", ttl=60, wait=30))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await hosts[0].release("key", "a")
        assert await waiting
        assert time.monotonic() - started < 0.5


async def test_leases_that_are_over_take_no_memory() -> None:
    """Whether they were given back or waited for in vain."""
    leases = Leases()
    for number in range(100):
        assert await leases.take(str(number), "a", ttl=60, wait=0)
        assert not await leases.take(str(number), "b", ttl=60, wait=0)
        leases.release(str(number), "a")
    assert len(leases) == 0


async def test_a_full_redis_refuses_before_anything_is_paid() -> None:
    """Neither a new session nor a turn begins that could not be stored; what is there can be read."""
    with SERVERS["redis"](None, "--maxmemory-policy", "noeviction") as server:
        cache = RedisCache(server.url, prefix="")
        await cache.create("key", [b"1"], ttl=60)
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", "1mb")
        with pytest.raises(OutOfSpace):
            await cache.create("other", [b"1"], ttl=60)
        with pytest.raises(OutOfSpace):
            await cache.lease("key", "a", ttl=60, wait=0)
        assert await cache.read("key", ttl=60) == [b"1"]
        await cache.close()


async def test_a_cluster_bears_many_calls_at_once() -> None:
    """They wait for each other instead of failing."""
    cache = RedisCache(cache_url("cluster"), prefix=f"{PREFIX}many:")
    taken = await asyncio.gather(*(cache.lease(str(n), "a", ttl=60, wait=0) for n in range(1000)))
    assert all(taken)
    await cache.close()
