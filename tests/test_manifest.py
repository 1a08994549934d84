"""The manifest: ours, and what is told of one that cannot be used."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marketplace.errors import InvalidArgument, ManifestError, ProductNotFound
from marketplace.manifest import ConfigurationItem, ItemType, Manifest, Value, read_manifest
from marketplace.strict_yaml import read_strictly
from tests.host import marketplace


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
            "turnWait": 30,
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


def item(kind: ItemType, **more: Any) -> ConfigurationItem:
    return ConfigurationItem(name="n", label="N", type=kind, **more)


class TestItems:
    @pytest.mark.parametrize(
        ("asked", "text", "value"),
        [
            (item(ItemType.INT), "60", 60),
            (item(ItemType.INT), " 60 ", 60),
            (item(ItemType.INT), "-1", -1),
            (item(ItemType.BOOL), "yes", True),
            (item(ItemType.BOOL), "True", True),
            (item(ItemType.BOOL), "N", False),
            (item(ItemType.BOOL), "false", False),
            (item(ItemType.CHOICE, options=["small", "Large"]), "large", "Large"),
            (item(ItemType.CHOICE, options=["a", "A"]), "A", "A"),
            (item(ItemType.STRING), " two words ", "two words"),
            (item(ItemType.TEXT), "\none\n\n two\n", "one\n\n two"),
            (item(ItemType.SECRET), " sk-1\n", "sk-1"),
        ],
    )
    def test_an_answer_is_read(self, asked: ConfigurationItem, text: str, value: Value) -> None:
        """White space around it does not matter, nor the case of a choice that is clear."""
        answer = asked.parse(text)
        assert answer == value
        assert type(answer) is type(value)
        assert asked.parse(asked.spelled(answer)) == value

    @pytest.mark.parametrize(
        ("asked", "texts", "told"),
        [
            (
                item(ItemType.INT),
                ["", "sixty", "1.5", "1_000", "\u0661", "9" * 19, "9" * 9999],
                "a whole number",
            ),
            (item(ItemType.BOOL), ["", "1", "on", "maybe"], "yes or no"),
            (item(ItemType.CHOICE, options=["small", "large"]), ["", "medium"], "one of small, large"),
            (item(ItemType.CHOICE, options=["a", "A", "b"]), ["B", "c"][1:], "one of a, A, b"),
            (item(ItemType.STRING), ["two\nlines", "two\rlines"], "a line of text"),
        ],
    )
    def test_what_is_no_answer_is_refused(
        self, asked: ConfigurationItem, texts: list[str], told: str
    ) -> None:
        """The error names the item and what was expected, in a line."""
        for text in texts:
            with pytest.raises(InvalidArgument, match=f"^expected {told}, not ") as refused:
                asked.parse(text)
            assert refused.value.parameter == "n"
            assert len(str(refused.value)) < 120


GOOD = """\
sections:
  - {name: API, summary: Services}
products:
  - name: Notes
    version: "1.0"
    section: API
    summary: Keeps notes
    plugin: notes
    configuration: []
