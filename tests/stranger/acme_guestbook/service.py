"""The guestbook service: its configuration and its methods."""

import hmac
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency

from acme_guestbook.entries import Entries, Entry
from marketplace import Host, InvalidArgument, RateLimited, Service

__all__ = ["Guestbook", "GuestbookConfiguration"]

PAUSE = 60
"""Seconds until the same name may sign again."""


class GuestbookConfiguration(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answers to the configuration items."""

    title: str
    moderated: bool
    page_size: Annotated[int, msgspec.Meta(ge=1, le=100)]
    order: Literal["newest", "oldest"]
    owner_key: str
    welcome: str = ""

    def __post_init__(self) -> None:
        """Refuse a key that is easily guessed."""
        if len(self.owner_key) < 12:
            raise InvalidArgument("a key has at least 12 characters", parameter="ownerKey")

    def __repr__(self) -> str:
        return f"GuestbookConfiguration(title={self.title!r}, owner_key=...)"


class Sign(msgspec.Struct, frozen=True):
    """The arguments of sign."""

    name: Annotated[str, msgspec.Meta(description="Who signs.", examples=["Ada"], max_length=100)]
    text: Annotated[str, msgspec.Meta(description="What is written.", examples=["I was here."])]


class GetEntries(msgspec.Struct, frozen=True):
    """The argument of getEntries."""

    page: Annotated[int, msgspec.Meta(description="Which page, counted from 0.", ge=0)] = 0


class Publish(msgspec.Struct, frozen=True, rename="camel"):
    """The arguments of publish."""

    id: Annotated[str, msgspec.Meta(description="The id of an entry.")]
    owner_key: Annotated[str, msgspec.Meta(description="The owner's key.")]


class Signed(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to sign and publish."""

    id: str
    is_published: bool


class Page(msgspec.Struct, frozen=True):
    """The answer to getEntries."""

    title: str
    welcome: str
    entries: list[Entry]


class Guestbook(Service[GuestbookConfiguration]):
    """A guestbook that whoever comes by may sign."""

    name = "Guestbook"
    Configuration = GuestbookConfiguration

    def __init__(self, configuration: GuestbookConfiguration, host: Host) -> None:
        super().__init__(configuration, host)
        self._entries = Entries(host.database)

    async def stored_data(self) -> Sequence[str]:
        """Count the entries."""
        count = await self._entries.count()
        entries = "entry" if count == 1 else "entries"
        return [f"{count} {entries} in the table GuestbookEntry"] if count else []

    async def drop_data(self) -> None:
        """Delete all entries."""
        await self._entries.drop()

    def router(self) -> Router:
        """Return the three methods."""
        configuration = self.configuration

        @post("/entries", status_code=200)
        async def sign(arguments: NamedDependency[Sign]) -> Signed:
            """Write into the guestbook."""
            await self._pause(arguments.name)
            is_published = not configuration.moderated
            made = await self._entries.add(arguments.name, arguments.text, is_published=is_published)
            return Signed(made, is_published)

        @get("/entries")
        async def get_entries(arguments: NamedDependency[GetEntries]) -> Page:
            """Return a page of what is published."""
            newest_first = configuration.order == "newest"
            page = await self._entries.page(
                arguments.page, configuration.page_size, newest_first=newest_first
            )
            return Page(configuration.title, configuration.welcome, page)

        @post("/publish", status_code=200)
        async def publish(arguments: NamedDependency[Publish]) -> Signed:
            """Publish an entry that waits for it."""
            if not hmac.compare_digest(arguments.owner_key.encode(), configuration.owner_key.encode()):
                raise InvalidArgument("it is not the owner's key", parameter="ownerKey")
            await self._entries.publish(arguments.id)
            return Signed(arguments.id, is_published=True)

        return Router("/", route_handlers=[sign, get_entries, publish])

    async def _pause(self, name: str) -> None:
        key = f"Guestbook:signed:{name}"
        if await self.host.cache.read(key, ttl=1):
            raise RateLimited("the same name signs once a minute", retry_after=PAUSE)
        await self.host.cache.create(key, [b"signed"], ttl=PAUSE)
