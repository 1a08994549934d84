"""Live installs: what is installed, configured and uninstalled takes effect in a host that runs."""

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from marketplace.installs import InstallsFile
from tests.facilities import cache_environment
from tests.host import Host, install, serving
from tests.live import WITHIN, Shop, call_afresh, eventually, states
from tests.upstream import KEY, FakeUpstream, slow

TALLY = "/api/services/Tally"

LEAKY = """
class Configuration(msgspec.Struct):
    key: str

async def start(self):
    KEYS.append(self.configuration.key)
    raise OSError(" ".join(KEYS))
"""


@pytest.fixture
def shop(tmp_path: Path, home: Path) -> Shop:
    """A shop that offers Tally."""
    return Shop(tmp_path / "plugins", home)


@pytest.fixture
def live(shop: Shop, home: Path) -> Iterator[Host]:
    """A host that has Tally installed."""
    shop.install("Tally", word="first")
    with serving(home, **shop.environment) as host:
        assert states(host) == {"Tally": "ok"}
        yield host


class TestChanges:
    def test_install_configure_and_uninstall_take_effect(self, shop: Shop, live: Host) -> None:
        """The listing, the methods, the calls by name and the document follow."""
        shop.offer("Notes")
        shop.install("Notes")
        eventually(lambda: states(live) == {"Notes": "ok", "Tally": "ok"})
        assert live.http.get("/api/services/Notes/word").text == "Notes"
        assert live.http.post("/api/services/Notes/word").text == "Notes"
        assert "/api/services/Notes/word" in live.http.get("/schema/openapi.json").json()["paths"]
        shop.install("Tally", word="second")
        eventually(lambda: live.http.get(f"{TALLY}/about").json()["word"] == "second")
        shop.uninstall("Notes")
        eventually(lambda: states(live) == {"Tally": "ok"})
        for answer in (live.http.get("/api/services/Notes/word"), live.http.post("/api/services/Notes/word")):
            assert (answer.status_code, answer.json()["code"]) == (404, 14001)
        assert "/api/services/Notes/word" not in live.http.get("/schema/openapi.json").json()["paths"]

    def test_who_did_not_change_keeps_the_instance(self, shop: Shop, live: Host) -> None:
        """It goes on counting, although another service came and went, and its install was written anew."""
        before = live.http.get(f"{TALLY}/about").json()
        shop.offer("Notes")
        shop.install("Notes")
        eventually(lambda: "Notes" in states(live))
        shop.uninstall("Notes")
        shop.install("Tally", word="first")
        eventually(lambda: "Notes" not in states(live))
        after = live.http.get(f"{TALLY}/about").json()
        assert after == {**before, "calls": 2, "tasks": after["tasks"], "threads": after["threads"]}

    def test_calls_in_flight_end_as_they_began(self, shop: Shop, live: Host) -> None:
        """One that is under way is answered by the service it reached, configured anew or uninstalled."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(live.http.get, f"{TALLY}/linger")
            time.sleep(0.1)
            shop.install("Tally", word="second")
            eventually(lambda: live.http.get(f"{TALLY}/about").json()["word"] == "second", 1.5)
            second = pool.submit(live.http.get, f"{TALLY}/linger")
            time.sleep(0.1)
            shop.uninstall("Tally")
            eventually(lambda: states(live) == {}, 1.5)
            assert not second.done()
            assert (first.result().text, second.result().text) == ("first", "second")
        assert "Traceback" not in live.log.read_text()

    def test_a_new_key_is_used_by_the_next_call(self, home: Path, upstream: FakeUpstream) -> None:
        """The session goes on, and a call in flight ends with the old key."""
        install(home, upstream.url, KEY)
        upstream.behaviours["slow"] = slow(2.5)
        installs = InstallsFile(home)
        with serving(home) as host, concurrent.futures.ThreadPoolExecutor() as pool:
            session = host.create_session()
            host.send(session, "One")
            other = pool.submit(host.send, host.create_session(), "slow")
            time.sleep(0.2)
            made = installs.load()["OpenAI"]
            answers = {**made.answers, "apiKey": "sk-another-0123456789abc"}
            installs.save(msgspec.structs.replace(made, answers=answers))
            time.sleep(WITHIN)
            assert host.send(session, "Two") == "Two?"
            assert other.result() == "Finally."
            assert len(host.history(session)) == 4
            assert [headers["Authorization"] for headers in upstream.headers] == [
                f"Bearer {KEY}",
                f"Bearer {KEY}",
                "Bearer sk-another-0123456789abc",
            ]
            assert "Traceback" not in host.log.read_text()

    def test_it_takes_effect_in_every_worker_of_every_host(self, shop: Shop, home: Path) -> None:
        """Two seconds after it was installed, there is none that does not have it."""
        shop.install("Tally", word="first")
        shared = {**shop.environment, **cache_environment("redis")}
        with (
            serving(home, "--workers", "2", **shared) as one,
            serving(home, "--workers", "2", **shared) as other,
        ):
            for host in (one, other):
                assert words(host) == {"first"}
            shop.install("Tally", word="second")
            time.sleep(WITHIN)
            for host in (one, other):
                assert words(host) == {"second"}
            shop.uninstall("Tally")
            time.sleep(WITHIN)
            for host in (one, other):
                codes = {call_afresh(host, f"{TALLY}/about").json().get("code") for _ in range(20)}
                assert codes == {14001}

    def test_a_key_that_was_replaced_stays_hidden(self, shop: Shop, live: Host) -> None:
        """Whoever quotes it: it may still open something."""
        shop.offer("Leaky", LEAKY, "KEYS = []", key="SECRET")
        for number in (1, 2):
            shop.install("Leaky", key=f"sk-the-key-{number}")
            eventually(lambda n=number: live.log.read_text().count("OSError: ") == n)  # type: ignore[misc]
        told = live.log.read_text()
        assert "OSError: ... ...\n" in told.replace(" request_id=-", "")
        assert "sk-the-key" not in told


def words(host: Host) -> set[str]:
    """Return what the instances of both workers were installed with."""
    found: dict[int, str] = {}
    eventually(lambda: found.update(word_of(host)) or len(found) == 2, 10)
    return set(found.values())


def word_of(host: Host) -> dict[int, str]:
    about = call_afresh(host, f"{TALLY}/about").json()
    return {about["pid"]: about["word"]}


class TestInstalls:
    def test_what_cannot_be_read_is_told_once_and_changes_nothing(
        self, shop: Shop, live: Host, home: Path
    ) -> None:
        """The services stay as they are; once it is mended, what it says is taken over."""
        path = home / "installs.json"
        good = path.read_text()
        path.write_text("{")
        eventually(lambda: "is damaged" in live.log.read_text())
        path.write_text(good)
        eventually(lambda: "can be read again" in live.log.read_text())
        path.chmod(0o644)
        eventually(lambda: "others can read it" in live.log.read_text())
        time.sleep(1)
        assert states(live) == {"Tally": "ok"}
        path.chmod(0o600)
        eventually(lambda: live.log.read_text().count("can be read again") == 2)
        shop.install("Tally", word="second")
        eventually(lambda: live.http.get(f"{TALLY}/about").json()["word"] == "second")
        told = live.log.read_text()
        assert told.count("is damaged") == told.count("others can read it") == 1

    def test_a_manifest_that_cannot_be_read_is_told(self, shop: Shop, live: Host) -> None:
        """It is mended as it was broken: at any time."""
        good = shop.manifest.read_text()
        shop.manifest.write_text("products: 5")
        eventually(lambda: "manifest.yaml cannot be used:" in live.log.read_text())
        assert states(live) == {"Tally": "ok"}
        shop.manifest.write_text(good.replace("Tally for tests", "Told otherwise"))
        eventually(lambda: live.http.get("/api/services").json()[0]["summary"] == "Told otherwise")


TWICE = """
def router(self):
    @get("/a")
    async def word() -> str: ...

    @get("/b", opt={"method": "word"})
    async def other() -> str: ...

    return Router("/", route_handlers=[word, other])
