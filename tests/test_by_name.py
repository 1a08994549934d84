"""Calls by method name: how the official client calls every method of every service."""

import pytest

from tests.host import Host

SERVICE = "/api/services/OpenAI"
JSON = {"Content-Type": "application/json"}


class TestCalls:
    def test_every_method_answers_to_its_name(self, host: Host) -> None:
        """All arguments are in the body, those of a query, too; the answers are those of the routes."""
        session = host.http.post(f"{SERVICE}/createSession", json={"persistInDB": False}).json()["sessionId"]
        body = {"message": "Hi", "sessionId": session}
        sent = host.http.post(f"{SERVICE}/sendMessage", json=body)
        assert sent.json() == {"sessionId": session, "responseMessage": "Hi?"}
        history = host.http.post(f"{SERVICE}/getSessionMessages", json={"sessionId": session})
        assert history.status_code == 200
        by_route = host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
        assert history.text == by_route.text

    def test_no_argument_is_an_empty_body(self, host: Host) -> None:
        """Without a type, as the client sends none and null."""
        assert host.http.post(f"{SERVICE}/createSession").status_code == 200

    @pytest.mark.parametrize(
        "headers", [{}, {"Content-Type": "text/plain;charset=UTF-8"}], ids=["node", "browser"]
    )
    def test_a_bare_string_is_the_only_required_argument(self, host: Host, headers: dict[str, str]) -> None:
        """It is sent raw and unquoted."""
        session = host.create_session()
        answer = host.http.post(f"{SERVICE}/getSessionMessages", content=session.encode(), headers=headers)
        assert answer.json()["id"] == session

    def test_a_slash_at_the_end_makes_no_difference(self, host: Host) -> None:
        """By name as by route."""
        for path in ("session/", "createSession/"):
            assert host.http.post(f"{SERVICE}/{path}").status_code == 200

    def test_an_object_needs_no_type(self, host: Host) -> None:
        """Text that is a JSON object is the arguments."""
        session = host.create_session()
        body = f'{{"sessionId": "{session}"}}'
        assert host.http.post(f"{SERVICE}/getSessionMessages", content=body.encode()).json()["id"] == session


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "body", "headers", "code"),
        [
            ("createSession", b"text", {}, 8002),
            ("sendMessage", b"text", {}, 8002),
            ("getSessionMessages", b"\xff", {}, 8002),
            ("getSessionMessages", b" ", {}, 8005),
            ("getSessionMessages", b"text", JSON, 8002),
            ("getSessionMessages", b'"text"', JSON, 8004),
            ("getSessionMessages", b"", {}, 8007),
            ("getSessionMessages", b'{"sessionID": "x"}', JSON, 8008),
            ("getSessionMessages", b'{"sessionId": null}', JSON, 8006),
            ("createSession", b'{"persistInDB": 1}', JSON, 8008),
        ],
    )
    def test_arguments_are_checked_the_same(
        self, host: Host, method: str, body: bytes, headers: dict[str, str], code: int
    ) -> None:
        """One decoder serves routes and names."""
        answer = host.http.post(f"{SERVICE}/{method}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, code)

    def test_a_name_takes_only_a_post(self, host: Host) -> None:
        """Other verbs are told so."""
        answer = host.http.get(f"{SERVICE}/createSession")
        assert (answer.status_code, answer.json()["code"]) == (405, 14002)
        assert answer.headers["allow"] == "POST"

    def test_an_unknown_name_is_no_method(self, host: Host) -> None:
        """Names are exact."""
        for name in ("createsession", "create_session", "close"):
            answer = host.http.post(f"{SERVICE}/{name}")
            assert (answer.status_code, answer.json()["code"]) == (404, 14002)
