"""What callers see, row by row, from a real host over a real socket, for sessions in both stores."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from service.errors import answer_to
from tests.facilities import cache_environment, database_url
from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream, answering, cut_off, garbled, refusing

SERVICE = "/api/services/OpenAI"
JSON = {"Content-Type": "application/json"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
UNKNOWN = "258cd588-422b-4b7f-b705-d9132e9e1226"
UNKNOWN_PERSISTED = "258cd588-422b-4b7f-b705-d9132e9e1227"


@pytest.fixture(
    scope="module",
    params=[("memory", "sqlite"), ("redis", "postgresql"), ("cluster", "mariadb")],
    ids="-".join,
)
def host(
    request: pytest.FixtureRequest,
    shared_upstream: FakeUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Host]:
    """A running host on each of the backends."""
    cache, database = request.param
    home = tmp_path_factory.mktemp("home")
    install(home, shared_upstream.url, KEY)
    with database_url(database, home) as url:
        facilities = {**cache_environment(cache), "MARKETPLACE_DATABASE_URL": url}
        with serving(home, **facilities) as running:
            yield running


@pytest.fixture(params=[False, True], ids=["cache", "database"])
def session(request: pytest.FixtureRequest, host: Host) -> str:
    """A new session in either store."""
    return host.create_session(persistInDB=request.param)


@pytest.fixture(params=["route", "name"])
def addressing(request: pytest.FixtureRequest) -> dict[str, str]:
    """The paths of the POSTed methods: by their routes, or by their names."""
    if request.param == "route":
        return {"session": f"{SERVICE}/session", "message": f"{SERVICE}/message"}
    return {"session": f"{SERVICE}/createSession", "message": f"{SERVICE}/sendMessage"}


def error_of(answer: httpx2.Response) -> tuple[int, int, str]:
    """Return status, code and message of an error, after checking that it has the envelope's shape."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body.keys() <= {"code", "message", "errorData"}
    return answer.status_code, body["code"], body["message"]


def send(host: Host, session: str, message: str, path: str = f"{SERVICE}/message") -> httpx2.Response:
    return host.http.post(path, json={"message": message, "sessionId": session})


class TestSuccess:
    def test_a_conversation_is_answered_and_kept_to_the_letter(self, host: Host, session: str) -> None:
        """The three answers have exactly the documented keys, in the documented order."""
        assert UUID.fullmatch(session)
        answer = send(host, session, "Hello")
        assert answer.status_code == 200
        assert answer.text == f'{{"sessionId":"{session}","responseMessage":"Hello?"}}'
        persisted = "true" if int(session[-1], 16) & 1 else "false"
        history = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
        assert history.status_code == 200
        assert history.headers["content-type"] == "application/json"
        assert history.text == (
            '{"messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hello?"}],'
            f'"aiModel":"gpt-3.5-turbo","id":"{session}","persistInDB":{persisted}}}'
        )

    def test_the_upstream_gets_the_model_and_the_whole_history(
        self, host: Host, session: str, shared_upstream: FakeUpstream
    ) -> None:
        """Nothing but model and messages is sent."""
        host.send(session, "One")
        host.send(session, "Two")
        assert shared_upstream.requests[-1] == {
            "model": "gpt-3.5-turbo",
            "messages": [
                {"role": "user", "content": "One"},
                {"role": "assistant", "content": "One?"},
                {"role": "user", "content": "Two"},
            ],
        }

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"aiModel": null, "persistInDB": null}'])
    @pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "no type"])
    def test_a_session_needs_no_arguments(self, host: Host, body: bytes, headers: dict[str, str]) -> None:
        """No body, no arguments and nulls all mean the installed model and the cache."""
        answer = host.http.post(f"{SERVICE}/session", content=body, headers=headers)
        assert answer.status_code == 200
        session = answer.json()["sessionId"]
        history = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session}).json()
        assert history == {"messages": [], "aiModel": "gpt-3.5-turbo", "id": session, "persistInDB": False}

    def test_a_session_may_name_its_model(self, host: Host, shared_upstream: FakeUpstream) -> None:
        """The upstream is asked for it, and answers name it whatever the upstream echoes."""
        session = host.create_session(aiModel="gpt-4o")
        host.send(session, "Hi")
        assert shared_upstream.requests[-1]["model"] == "gpt-4o"
        history = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
        assert history.json()["aiModel"] == "gpt-4o"

    @pytest.mark.parametrize(
        ("message", "reply"),
        [
            ({"content": ""}, ""),
            ({"content": None, "refusal": "I will not."}, "I will not."),
            ({"content": "Grüße 🎉 \U0010ffff \u202e"}, "Grüße 🎉 \U0010ffff \u202e"),
        ],
    )
    def test_every_text_is_a_reply(
        self, host: Host, session: str, shared_upstream: FakeUpstream, message: dict[str, Any], reply: str
    ) -> None:
        """An empty reply is a reply, a refusal is one, and any script survives."""
        shared_upstream.behaviours["special"] = answering(message)
        assert host.send(session, "special") == reply
        assert host.history(session) == [("user", "special"), ("assistant", reply)]

    def test_a_json_object_needs_no_content_type(self, host: Host, session: str) -> None:
        """The official client sends some calls as text."""
        body = f'{{"sessionId": "{session}", "message": "Hi"}}'
        for headers in ({}, {"Content-Type": "text/plain;charset=UTF-8"}):
            answer = host.http.post(f"{SERVICE}/message", content=body.encode(), headers=headers)
            assert answer.json()["responseMessage"] == "Hi?"


