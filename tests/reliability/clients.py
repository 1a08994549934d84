"""Those who send: each one message after the other, and each message until it is answered."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from tests.reliability.hosts import Host

__all__ = ["Answer", "Crowd", "Habits", "attempt", "create_sessions", "histories"]

PASSING = {14004, 14005, 999}
"""The codes of errors after which the same call may succeed: busy or unavailable, too late, too often."""

BUSY = 14004
"""The code that an answer of 409 has."""

FOUND_AGAIN = 15.0
"""Seconds in which a host has to have found its store again."""

LONGEST_PAUSE = 1.0
"""Seconds that a client waits before it tries again, at most; it is less patient than it is asked to be."""


class Habits(msgspec.Struct, frozen=True):
    """Which share of the calls streams, and which hangs up in the middle."""

    streams: float = 0.25
    hangs_up: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """What a call got: its reply, or the code and the text of its error."""

    status: int
    reply: str | None = None
    code: int | None = None
    text: str = ""


class Crowd:
    """Clients of some sessions at some hosts.

    ``accepted`` are the replies by their prompts, ``refused`` the prompts for which a turn was not to be had,
    ``seen`` how often what happened, ``wrong`` what may not.
    """

    def __init__(self, hosts: Sequence[Host], sessions: Sequence[str], habits: Habits, seed: int) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: set[str] = set()
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._hosts = hosts
        self._sessions = sessions
        self._habits = habits
        self._random = random.Random(seed)

    async def send_all(self, sends: int, *, clients: int, limit: float) -> None:
        """Have so many ``clients`` a session make ``sends`` in all, within ``limit`` seconds."""
        each = max(1, round(sends / (clients * len(self._sessions))))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            tasks = [
                asyncio.create_task(self._go_on(http, session, client, each))
                for session in range(len(self._sessions))
                for client in range(clients)
            ]
            _, late = await asyncio.wait(tasks, timeout=limit)
            for task in late:
                task.cancel()
            if late:
                self.wrong.append(f"{len(late)} clients were not done after {limit:.0f} s")
                await asyncio.wait(late)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                self.wrong.append(f"a client failed: {error!r}")

    async def _go_on(self, http: aiohttp.ClientSession, session: int, client: int, sends: int) -> None:
        for number in range(sends):
            prompt = f"s{session} c{client} n{number}"
            reply = await self._until_answered(http, session, prompt)
            if reply is None:
                return
            self.accepted[prompt] = reply

    async def _until_answered(self, http: aiohttp.ClientSession, session: int, prompt: str) -> str | None:
        pause = 0.05
        patience = self._random.uniform(0.02, 0.4) if self._random.random() < self._habits.hangs_up else None
        while True:
            host = self._random.choice(self._hosts)
            streams = self._random.random() < self._habits.streams
            try:
                async with asyncio.timeout(patience):
                    answer = await attempt(
                        http, host, self._sessions[session], prompt, prompt, streams=streams
                    )
            except TimeoutError:
                patience = None
                self.seen["hung up"] += 1
                continue
            except (aiohttp.ClientError, OSError):
                self.seen["cut off"] += 1
            else:
                if answer.reply is not None:
                    self.seen["answered"] += 1
                    return answer.reply
                self.seen[f"told {answer.code}"] += 1
                if answer.code == BUSY and answer.status in (409, 200):  # a stream has begun with 200
                    self.refused.add(prompt)
                if answer.code not in PASSING:
                    self.wrong.append(f"{prompt} was told {answer}")
                    return None
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)


async def attempt(
    http: aiohttp.ClientSession,
    host: Host,
    session: str,
    prompt: str,
    key: str | None,
    *,
    streams: bool = False,
) -> Answer:
    """Send a message once."""
    headers = {"Accept": "text/event-stream" if streams else "application/json"}
    if key:
        headers["Idempotency-Key"] = key
    body = {"sessionId": session, "message": prompt}
    timeout = aiohttp.ClientTimeout(total=90)
    async with http.post(f"{host.service}/message", json=body, headers=headers, timeout=timeout) as answer:
        content = await answer.text()
    if answer.content_type != "text/event-stream":
        return _answer(answer.status, json.loads(content))
    parts, last = "", {}
    for event in content.split("\n\n"):
        name, _, data = event.partition("\ndata: ")
        if name == "event: delta":
            parts += json.loads(data)["text"]
        elif name in ("event: message", "event: error"):
            last = json.loads(data)
    if not last:
        raise aiohttp.ClientPayloadError("the stream ended without its last event")
    told = _answer(answer.status, last)
    if told.reply is not None and parts != told.reply:
        return Answer(answer.status, code=-1, text=f"{parts!r} was streamed for {told.reply!r}")
    return told


def _answer(status: int, body: dict[str, Any]) -> Answer:
    if "responseMessage" in body:
        return Answer(status, body["responseMessage"])
    return Answer(status, code=body["code"], text=body["message"])


async def create_sessions(host: Host, count: int, *, persist: bool) -> list[str]:
    """Create sessions and return their ids."""
    async with aiohttp.ClientSession() as http:
        created = []
        for _ in range(count):
            body = {"persistInDB": persist}
            async with http.post(f"{host.service}/session", json=body, raise_for_status=True) as answer:
                created.append((await answer.json())["sessionId"])
        return created


async def histories(host: Host, sessions: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return the roles and texts of the messages of each session."""
    async with aiohttp.ClientSession() as http:
        found = []
        for session in sessions:
            messages = await _messages(http, host, session)
            found.append([(message["role"], message["content"]) for message in messages])
        return found


async def _messages(http: aiohttp.ClientSession, host: Host, session: str) -> list[dict[str, str]]:
    """Return the messages of a session, from a host that may be finding its store again."""
    end = time.monotonic() + FOUND_AGAIN
    while True:
        async with http.get(f"{host.service}/session-messages", params={"sessionId": session}) as answer:
            if answer.status != 503 or time.monotonic() > end:
                answer.raise_for_status()
                found: list[dict[str, str]] = (await answer.json())["messages"]
                return found
        await asyncio.sleep(0.5)
