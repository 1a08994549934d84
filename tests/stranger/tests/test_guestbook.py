"""The guestbook as its callers see it, in a host with fake facilities."""

import pytest
from acme_guestbook.service import Guestbook

from marketplace import InvalidArgument
from marketplace.testing import CallFailed, FakeDatabase, host

pytestmark = pytest.mark.anyio

KEY = "0123456789ab"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as the host does."""
    return "asyncio"


async def test_what_is_signed_is_shown() -> None:
    """The newest first, page by page."""
    async with host(Guestbook, {"ownerKey": KEY, "pageSize": 1}) as running:
        for name in ("Ada", "Bob"):
            await running.invoke("sign", {"name": name, "text": "I was here."})
        page = await running.invoke("getEntries")
        assert (page["title"], page["welcome"]) == ("Guestbook", "Welcome.\nPlease sign.")
        assert [entry["name"] for entry in page["entries"]] == ["Bob"]
        assert [entry["name"] for entry in (await running.invoke("getEntries", {"page": 1}))["entries"]] == [
            "Ada"
        ]


async def test_a_moderated_entry_waits_for_the_owner() -> None:
    """And for nobody else."""
    async with host(Guestbook, {"ownerKey": KEY, "moderated": True}) as running:
        signed = await running.invoke("sign", {"name": "Ada", "text": "I was here."})
        assert signed["isPublished"] is False
        assert (await running.invoke("getEntries"))["entries"] == []
        with pytest.raises(CallFailed, match="Invalid parameter 'ownerKey'"):
            await running.invoke("publish", {"id": signed["id"], "ownerKey": "guessed"})
        await running.invoke("publish", {"id": signed["id"], "ownerKey": KEY})
        assert len((await running.invoke("getEntries"))["entries"]) == 1
        with pytest.raises(CallFailed, match="cannot be found: Id - 7"):
            await running.invoke("publish", {"id": "7", "ownerKey": KEY})


async def test_nobody_signs_twice_at_once() -> None:
    """Who does is told when to come back."""
    async with host(Guestbook, {"ownerKey": KEY}) as running:
        await running.invoke("sign", {"name": "Ada", "text": "I was here."})
        answer = await running.http.post("entries", json={"name": "Ada", "text": "I was here."})
        assert answer.headers["Retry-After"] == "60"


async def test_entries_outlive_the_host_until_they_are_dropped() -> None:
    """They are told of as long as there are any."""
    database = FakeDatabase()
    async with host(Guestbook, {"ownerKey": KEY}, database=database) as running:
        assert await running.service.stored_data() == []
        await running.invoke("sign", {"name": "Ada", "text": "I was here."})
    async with host(Guestbook, {"ownerKey": KEY}, database=database) as running:
        assert await running.service.stored_data() == ["1 entry in the table GuestbookEntry"]
        await running.service.drop_data()
        assert await running.service.stored_data() == []
    await database.close()


async def test_a_short_key_is_refused() -> None:
    """The wizard asks for it again."""
    with pytest.raises(InvalidArgument, match="at least 12 characters"):
        async with host(Guestbook, {"ownerKey": "short"}):
            pass