SCRIPTS = (
    "Grüße, Zażółć, Ελληνικά, Русский, עברית, العربية, हिन्दी, বাংলা, "
    "ไทย, ქართული, አማርኛ, 中文, 日本語, 한국어, "
    "👩‍👩‍👧‍👦🏳️‍🌈🇮🇳, "
    "e\u0301 o\u0308\u0323, \u202eright to left\u202c \u2066\u2069, "
    "\U0010ffff \ufffd \ufeff \u2028 \x7f \x01, "
    '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀 𐎀, \'; DROP TABLE "OpenAIMessage"; -- \\ % _ \r\n\t'
)


class TestText:
    def test_every_script_comes_back_equal(self, host: Host, session: str) -> None:
        """Through every backend, as prompt, as reply, and on its way to the upstream."""
        assert host.send(session, SCRIPTS) == f"{SCRIPTS}?"
        assert host.history(session) == [("user", SCRIPTS), ("assistant", f"{SCRIPTS}?")]

    def test_a_million_bytes_come_back_equal(self, host: Host, session: str) -> None:
        """There is no smaller limit than that of the body."""
        message = ("🎉é" * 200_000)[:166_666] + "x" * 500_002
        assert len(message.encode()) == 1_000_000
        assert host.send(session, message) == f"{message}?"
        assert host.history(session)[0] == ("user", message)

    def test_a_long_model_name_is_kept(self, host: Host) -> None:
        """In either store."""
        for persist in (False, True):
            session = host.create_session(aiModel="m" * 100_000, persistInDB=persist)
            answer = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
            assert answer.json()["aiModel"] == "m" * 100_000


MALFORMED: list[tuple[bytes, int, str]] = [
    (b'{"message": ', 8002, "Could not parse request with message: "),
    (b'{"message": "\xff"}', 8002, "Could not parse request with message: "),
    (b'{"message": "\\ud800"}', 8002, "Could not parse request with message: "),
    (b'{"message": ' + b"[" * 100_000, 8002, "Could not parse request with message: nested too deeply"),
    (b"[]", 8004, "Parsing input json params failed"),
    (b"1", 8004, "Parsing input json params failed"),
    (b"null", 8004, "Parsing input json params failed"),
]