"""

ODD = [
    "no",
    "1.0",
    "{a: b}",
    "[1]",
    '"\\e"',
    "*x",
    "&y ",
    "!!set {a}",
    "\t",
    "\n",
    "<<: {a: 1}",
    ": ",
    "- ",
    "? ",
]
ODD += ["010", "2020-01-01", "~", "|", '"', "'", "{", "[", "9" * 30, "..", "%", "\u2028", "\x85"]


def told(path: Path, text: str | bytes) -> list[str]:
    """Return what is told of a manifest, by line, without the name of its file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError) as refused:
        read_manifest(path)
    first, *lines = str(refused.value).splitlines()
    assert first == f"{path} cannot be used:"
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def only_one(path: Path, text: str | bytes) -> str:
    """Return the only mistake in a manifest, which has to be told to be where the ^ is."""
    text = text.encode() if isinstance(text, str) else text
    before, _, after = text.partition(b"^")
    (line,) = told(path, before + after)
    rows = before.decode().split("\n")
    place = f"{len(rows)}:{len(rows[-1]) + 1}: "
    assert line.startswith(place)
    return line.removeprefix(place)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a manifest is."""
    return tmp_path / "manifest.yaml"


class TestMistakes:
    def test_the_good_one_is_none(self, path: Path) -> None:
        """What the others differ from; anchors and aliases are read."""
        path.write_text(f"{GOOD}    description: &text |\n      One.\n      Two.\n    documentation: null\n")
        (product,) = read_manifest(path).products
        assert (product.version, product.description) == ("1.0", "One.\nTwo.\n")
        path.write_text(GOOD.replace("Keeps notes", "&s Notes") + "    description: *s\n")
        assert read_manifest(path).products[0].description == "Notes"

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("^", "the file is empty; expected the key products"),
            ("^# nothing\n", "the file is empty; expected the key products"),
            ("products: [^", "while parsing a flow node, expected the node content, but found"),
            ("a:\n^\t- b", "while scanning for the next token, found character '\\t' that"),
            ("products: ^*x", "found undefined alias 'x'"),
            ("products: []\n^---\na: 1", "expected a single document in the stream, but found another"),
            ("products: " + "[" * 31 + "^" + "[" * 50000, "nested more than 32 deep"),
            ("^5", "expected the key products, not the number 5"),
            ("products:^", "products: expected a list, not nothing"),
            ("products: []\n? ^[a]\n: 1", "expected a name as the key, not a list"),
            (
                "products: ^!!python/object:os []",
                "products: expected a list, not something of the type 'tag:yaml.org,2002:python/object:os'",
            ),
            (b"products: []\n# ^\xc3(", "byte 15 is not UTF-8: save the file in that encoding"),
            (b"^\xff\xfep", "byte 0 is not UTF-8: save the file in that encoding"),
            ('products: "\\U^99999999"', "there is no such character or number"),
            ("%YAML ^" + "9" * 5000 + ".1", "there is no such character or number"),
            ("products: []\n# ^\a", "'\\x07' may not stand in YAML"),
        ],
    )
    def test_what_is_no_manifest_at_all(self, path: Path, text: str | bytes, why: str) -> None:
        """Told with its place."""
        assert only_one(path, text).startswith(why)

    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            ("summary: Keeps", "^sumary: Keeps", "sumary: unknown key; did you mean summary?"),
            ("plugin", "^colour: red\n    plugin", "colour: unknown key; expected one of name, version,"),
            ("section: API", "section: API\n    ^section: B", "section: given twice; first in line 6"),
            ('"1.0"', "^1.0", "version: expected a line of text, not the number 1.0: put it in quotes"),
            ("Notes", "^no", "name: expected letters, digits and . _ ~ - only, since it is part of"),
            ("Notes", "^No/tes", "name: expected letters, digits and . _ ~ - only, since it is part of"),
            ("Notes", "^..", "name: expected letters, digits and . _ ~ - only, since it is part of"),
            ("section: API", "section: ^Apps", "section: is none of the sections; expected one of API"),
            ("plugin: notes", "plugin: ^not-es", "plugin: expected the name of a module, such as"),
            (" Keeps notes", "^", "summary: expected a line of text, not nothing"),
            ("Keeps notes", "^2026-01-01", "summary: expected a line of text, not the date 2026-01-01: put"),
            ("Keeps notes", '^"a\\n"', "summary: expected a line of text, not 'a\\n'"),
            ("Keeps notes", '^"\\e[2J"', "summary: expected a line of text, not '\\x1b[2J': it has control"),
            ("Keeps notes", '^"\\ud800"', "summary: expected a line of text, not '\\ud800': it has control"),
            (
                "configuration: []",
                "configuration: ^{}",
                "configuration: expected a list, not keys with values",
            ),
            ("version:", "^<<: {a: b}\n    version:", "'<<': is not merged here: write the keys out"),
            ("plugin", "documentation: ^www.x\n    plugin", "documentation: expected an address that begins"),
            (
                "plugin",
                "documentation: ^ftp://x\n    plugin",
                "documentation: expected an address that begins",
            ),
            ("plugin", "talksTo: [{host: a.b, item: ^c, why: d}]\n    plugin", "talksTo[0].item: is no conf"),
            ("plugin", "talksTo: [{host: ^'http://a', why: d}]\n    plugin", "talksTo[0].host: expected the"),
            (
                "plugin",
                "methods: [^just]\n    plugin",
                "methods[0]: expected the keys name, verb, route, summary",
            ),
        ],
    )
    def test_a_mistake_in_a_product(self, path: Path, old: str, new: str, why: str) -> None:
        """Told with line, column, key and what was expected."""
        assert only_one(path, GOOD.replace(old, new, 1)).startswith(f"products[0].{why}")

    def test_a_key_that_is_missing(self, path: Path) -> None:
        """It is told where it should be."""
        text = GOOD.replace("    plugin: notes\n", "").replace("name: Notes", "^name: Notes")
        assert only_one(path, text).startswith("products[0].plugin: missing; expected the name of a module")

    @pytest.mark.parametrize(
        ("item", "why"),
        [
            ("type: INT, ^options: [a]", "options: only a CHOICE has options, and this is INT"),
            ("type: CHOICE, options: [a, ^a]", "options[1]: 'a' is there already, in options[0]"),
            (
                "type: CHOICE, options: [^yes]",
                "options[0]: expected a line of text, not the boolean yes: put it in quotes",
            ),
            ("type: CHOICE, options: [a, b], default: ^A", "default: expected one of a, b"),
            (
                "type: CHOICE, options: ['1'], default: ^1",
                "default: expected one of 1 in quotes, not a number",
            ),
            ("type: INT, default: ^ten", "default: expected a whole number without quotes, not text"),
            (
                "type: INT, default: ^1.0",
                "default: expected text, a whole number, or yes or no, not a number",
            ),
            (
                "type: INT, default: ^010",
                "default: expected text, a whole number, or yes or no, not a number",
            ),
            ("type: BOOL, default: ^1", "default: expected yes or no, not a number"),
            ("type: BOOL, default: ^'yes'", "default: expected yes or no without quotes, not text"),
            ("type: STRING, default: ^1", "default: expected a line of text in quotes, not a number"),
            ("type: STRING, default: ^no", "default: expected a line of text in quotes, not a boolean"),
            ("type: STRING, default: ^''", "default: expected a line of text, not an empty text"),
            ('type: STRING, default: ^"a\\nb"', "default: expected a line of text"),
            ("type: TEXT, default: ^'  '", "default: expected text, not an empty text"),
            (
                "type: ^string",
                "type: expected one of STRING, TEXT, BOOL, INT, CHOICE, SECRET, not 'string'",
            ),
            ("type: INT, required: ^1", "required: expected yes or no, not the number 1"),
            ("type: INT, required: yes, ^asked: no", "asked: an item that is required and has no default"),
            ("type: INT, env: ^MY-INT", "env: expected the name of an environment variable, such as"),
        ],
    )
    def test_a_mistake_in_an_item(self, path: Path, item: str, why: str) -> None:
        """Whatever could be no answer, or could not be answered, is found before anybody is asked."""
        text = GOOD.replace("[]", f"\n      - {{name: size, label: Size, {item}}}")
        assert only_one(path, text).startswith(f"products[0].configuration[0].{why}")

    @pytest.mark.parametrize(
        ("item", "why"),
        [
            ("type: CHOICE", "options: a CHOICE needs options to choose from"),
            ("type: SECRET, required: yes", "env: a required SECRET needs env: nobody could answer"),
        ],
    )
    def test_what_an_item_lacks(self, path: Path, item: str, why: str) -> None:
        """It is told where the item begins."""
        text = GOOD.replace("[]", f"\n      - ^{{name: size, label: Size, {item}}}")
        assert only_one(path, text).startswith(f"products[0].configuration[0].{why}")

    @pytest.mark.parametrize("value", ["12345.75", "12345", "2012-03-04", "[12345]", "{k12345: 1}"])
    def test_a_secret_is_not_repeated(self, path: Path, value: str) -> None:
        """Neither a default nor the answer of a trial, however it is written."""
        item = f"\n      - {{name: key, label: Key, type: SECRET, default: {value}}}"
        trial = f"    trial:\n      label: T\n      answers:\n        key: {value}\n"
        lines = told(path, GOOD.replace("[]", item) + trial)
        assert [line.split(": ")[1] for line in lines] == [
            "products[0].configuration[0].default",
            "products[0].trial.answers.key",
        ]
        assert not re.search("12345|2012", "".join(lines))

    def test_all_are_told_at_once(self, path: Path) -> None:
        """By line; what rests on something mistaken is not told beside it."""
        text = """\
