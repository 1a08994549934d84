"""The official client, unmodified, in Node: what existing users have."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.host import Host
from tests.upstream import FakeUpstream, cut_off, garbled, refusing

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture(params=["domain", "keys"])
def mode(request: pytest.FixtureRequest) -> str:
    """How the client is told where the host is: by its address, or with an application id and a key."""
    return str(request.param)


def call(sdk: Path, mode: str, url: str, *calls: list[Any]) -> list[dict[str, Any]]:
    """Make ``calls`` and return the result or the error of each."""
    done = subprocess.run(
        ["node", "calls.cjs", mode, url],
        cwd=sdk,
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


class TestCalls:
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_a_conversation(self, sdk: Path, mode: str, slash: str, host: Host) -> None:
        """Create, send, read, with the arguments as an object; an address may end in a slash."""
        created, sent, read, again = call(
            sdk,
            mode,
            host.url + slash,
            ["createSession", {"persistInDB": True}],
            ["sendMessage", {"sessionId": "$SESSION", "message": "Hi"}],
            ["getSessionMessages", {"sessionId": "$SESSION"}],
            ["getSessionMessages", "$SESSION"],
        )
        session = created["result"]["sessionId"]
        assert sent["result"] == {"sessionId": session, "responseMessage": "Hi?"}
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi?"}]
        assert read["result"] == {
            "messages": messages,
            "aiModel": "gpt-3.5-turbo",
            "id": session,
            "persistInDB": True,
        }
        assert again == read

    @pytest.mark.parametrize("nothing", [[], [None], [""], [0], [False], [{}]], ids=repr)
    def test_a_call_without_arguments(self, sdk: Path, mode: str, nothing: list[Any], host: Host) -> None:
        """However little is given."""
        (created,) = call(sdk, mode, host.url, ["createSession", *nothing])
        assert created["result"]["sessionId"]

    def test_the_readmes_example(self, sdk: Path, host: Host) -> None:
        """It runs as it stands there."""
        (example,) = re.findall(r"^```js\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        (sdk / "example.cjs").write_text(example.replace("http://127.0.0.1:8080", host.url))
        done = subprocess.run(["node", "example.cjs"], cwd=sdk, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "What is the capital of India??" in done.stdout


ERRORS: list[tuple[list[Any], int, int]] = [
    (["sendMessage", {"message": "Hi"}], 400, 8007),
    (["sendMessage", {"message": None, "sessionId": "x"}], 400, 8006),
    (["sendMessage", {"message": " ", "sessionId": "x"}], 400, 8005),
    (["sendMessage", {"message": 1, "sessionId": "x"}], 400, 8008),
    (["sendMessage", {"message": "Hi", "sessionID": "x"}], 400, 8008),
    (["sendMessage", "text"], 400, 8002),
    (["createSession", ["x"]], 400, 8004),
    (["createSession", {"persistInDB": "true"}], 400, 8008),
    (["getSessionMessages", {"sessionId": "258cd588-422b-4b7f-b705-d9132e9e1226"}], 404, 1000),
    (["getSessionMessages", "258cd588-422b-4b7f-b705-d9132e9e1227"], 404, 1000),
    (["noSuchMethod", {}], 404, 14002),
    (["sendMessage", {"message": "x" * 5_000_000, "sessionId": "x"}], 413, 8000),
]

UPSTREAM: dict[str, tuple[Any, int, int]] = {
    "key": (refusing(401), 503, 14004),
    "limit": (refusing(429, Retry_After="700"), 429, 999),
    "quota": (refusing(429, code="insufficient_quota"), 503, 14004),
    "context": (refusing(400, code="context_length_exceeded"), 400, 8000),
    "refused": (refusing(400), 400, 14000),
    "down": (refusing(502), 503, 14004),
    "cut": (cut_off, 503, 14004),
    "garbled": (garbled(b"{"), 503, 14004),
}


class TestErrors:
    def test_each_arrives_as_its_response_error(self, sdk: Path, mode: str, host: Host) -> None:
        """With a numeric code and a string message; none is taken for a lost connection."""
        results = call(sdk, mode, host.url, *(entry for entry, _, _ in ERRORS))
        for (entry, status, code), made in zip(ERRORS, results, strict=True):
            self.check(made["error"], status, code, str(entry)[:60])

    def test_so_do_those_of_the_upstream(
        self, sdk: Path, mode: str, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """What went wrong behind the host is told as well."""
        for prompt, (behaviour, _, _) in UPSTREAM.items():
            shared_upstream.behaviours[prompt] = behaviour
        sends = [["sendMessage", {"sessionId": "$SESSION", "message": prompt}] for prompt in UPSTREAM]
        _, *results = call(sdk, mode, host.url, ["createSession"], *sends)
        for (prompt, (_, status, code)), made in zip(UPSTREAM.items(), results, strict=True):
            self.check(made["error"], status, code, prompt)
            assert made["error"]["body"]["errorData"]["source"] == "openai"

    def check(self, error: dict[str, Any], status: int, code: int, case: str) -> None:
        """Check what the client has made of an answer."""
        assert error["kind"] == "ResponseError", case
        assert (error["status"], error["code"]) == (status, code), case
        assert isinstance(error["message"], str), case
        assert error["message"] == error["body"]["message"], case
        assert "No connection with server" not in error["message"]