WRONG_ARGUMENTS: list[tuple[str, dict[str, Any], int, str, dict[str, Any]]] = [
    ("message", {}, 8007, "Missing parameter 'message'.", {"parameter": "message"}),
    ("message", {"message": "Hi"}, 8007, "Missing parameter 'sessionId'.", {"parameter": "sessionId"}),
    ("message", {"message": None}, 8006, "Invalid NULL param for request", {"parameter": "message"}),
    ("message", {"message": ""}, 8005, "Invalid empty param for request", {"parameter": "message"}),
    ("message", {"message": " \n\t"}, 8005, "Invalid empty param for request", {"parameter": "message"}),
    ("message", {"message": 1}, 8008, "Invalid parameter 'message'", {}),
    ("message", {"message": "a\0b"}, 8008, "Invalid parameter 'message'", {}),
    ("message", {"message": "Hi", "sessionId": ["x"]}, 8008, "Invalid parameter 'sessionId'", {}),
    ("session", {"persistInDB": 0}, 8008, "Invalid parameter 'persistInDB'", {}),
    ("session", {"persistInDB": 1}, 8008, "Invalid parameter 'persistInDB'", {}),
    ("session", {"persistInDB": "true"}, 8008, "Invalid parameter 'persistInDB'", {}),
    ("session", {"aiModel": 4}, 8008, "Invalid parameter 'aiModel'", {}),
    ("session", {"aiModel": ""}, 8005, "Invalid empty param for request", {"parameter": "aiModel"}),
    (
        "session",
        {"persistInDb": True, "aiModel": 4},
        8008,
        "Invalid parameter 'persistInDb'",
        {"didYouMean": "persistInDB"},
    ),
]


class TestBadInput:
    @pytest.mark.parametrize(("body", "code", "message"), MALFORMED)
    def test_a_body_that_is_no_object_is_refused(
        self, host: Host, addressing: dict[str, str], body: bytes, code: int, message: str
    ) -> None:
        """Broken JSON, broken Unicode and endless nesting are the caller's fault, not an internal error."""
        status, got, text = error_of(host.http.post(addressing["message"], content=body, headers=JSON))
        assert (status, got) == (400, code)
        assert text.startswith(message)

    @pytest.mark.parametrize("body", [b"Hello", b"[]", b'"text"'])
    def test_text_that_is_no_object_is_malformed(
        self, host: Host, addressing: dict[str, str], body: bytes
    ) -> None:
        """Without a JSON Content-Type only an object is taken for the arguments."""
        assert error_of(host.http.post(addressing["message"], content=body))[:2] == (400, 8002)

    def test_another_content_type_is_refused(self, host: Host, addressing: dict[str, str]) -> None:
        """A form is not taken for JSON."""
        answer = host.http.post(addressing["message"], data={"message": "Hi"})
        assert error_of(answer) == (
            415,
            17002,
            "The Content-Type application/x-www-form-urlencoded is not supported.",
        )

    @pytest.mark.parametrize(("route", "arguments", "code", "message", "data"), WRONG_ARGUMENTS)
    def test_wrong_arguments_are_named(
        self,
        host: Host,
        addressing: dict[str, str],
        route: str,
        arguments: dict[str, Any],
        code: int,
        message: str,
        data: dict[str, Any],
    ) -> None:
        """Types are strict, and the first argument in documented order is the one that is told."""
        answer = host.http.post(addressing[route], json=arguments)
        assert error_of(answer) == (400, code, message)
        assert data.items() <= answer.json()["errorData"].items()

    def test_the_example_of_the_envelope_is_exact(self, host: Host) -> None:
        """The answer to a missing argument is that of the contract, to the letter."""
        answer = host.http.post(f"{SERVICE}/message")
        assert answer.json() == {
            "code": 8007,
            "message": "Missing parameter 'message'.",
            "errorData": {"parameter": "message"},
        }

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("", 400, 8007),
            ("sessionId=", 400, 8005),
            ("sessionId=a&sessionId=a", 400, 8008),
            ("sessionId=%ff", 400, 8002),
            ("sessionId=%00", 400, 8008),
            (f"sessionId={UNKNOWN}&unknown=1", 404, 1000),
        ],
    )
    def test_a_query_is_checked_the_same(self, host: Host, query: str, status: int, code: int) -> None:
        """Only unknown parameters are ignored there."""
        assert error_of(host.http.get(f"{SERVICE}/session-messages?{query}"))[:2] == (status, code)

    @pytest.mark.parametrize("session", [UNKNOWN, UNKNOWN_PERSISTED, UNKNOWN.upper(), "1", "..", "'; --"])
    def test_an_unknown_session_is_not_found(
        self, host: Host, addressing: dict[str, str], session: str
    ) -> None:
        """Unknown and malformed ids look the same to a caller."""
        expected = (404, 1000, f"Entity with the specified ID cannot be found: Id - {session}")
        assert error_of(send(host, session, "Hi", addressing["message"])) == expected
        answer = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
        assert error_of(answer) == expected
        by_name = host.http.post(f"{SERVICE}/getSessionMessages", json={"sessionId": session})
        assert error_of(by_name) == expected


