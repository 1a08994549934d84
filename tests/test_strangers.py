"""A stranger's package, as pip installs it into a copy of the environment while a host runs there."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from marketplace.manifest import ItemType, read_manifest
from tests.copies import Copy
from tests.host import Host, environment, marketplace, serving

STRANGER = Path(__file__).parent / "stranger"
PRODUCT = read_manifest(STRANGER / "acme_guestbook" / "manifest.yaml").product("Guestbook")
KEY = "owner-0123456789"

NOTICED_WITHIN = 2.0
"""Seconds after which a change has to be seen."""


class Shop:
    """A copy of the environment, a home, and a host that runs there."""

    def __init__(self, copy: Copy, home: Path) -> None:
        self.copy = copy
        self.home = home
        self.host: Host
        self._running = ExitStack()

    def start(self, **more: str) -> None:
        """Start the host, or start it anew."""
        self.stop()
        host = serving(self.home, command=self.copy.command, GUESTBOOK_OWNER_KEY=KEY, **more)
        self.host = self._running.enter_context(host)

    def stop(self) -> None:
        """Stop the host."""
        self._running.close()

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command, and return what it did."""
        command = self.copy.command
        return marketplace(self.home, *arguments, command=command, GUESTBOOK_OWNER_KEY=KEY, **more)

    def service(self) -> dict[str, Any]:
        """Return what the host tells of the guestbook; nothing if it knows none."""
        services = self.host.http.get("/api/services").json()
        return next((service for service in services if service["name"] == "Guestbook"), {})

    def expect(self, state: str | None) -> None:
        """Wait until the host, as it runs, has noticed that the guestbook is in this state, or gone."""
        deadline = time.monotonic() + NOTICED_WITHIN
        while (service := self.service()).get("state") != state:
            assert time.monotonic() < deadline, service
            time.sleep(0.05)

    def invoke(self, method: str, **arguments: object) -> Any:
        """Call a method by its name."""
        answer = self.host.http.post(f"/api/services/Guestbook/{method}", json=arguments)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy of the environment that the module's tests share, without the package at first."""
    return Copy(tmp_path_factory.mktemp("copy") / "environment")


@pytest.fixture(scope="class")
def installed(copy: Copy) -> Iterator[None]:
    """The package is in the copy while the tests of a class run."""
    copy.install(STRANGER)
    yield
    copy.uninstall("acme-guestbook")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The stranger's package, where building and testing it leaves nothing behind."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return Path(shutil.copytree(STRANGER, tmp_path / "package", ignore=ignored))


@pytest.fixture
def shop(copy: Copy, home: Path) -> Iterator[Shop]:
    """A shop with a running host, in which nothing is installed yet."""
    shop = Shop(copy, home)
    shop.start()
    yield shop
    shop.stop()


def test_it_is_found_installed_served_and_removed_while_a_host_runs(shop: Shop, package: Path) -> None:
    """From `pip install` to `pip uninstall`; no other environment ever hears of it."""
    assert "Guestbook" not in shop.run("list").stdout
    shop.copy.install(package)
    listed = shop.run("list")
    assert "Guestbook" in listed.stdout
    assert "2.1.0" in listed.stdout
    assert listed.stderr == ""
    assert "Guestbook" not in marketplace(shop.home, "list").stdout

    done = shop.run("install", "Guestbook", "--no-input", "--set", "order=oldest", "--set", "title=Visitors")
    assert done.returncode == 0, done.stderr
    assert "comes from the package acme-guestbook 2.1.0" in done.stderr
    assert "the host's rights" in done.stderr
    assert "/api/services/Guestbook/entries" in done.stdout
    shop.expect("ok")
    check_calls(shop)
    check_documents(shop)

    removed = shop.run("uninstall", "Guestbook", "--drop-data", "--yes")
    assert (removed.returncode, "2 entries in the table GuestbookEntry" in removed.stdout) == (0, True)
    shop.expect(None)
    assert shop.host.http.post("/api/services/Guestbook/sign", json={}).json()["code"] == 14001
    shop.copy.uninstall("acme-guestbook")
    assert "Guestbook" not in shop.run("list").stdout


def check_calls(shop: Shop) -> None:
    """Call the methods by name and by route, with all that the configuration says."""
    for name in ("Ada", "Bob"):
        assert shop.invoke("sign", name=name, text="I was here. 🎉")["isPublished"] is True
    page = shop.invoke("getEntries")
    assert (page["title"], page["welcome"]) == ("Visitors", "Welcome.\nPlease sign.")
    assert [entry["name"] for entry in page["entries"]] == ["Ada", "Bob"]
    assert shop.host.http.get("/api/services/Guestbook/entries").json() == page
    again = shop.host.http.post("/api/services/Guestbook/entries", json={"name": "Ada", "text": "Me again."})
    assert (again.status_code, again.headers["Retry-After"]) == (429, "60")
    wrong = shop.host.http.post("/api/services/Guestbook/sign", json={"name": "Ada"})
    assert wrong.json()["message"] == "Missing parameter 'text'."


def check_documents(shop: Shop) -> None:
    """Look for the methods in the document of all services and in that of this one, and in its manifest."""
    for path in ("/schema/openapi.json", "/api/services/Guestbook/api-docs"):
        paths = shop.host.http.get(path).json()["paths"]
        for method in ("sign", "getEntries", "publish"):
            assert f"/api/services/Guestbook/{method}" in paths
        assert paths["/api/services/Guestbook/entries"].keys() == {"get", "post"}
    base = "/api/services/Guestbook"
    told = {(method.name, method.verb, f"{base}{method.route}") for method in PRODUCT.methods}
    assert told == {(method["name"], method["verb"], method["route"]) for method in shop.service()["methods"]}


