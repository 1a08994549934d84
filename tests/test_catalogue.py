"""The catalogue: products of pip packages, found without running a line of them."""

import importlib.machinery
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marketplace.catalogue import Catalogue, catalogue, manifest_in
from marketplace.errors import ProductNotFound, SettingsError

Offer = Callable[..., Path]

NOT_TO_BE_RUN = "raise SystemExit('it was imported')"


def manifest(*names: str) -> str:
    products = [
        f"{{name: {n}, version: 1.0.0, section: Own, summary: A summary, plugin: p, configuration: []}}"
        for n in names
    ]
    return f"products: [{', '.join(products)}]"


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Install a package that offers products, as pip leaves it; return the folder of its code."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def offer(
        name: str, manifest: str | None, *, at: str = "stranger", under: Path = site, version: str = "1.2"
    ) -> Path:
        about = site / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "entry_points.txt").write_text(f"[marketplace.products]\nproducts = {at}\n")
        package = under.joinpath(*at.split("."))
        package.mkdir(parents=True, exist_ok=True)
        (under / at.partition(".")[0] / "__init__.py").write_text(NOT_TO_BE_RUN)
        (package / "__init__.py").write_text(NOT_TO_BE_RUN)
        if manifest is not None:
            (package / "manifest.yaml").write_text(manifest)
        return package

    return offer


def names(shop: Catalogue) -> list[str]:
    return [product.name for product in shop.products]


class TestFinding:
    def test_a_package_offers_products_beside_ours(self, offer: Offer) -> None:
        """Each is known with the package it comes from and its version, and nothing is imported."""
        assert names(catalogue({})) == ["OpenAI"]
        offer("Acme.Notes", manifest("Notes", "Lists"))
        shop = catalogue({})
        assert names(shop) == ["OpenAI", "Lists", "Notes"]
        assert (shop.packages["Notes"].name, shop.packages["Notes"].version) == ("acme-notes", "1.2")
        assert shop.packages["OpenAI"].name == "chat-marketplace"
        assert shop.problems == []
        assert "stranger" not in sys.modules

    def test_its_sections_follow_ours(self, offer: Offer) -> None:
        """Those that its products are in; what a section of ours is we say ourselves."""
        sections = "".join(f"{{name: {name}, summary: Theirs}}, " for name in ("Own", "API Services"))
        offer("acme", f"sections: [{sections}]\n{manifest('Notes')}")
        told = [(section.name, section.summary) for section in catalogue({}).sections]
        assert told == [("API Services", "Services that applications call"), ("Own", "Theirs")]

    def test_a_package_below_another_is_found_without_importing_either(self, offer: Offer) -> None:
        """Its entry point names it in full."""
        offer("acme", manifest("Notes"), at="acme.notes")
        assert names(catalogue({})) == ["OpenAI", "Notes"]
        assert "acme" not in sys.modules

    def test_one_that_is_developed_elsewhere_is_found_on_the_path(
        self, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As `pip install --editable` leaves it with a `.pth` file."""
        monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
        offer("acme", manifest("Notes"), under=tmp_path / "checkout")
        assert names(catalogue({})) == ["OpenAI", "Notes"]

    def test_one_that_is_developed_elsewhere_is_found_by_its_finder(
        self, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As `pip install --editable` leaves it with a finder of the build tool's."""
        package = offer("acme", manifest("Notes"), under=tmp_path / "checkout")

        class Finder:
            @staticmethod
            def find_spec(name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
                if name != "stranger":
                    return None
                return importlib.machinery.PathFinder.find_spec(name, [str(package.parent)])

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
        assert names(catalogue({})) == ["OpenAI", "Notes"]

    def test_nothing_is_remembered(self, offer: Offer) -> None:
        """What changes meanwhile is seen by the next call."""
        package = offer("acme", manifest("Notes"))
        assert names(catalogue({})) == ["OpenAI", "Notes"]
        (package / "manifest.yaml").write_text(manifest("Lists"))
        assert names(catalogue({})) == ["OpenAI", "Lists"]
        offer("umbrella", manifest("Rain"), at="umbrella")
        assert names(catalogue({})) == ["OpenAI", "Lists", "Rain"]

    def test_a_package_may_have_no_manifest(self) -> None:
        """That is no mistake until it offers products."""
        assert manifest_in("tests") is None


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("products: 1", "The package acme offers nothing: {path} cannot be used:\n{path}:1:"),
            ("products: [", "The package acme offers nothing: {path} cannot be used:\n{path}:1:"),
            (None, "The package acme offers nothing: stranger has no manifest.yaml."),
        ],
    )
    def test_a_manifest_that_cannot_be_used_keeps_nobody_else_down(
        self, offer: Offer, text: str | None, told: str
    ) -> None:
        """It is told with its package, also to whoever asks for a product that may be in it."""
        package = offer("acme", text)
        offer("umbrella", manifest("Rain"), at="umbrella")
        shop = catalogue({})
        assert names(shop) == ["OpenAI", "Rain"]
        (problem,) = shop.problems
        assert problem.startswith(told.format(path=package / "manifest.yaml"))
        with pytest.raises(ProductNotFound) as refused:
            shop.product("Notes")
        assert problem in str(refused.value)

    @pytest.mark.parametrize(
        "value",
        ["nowhere", "sys", "tests:main", "tests.nowhere", "a b", ".", "__main__", f"tests.{'x' * 300}"],
    )
    def test_an_entry_point_that_names_no_package_is_told(
        self, offer: Offer, tmp_path: Path, value: str
    ) -> None:
        """Whatever it names instead."""
        offer("acme", manifest("Notes"))
        points = tmp_path / "site" / "acme-1.2.dist-info" / "entry_points.txt"
        points.write_text(f"[marketplace.products]\nproducts = {value}\n")
        shop = catalogue({})
        assert names(shop) == ["OpenAI"]
        (problem,) = shop.problems
        assert problem.startswith("The package acme offers nothing: ")

    def test_what_pip_leaves_while_it_replaces_a_package_is_no_second_one(
        self, offer: Offer, tmp_path: Path
    ) -> None:
        """Nor is what it has just begun to write."""
        offer("acme", manifest("Notes"))
        site = tmp_path / "site"
        shutil.copytree(site / "acme-1.2.dist-info", site / "~cme-1.2.dist-info")
        begun = shutil.copytree(site / "acme-1.2.dist-info", site / "umbrella-1.0.dist-info")
        (begun / "METADATA").unlink()
        shop = catalogue({})
        assert (names(shop), shop.problems) == (["OpenAI", "Notes"], [])

    def test_ours_is_kept(self, offer: Offer) -> None:
        """A package cannot put its own product in the place of ours, and it is told that it tries."""
        offer("acme", manifest("OpenAI", "Notes"))
        shop = catalogue({})
        assert names(shop) == ["OpenAI", "Notes"]
        assert shop.product("OpenAI").plugin == "plugins.openai_chat"
        assert shop.packages["OpenAI"].name == "chat-marketplace"
        assert shop.problems == ["OpenAI of acme is not offered: there is one of ours."]

    def test_answers_go_only_to_the_package_they_were_given_to(self, offer: Offer) -> None:
        """A product of the same name that another package offers later is told apart."""
        offer("acme", manifest("Notes"))
        shop = catalogue({})
        assert shop.product("Notes", package="acme").name == "Notes"
        assert shop.product("Notes").name == "Notes"
        with pytest.raises(ProductNotFound, match="from the package other, and is offered by acme now"):
            shop.product("Notes", package="other")

    def test_what_two_packages_offer_is_offered_by_neither(self, offer: Offer) -> None:
        """Otherwise the second one would be handed the first one's secrets."""
        offer("acme", manifest("Notes", "Lists"))
        offer("umbrella", manifest("Notes"), at="umbrella")
        shop = catalogue({})
        assert names(shop) == ["OpenAI", "Lists"]
        (problem,) = shop.problems
        assert "it is there more than once: in acme, umbrella." in problem
        with pytest.raises(ProductNotFound, match="acme, umbrella"):
            shop.product("Notes")
        chosen = catalogue({"MARKETPLACE_PLUGINS": "umbrella"})
        assert chosen.packages["Notes"].name == "umbrella"
        assert chosen.problems == []