class TestRoutes:
    @pytest.mark.parametrize(
        ("verb", "path", "expected"),
        [
            ("POST", "/api/services/Nope/session", (404, 14001, "Service not found")),
            ("GET", "/api/services/Nope", (404, 14001, "Service not found")),
            ("GET", "/", (404, 14002, "Service method not found")),
            ("POST", f"{SERVICE}/nope", (404, 14002, "Service method not found")),
            ("GET", SERVICE, (404, 14002, "Service method not found")),
            ("GET", f"{SERVICE}/session", (405, 14002, "Service method not found")),
            ("DELETE", f"{SERVICE}/session-messages", (405, 14002, "Service method not found")),
        ],
    )
    def test_what_leads_nowhere_has_the_envelope_too(
        self, host: Host, verb: str, path: str, expected: tuple[int, int, str]
    ) -> None:
        """Unknown services, unknown methods and wrong verbs are told apart."""
        answer = host.http.request(verb, path)
        assert error_of(answer) == expected
        assert ("allow" in answer.headers) == (expected[0] == 405)
        if expected[0] == 405:
            allowed = {"session": {"POST", "OPTIONS"}, "session-messages": {"GET", "OPTIONS"}}
            assert set(answer.headers["allow"].split(", ")) == allowed[path.rpartition("/")[2]]
        assert answer.json()["errorData"]["source"] == "host"


KEY_ECHO = f"Incorrect API key provided: {KEY}. You can find yours elsewhere."

FAILURES: list[tuple[str, Any, tuple[int, int, str], dict[str, Any]]] = [
    (
        "key refused",
        refusing(401, KEY_ECHO, "invalid_api_key"),
        (503, 14004, "Service invocation failed: the upstream refuses the installed API key"),
        {"reason": "upstream_auth", "retryable": False, "status": 401, "requestId": "req_fake"},
    ),
    ("key forbidden", refusing(403), (503, 14004, ""), {"reason": "upstream_auth", "retryable": False}),
    (
        "default model unknown",
        refusing(404, "The model does not exist", "model_not_found"),
        (503, 14004, ""),
        {"reason": "model_not_found", "retryable": False},
    ),
    (
        "request refused",
        refusing(400, f"Invalid value. {KEY_ECHO}"),
        (400, 14000, "Invalid value. Incorrect API key provided: .... You can find yours elsewhere."),
        {"retryable": False},
    ),
    (
        "too long",
        refusing(400, "Too long", "context_length_exceeded"),
        (400, 8000, "Invalid value range"),
        {"reason": "context_length_exceeded"},
    ),
    ("rate limit", refusing(429, Retry_After="700"), (429, 999, ""), {"retryable": True, "status": 429}),
    (
        "quota",
        refusing(429, "Quota", "insufficient_quota"),
        (503, 14004, ""),
        {"reason": "quota", "retryable": False},
    ),
    ("server error", refusing(500), (503, 14004, ""), {"retryable": True, "status": 500}),
    ("overloaded", refusing(503, Retry_After="300"), (503, 14004, ""), {"retryable": True, "status": 503}),
    ("redirect", refusing(304), (503, 14004, ""), {"reason": "upstream_moved", "retryable": False}),
    ("cut off", cut_off, (503, 14004, ""), {"retryable": True}),
    ("malformed", garbled(b'{"choices": [{"message"'), (503, 14004, ""), {"retryable": True}),
    ("not json", garbled(b"<html>"), (503, 14004, ""), {"retryable": True}),
    ("no choices", garbled(b'{"choices": []}'), (503, 14004, ""), {"retryable": True}),
    ("null choices", garbled(b'{"choices": null}'), (503, 14004, ""), {"retryable": True}),
    ("no content", answering({"content": None}), (503, 14004, ""), {"retryable": True}),
    ("too slow there", refusing(408), (504, 14005, "Service invocation failed by timeout"), {}),
]