"""

CLASHING = """
def router(self):
    @get("/api-docs")  # the host's
    async def word() -> str: ...

    return Router("/", route_handlers=[word])
"""

BROKEN = {
    "Absent": ("", "import nowhere", "The plugin plugin_absent cannot be loaded: ModuleNotFoundError"),
    "Misspelt": ("", "def", "The plugin plugin_misspelt cannot be loaded: SyntaxError"),
    "Exits": ("", "sys.exit(3)", "It failed to start with SystemExit; the host's log tells more."),
    "Interrupts": ("", "raise KeyboardInterrupt", "It failed to start with KeyboardInterrupt"),
    "Cancels": ("", "raise asyncio.CancelledError", "It failed to start with CancelledError"),
    "Unconfigured": (
        "class Configuration(msgspec.Struct):\n    key: str",
        "",
        "object missing required field key",
    ),
    "Unmade": ("def __init__(self, *_):\n    raise KeyError", "", "It failed to start with KeyError"),
    "Unstarted": ("async def start(self):\n    raise OSError", "", "It failed to start with OSError"),
    "Cancelled": (
        "async def start(self):\n    raise asyncio.CancelledError",
        "",
        "It failed to start with CancelledError",
    ),
    "Synchronous": ("def start(self):\n    pass", "", "It failed to start with AttributeError"),
    "Twice": (TWICE, "", "Two of its methods are word."),
    "Clashing": (CLASHING, "", "It failed to start with ImproperlyConfiguredException"),
    "Unrouted": ("def router(self):\n    return 42", "", "It failed to start with"),
    "Sleeper": (
        "async def start(self):\n    await asyncio.sleep(10)",
        "",
        "It did not start within 8 seconds.",
    ),
    "Blocker": ("async def start(self):\n    time.sleep(10)", "", "It blocked the host for 2 seconds"),
    "Spinner": ("async def start(self):\n    while True: pass", "", "It blocked the host for 2 seconds"),
    "Importer": ("", "time.sleep(10)", "It did not start within 8 seconds."),
    "Maker": ("def __init__(self, *_):\n    time.sleep(10)", "", "It did not start within 8 seconds."),
    "Router": ("def router(self):\n    time.sleep(10)", "", "It did not start within 8 seconds."),
}
"""Plugins by their products: what is wrong inside the service or outside of it, and what is told of it."""


@pytest.fixture
def broken(shop: Shop) -> Shop:
    """A shop with all of the broken plugins."""
    for name, (inside, outside, _) in BROKEN.items():
        shop.offer(name, inside, outside)
    return shop


class TestBroken:
    def test_they_keep_nobody_down_at_the_start(self, broken: Shop, home: Path) -> None:
        """The others answer within seconds, and each of them is failed with its reason."""
        for name in (*BROKEN, "Tally"):
            broken.install(name)
        with serving(home, **broken.environment) as host:
            assert host.http.get(f"{TALLY}/about").status_code == 200
            self._assert_failed(host)

    def test_they_keep_nobody_down_at_a_reload(self, broken: Shop, live: Host) -> None:
        """Nor do they delay what was changed together with them, or after them."""
        for name in BROKEN:
            if name not in ("Blocker", "Spinner"):
                broken.install(name)
        broken.install("Tally", word="second")
        eventually(lambda: live.http.get(f"{TALLY}/about").json()["word"] == "second")
        time.sleep(0.5)
        broken.install("Tally", word="third")
        eventually(lambda: live.http.get(f"{TALLY}/about").json()["word"] == "third")
        assert set(states(live).values()) == {"ok", "starting", "failed"}
        for name in ("Blocker", "Spinner"):
            broken.install(name)
        self._assert_failed(live)

    def _assert_failed(self, host: Host) -> None:
        eventually(lambda: "starting" not in states(host).values(), 30)
        told = {info["name"]: info for info in host.http.get("/api/services").json()}
        for name, (_, _, reason) in BROKEN.items():
            assert told[name]["state"] == "failed", name
            assert told[name]["reason"].startswith(reason), told[name]["reason"]
            answer = host.http.get(f"/api/services/{name}/word")
            assert (answer.status_code, answer.json()["errorData"]["reason"]) == (503, "not_started")
        assert told["Tally"]["state"] == "ok"
        assert "could not be taken over" not in host.log.read_text()