class TestAllowed:
    @pytest.mark.parametrize(
        ("setting", "offered"),
        [
            ("", []),
            (" ,", []),
            ("acme-notes", ["Notes"]),
            (" umbrella , ACME_Notes", ["Notes", "Rain"]),
            ("acme", []),
        ],
    )
    def test_only_packages_that_are_named_offer_products(
        self, offer: Offer, setting: str, offered: list[str]
    ) -> None:
        """Names are compared as pip does; nothing at all leaves ours alone."""
        offer("Acme.Notes", manifest("Notes"))
        offer("umbrella", manifest("Rain"), at="umbrella")
        shop = catalogue({"MARKETPLACE_PLUGINS": setting})
        assert names(shop) == ["OpenAI", *offered]
        assert shop.problems == []

    def test_a_product_that_is_not_allowed_is_told_to_be_there(self, offer: Offer) -> None:
        """Whoever has installed it learns why it is not served; what else it does wrong is not our matter."""
        offer("acme", manifest("Notes", "OpenAI"))
        offer("umbrella", "products: 1", at="umbrella")
        shop = catalogue({"MARKETPLACE_PLUGINS": ""})
        assert shop.problems == []
        with pytest.raises(ProductNotFound) as refused:
            shop.product("Notes")
        told = "Notes comes from the package acme, which MARKETPLACE_PLUGINS does not name."
        assert str(refused.value) == told

    @pytest.mark.parametrize("setting", ["acme notes", "acme==1.0", "../acme", "acme;umbrella"])
    def test_what_is_no_name_of_a_package_is_refused(self, setting: str) -> None:
        """A limit that is misspelt must not pass for one."""
        with pytest.raises(SettingsError, match="MARKETPLACE_PLUGINS has"):
            catalogue({"MARKETPLACE_PLUGINS": setting})


def test_a_stranger_is_announced_before_it_is_installed(offer: Offer) -> None:
    """Where it comes from, and that its code may do what the host may."""
    offer("acme", manifest("Notes"))
    shop = catalogue({})
    assert "chat-marketplace" in shop.warning(shop.product("OpenAI"))
    warning = shop.warning(shop.product("Notes"))
    assert warning.startswith("Notes comes from the package acme 1.2. ")
    assert "the host's rights" in warning