class TestUpstreamFailures:
    @pytest.mark.parametrize(
        ("name", "behaviour", "expected", "data"), FAILURES, ids=[failure[0] for failure in FAILURES]
    )
    def test_each_is_told_and_leaves_the_history_as_it_was(
        self,
        host: Host,
        session: str,
        addressing: dict[str, str],
        shared_upstream: FakeUpstream,
        name: str,
        behaviour: Any,
        expected: tuple[int, int, str],
        data: dict[str, Any],
    ) -> None:
        """The caller learns who failed and whether to try again; the next message works."""
        shared_upstream.behaviours[name] = behaviour
        host.send(session, "Before")
        answer = send(host, session, name, addressing["message"])
        status, code, message = error_of(answer)
        assert (status, code) == expected[:2]
        assert message.startswith(expected[2])
        assert data.items() <= answer.json()["errorData"].items()
        assert answer.json()["errorData"]["source"] == "openai"
        assert host.send(session, "After") == "After?"
        assert [text for _, text in host.history(session)] == ["Before", "Before?", "After", "After?"]

    def test_a_retry_after_is_passed_on_and_never_invented(
        self, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """What the upstream says goes to the caller as it is."""
        session = host.create_session()
        shared_upstream.behaviours["wait 700"] = refusing(429, Retry_After="700")
        shared_upstream.behaviours["wait"] = refusing(429)
        assert send(host, session, "wait 700").headers["retry-after"] == "700"
        assert "retry-after" not in send(host, session, "wait").headers

    def test_an_unknown_model_is_the_fault_of_who_chose_it(
        self, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """The caller's own choice is a bad argument."""
        shared_upstream.behaviours["unknown"] = refusing(404, "No such model", "model_not_found")
        session = host.create_session(aiModel="gpt-99")
        answer = send(host, session, "unknown")
        assert error_of(answer) == (400, 8008, "Invalid parameter 'aiModel'")
        assert answer.json()["errorData"]["reason"] == "model_not_found"

    def test_neither_key_nor_prompt_is_in_the_log(self, host: Host, shared_upstream: FakeUpstream) -> None:
        """Whatever the upstream echoes; nor is the key in a listing or an error."""
        session = host.create_session()
        prompt = "my-private-prompt"
        for status in (400, 401, 429, 500):
            shared_upstream.behaviours[prompt] = refusing(status, f"{prompt}: {KEY_ECHO}")
            assert KEY not in send(host, session, prompt).text
        assert KEY not in host.http.get("/api/services").text
        log = host.log.read_text()
        assert "InternalServerError" in log
        assert KEY not in log
        assert prompt not in log

    def test_a_default_is_told_apart_from_a_choice_of_that_name(
        self, host: Host, shared_upstream: FakeUpstream
    ) -> None:
        """A session that chose nothing is not at fault for the installed model."""
        shared_upstream.behaviours["gone"] = refusing(404, "The model is gone", "model_not_found")
        assert error_of(send(host, host.create_session(), "gone"))[:2] == (503, 14004)

    def test_an_internal_error_tells_nothing(self) -> None:
        """What is unforeseen is for the log alone."""
        answer = answer_to(KeyError("sk-secret"))
        assert (answer.status, answer.body) == (500, b'{"code":0,"message":"Internal error"}')
