"""The manifest: ours, and what is told of one that cannot be used."""

from pathlib import Path

import pytest

from marketplace.errors import InvalidArgument, ManifestError, ProductNotFound
from marketplace.manifest import ConfigurationItem, ItemType, read_manifest


class TestOurs:
    def test_openai_asks_for_a_key_and_a_model(self) -> None:
        """As on the product page; all else has a default and is asked on request only."""
        product = read_manifest().product("OpenAI")
        assert [item.name for item in product.configuration if item.asked] == ["apiKey", "model"]
        assert product.defaults() == {
            "model": "gpt-3.5-turbo",
            "baseUrl": "https://api.openai.com/v1",
            "sessionTtl": 7200,
            "timeout": 60,
        }

    def test_a_trial_is_told_wherever_its_answers_are(self) -> None:
        """Other answers beside them do not hide it."""
        product = read_manifest().product("OpenAI")
        assert product.trial is not None
        assert product.notice({**product.trial.answers, "timeout": 5}) == "practice model"
        assert product.notice({"apiKey": "sk-1", "model": "practice-model"}) is None

    def test_an_unknown_product_is_told_with_those_there_are(self) -> None:
        """So that a misspelling is seen at once."""
        with pytest.raises(ProductNotFound, match=r"'openai'.*OpenAI"):
            read_manifest().product("openai")


class TestItems:
    @pytest.mark.parametrize(("text", "value"), [("60", 60), (" 60 ", 60), ("-1", -1)])
    def test_a_number_is_read(self, text: str, value: int) -> None:
        """White space around it does not matter."""
        assert ConfigurationItem(name="n", label="N", type=ItemType.INT).parse(text) == value

    @pytest.mark.parametrize("text", ["", "sixty", "1.5"])
    def test_what_is_no_number_is_refused(self, text: str) -> None:
        """The error names the item and what was expected."""
        with pytest.raises(InvalidArgument, match="whole number") as refused:
            ConfigurationItem(name="n", label="N", type=ItemType.INT).parse(text)
        assert refused.value.parameter == "n"


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("products: [", "while parsing"),
            ("products: 1", r"Expected `array`, got `int` - at `\$.products`"),
            ("product: []", "unknown field `product`"),
            ("products: [{name: A}]", "missing required field"),
        ],
    )
    def test_it_is_told_with_the_file(self, tmp_path: Path, text: str, told: str) -> None:
        """Where it is and what was expected."""
        path = tmp_path / "manifest.yaml"
        path.write_text(text)
        with pytest.raises(ManifestError, match=told) as refused:
            read_manifest(path)
        assert str(path) in str(refused.value)

    def test_a_missing_one_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that names it wrongly is found out."""
        monkeypatch.setenv("MARKETPLACE_MANIFEST", str(tmp_path / "nope.yaml"))
        with pytest.raises(ManifestError, match=r"nope\.yaml cannot be read: No such file"):
            read_manifest()