sections: [{name: A, summary: a}, {name: A, summary: b}]
prodcuts: []
products:
  - name: Notes
    version: 1.0
    section: A
    plugin: notes
    methods:
      - {name: add, verb: post, route: add, summary: Adds}
      - {name: add, verb: GET, route: /all, summary: Lists}
    configuration:
      - {name: no, label: Size, type: CHOICE}
      - {name: key, label: Key, type: SECRET, required: true, env: KEY}
      - {name: key, label: Key, type: INT, env: KEY}
    trial: {label: T, answers: {}}
  - {name: Notes, version: "1", section: B, summary: s, plugin: p, configuration: []}
"""
        assert [line.split(": ")[:2] for line in told(path, text)] == [
            ["1:42", "sections[1].name"],
            ["2:1", "prodcuts"],
            ["4:5", "products[0].summary"],
            ["5:14", "products[0].version"],
            ["9:27", "products[0].methods[0].verb"],
            ["9:40", "products[0].methods[0].route"],
            ["10:16", "products[0].methods[1].name"],
            ["12:9", "products[0].configuration[0].options"],
            ["12:16", "products[0].configuration[0].name"],
            ["14:16", "products[0].configuration[2].name"],
            ["14:49", "products[0].configuration[2].env"],
            ["15:32", "products[0].trial.answers"],
            ["16:12", "products[1].name"],
            ["16:42", "products[1].section"],
        ]

    @pytest.mark.parametrize(
        ("answers", "why"),
        [
            ("{size: 1, ^sise: 2}", ".sise: is no configuration item; expected one of size"),
            ("{size: ^big}", ".size: expected a whole number without quotes, not text"),
            ("^{}", ": expected an answer to size, which is required"),
        ],
    )
    def test_a_mistake_in_a_trial(self, path: Path, answers: str, why: str) -> None:
        """A trial that could not be installed is found out at once."""
        item = "\n      - {name: size, label: Size, type: INT, required: yes, env: SIZE}"
        trial = f"    trial:\n      {{label: T, answers: {answers}}}\n"
        assert only_one(path, GOOD.replace("[]", item) + trial) == f"products[0].trial.answers{why}"

    @given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.sampled_from(ODD)), min_size=1, max_size=4))
    def test_whatever_is_in_it_is_told_in_lines(self, odd: list[tuple[int, str]]) -> None:
        """Each with its place, and fit to be shown."""
        text = GOOD
        for place, bit in odd:
            text = text[:place] + bit + text[place:]
        try:
            read_strictly(text.encode(), Manifest, name="m")
        except ManifestError as refused:
            _, *lines = str(refused).splitlines()
            assert lines
            assert all(re.match(r"m:\d+:\d+: .", line) and line.isprintable() for line in lines)

    def test_a_missing_one_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that names it wrongly is found out."""
        monkeypatch.setenv("MARKETPLACE_MANIFEST", str(tmp_path / "nope.yaml"))
        with pytest.raises(ManifestError, match=r"nope\.yaml cannot be read: No such file"):
            read_manifest()


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A validator of the JSON Schema that is printed."""
    printed = marketplace(tmp_path_factory.mktemp("home"), "schema").stdout
    return jsonschema_rs.validator_for(json.loads(printed))


class TestSchema:
    """The JSON Schema that `marketplace schema` prints, for editors."""

    def test_ours_fits_it(self, schema: Any) -> None:
        """Every key of ours is described there."""
        assert schema.is_valid(yaml.safe_load(Path("manifest.yaml").read_text()))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("Notes", "No/tes"),
            ('"1.0"', "1.0"),
            ("summary: Keeps", "sumary: Keeps"),
            ("    plugin: notes\n", ""),
            ("[]", "[{name: a b, label: A, type: INT}]"),
            ("[]", "[{name: a, label: A, type: FLOAT}]"),
        ],
    )
    def test_what_does_not_fit_it_is_refused_by_the_reader_too(
        self, schema: Any, path: Path, old: str, new: str
    ) -> None:
        """Both come from the same structs."""
        text = GOOD.replace(old, new, 1)
        assert not schema.is_valid(yaml.safe_load(text))
        assert told(path, text)