@pytest.mark.usefixtures("installed")
class TestInstalled:
    def test_its_items_are_of_every_type(self) -> None:
        """What ours does not use is used here."""
        assert {item.type for item in PRODUCT.configuration} == set(ItemType)

    def test_its_own_tests_pass(self, copy: Copy, package: Path) -> None:
        """In the environment it was installed into, with nothing of this checkout on the path."""
        shutil.rmtree(package / "acme_guestbook")
        done = subprocess.run(
            [copy.python, "-m", "pytest", "-q"],
            cwd=package,
            env=environment(package / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "5 passed" in done.stdout, done.stdout + done.stderr

    def test_an_answer_of_every_type_is_remembered_and_used(self, shop: Shop) -> None:
        """Text with several lines, yes or no, a number, one of some; the secret stays where it was."""
        answers = ["title=Us", "welcome=One\nTwo", "moderated=yes", "pageSize=1", "order=oldest"]
        options = [word for answer in answers for word in ("--set", answer)]
        done = shop.run("install", "Guestbook", "--no-input", *options)
        assert done.returncode == 0, done.stderr
        (install,) = json.loads((shop.home / "installs.json").read_text())["installs"]
        assert install["answers"] == {
            "title": "Us",
            "welcome": "One\nTwo",
            "moderated": True,
            "pageSize": 1,
            "order": "oldest",
            "ownerKey": {"$env": "GUESTBOOK_OWNER_KEY"},
        }
        shop.expect("ok")
        first, second = (shop.invoke("sign", name=name, text="Hi") for name in ("Ada", "Bob"))
        assert shop.invoke("getEntries")["entries"] == []
        for signed in (first, second):
            shop.invoke("publish", id=signed["id"], ownerKey=KEY)
        page = shop.invoke("getEntries", page=1)
        assert (page["title"], page["welcome"]) == ("Us", "One\nTwo")
        assert [entry["id"] for entry in page["entries"]] == [second["id"]]

    @pytest.mark.parametrize(
        ("answer", "told"),
        [("moderated=perhaps", "yes or no"), ("order=random", "newest"), ("pageSize=101", "<= 100")],
    )
    def test_an_answer_that_is_none_is_refused(self, shop: Shop, answer: str, told: str) -> None:
        """By its type, or by the plugin; nothing is remembered."""
        done = shop.run("install", "Guestbook", "--no-input", "--set", answer)
        assert done.returncode == 1
        assert told in done.stderr
        assert not (shop.home / "installs.json").exists()

    def test_one_that_is_not_allowed_is_neither_offered_nor_served(self, shop: Shop) -> None:
        """By command and host alike; what was installed says why it failed, and all else works."""
        for product in (("OpenAI", "--trial"), ("Guestbook",)):
            assert shop.run("install", "--no-input", *product).returncode == 0
        reason = "Guestbook comes from the package acme-guestbook, which MARKETPLACE_PLUGINS does not name."
        for setting in ("", "another-package"):
            assert "Guestbook" not in shop.run("list", MARKETPLACE_PLUGINS=setting).stdout
            done = shop.run("install", "Guestbook", MARKETPLACE_PLUGINS=setting)
            assert (done.returncode, done.stderr) == (1, f"marketplace: {reason}\n")
        shop.start(MARKETPLACE_PLUGINS="")
        assert (shop.service()["state"], shop.service()["reason"]) == ("failed", reason)
        assert shop.host.create_session()
        shop.start(MARKETPLACE_PLUGINS="Acme_Guestbook")
        assert shop.service()["state"] == "ok"

    def test_what_it_stored_survives_a_restart(self, shop: Shop) -> None:
        """Its table is in the host's database."""
        shop.run("install", "Guestbook", "--no-input")
        for _ in range(2):
            shop.start()
            if not shop.invoke("getEntries")["entries"]:
                shop.invoke("sign", name="Ada", text="I was here.")
        assert [entry["name"] for entry in shop.invoke("getEntries")["entries"]] == ["Ada"]


def test_one_whose_package_is_gone_is_failed_with_its_reason(shop: Shop, package: Path) -> None:
    """The install stays until somebody uninstalls it."""
    shop.copy.install(package)
    shop.run("install", "Guestbook", "--no-input")
    shop.expect("ok")
    shop.copy.uninstall("acme-guestbook")
    shop.expect("failed")
    assert shop.service()["reason"].startswith("There is no product 'Guestbook'. On offer: OpenAI.")
    assert shop.run("uninstall", "Guestbook").returncode == 0


def test_a_manifest_that_cannot_be_read_is_told_where_it_is_missed(shop: Shop, package: Path) -> None:
    """By `list` beside all that is on offer, by `install`, and in the host's log, until it is mended."""
    (package / "acme_guestbook" / "manifest.yaml").write_text("products: 1")
    shop.copy.install(package)
    listed = shop.run("list")
    assert (listed.returncode, "OpenAI" in listed.stdout) == (0, True)
    told = "The package acme-guestbook offers nothing: "
    assert told in listed.stderr
    done = shop.run("install", "Guestbook")
    assert done.returncode == 1
    assert told in done.stderr
    shop.start()
    assert shop.service() == {}
    assert told in shop.host.log.read_text()
    shutil.copy(STRANGER / "acme_guestbook" / "manifest.yaml", package / "acme_guestbook")
    shop.copy.install(package, "--force-reinstall")
    assert shop.run("install", "Guestbook", "--no-input").returncode == 0
    shop.expect("ok")
    shop.copy.uninstall("acme-guestbook")
