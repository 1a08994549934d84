"""Random sequences of calls against a model of the service, which is a dictionary of lists."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.facilities import cache_environment
from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream, refusing

SERVICE = "/api/services/OpenAI"
FAIL = "please fail"

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200
).filter(lambda text: text.strip() and text != FAIL)


@pytest.fixture(params=["memory", "redis"])
def host(
    request: pytest.FixtureRequest, upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A host with either cache, and SQLite."""
    home = tmp_path_factory.mktemp("home")
    install(home, upstream.url, KEY)
    upstream.behaviours[FAIL] = refusing(429, code="insufficient_quota")  # which is not tried again
    with serving(home, **cache_environment(request.param)) as running:
        yield running


class Service(RuleBasedStateMachine):
    """What may be called at any time, and what has to come of it."""

    host: Host

    sessions = Bundle("sessions")

    @initialize()
    def begin(self) -> None:
        self.model: dict[str, tuple[dict[str, Any], list[str]]] = {}

    @rule(
        target=sessions,
        persist=st.sampled_from([None, False, True]),
        model=st.none() | texts,
        by_name=st.booleans(),
    )
    def create(self, persist: bool | None, model: str | None, by_name: bool) -> str:
        arguments = {"persistInDB": persist, "aiModel": model}
        answer = self.host.http.post(f"{SERVICE}/{'createSession' if by_name else 'session'}", json=arguments)
        assert answer.status_code == 200
        session = str(answer.json()["sessionId"])
        assert session not in self.model
        self.model[session] = (
            {"aiModel": model or "gpt-3.5-turbo", "id": session, "persistInDB": bool(persist)},
            [],
        )
        return session

    @rule(session=sessions, message=texts, by_name=st.booleans())
    def send(self, session: str, message: str, by_name: bool) -> None:
        body = {"sessionId": session, "message": message}
        answer = self.host.http.post(f"{SERVICE}/{'sendMessage' if by_name else 'message'}", json=body)
        assert answer.json() == {"sessionId": session, "responseMessage": f"{message}?"}
        self.model[session][1].extend([message, f"{message}?"])

    @rule(session=sessions)
    def send_what_fails(self, session: str) -> None:
        answer = self.host.http.post(f"{SERVICE}/message", json={"sessionId": session, "message": FAIL})
        assert (answer.status_code, answer.json()["code"]) == (503, 14004)

    @rule(session=sessions, message=st.sampled_from([None, "", " ", 0, True, [], "a\0b"]))
    def send_what_is_no_message(self, session: str, message: Any) -> None:
        answer = self.host.http.post(f"{SERVICE}/message", json={"sessionId": session, "message": message})
        assert answer.status_code == 400

    @rule(session=sessions, position=st.integers(0, 35), message=texts)
    def send_to_nobody(self, session: str, position: int, message: str) -> None:
        changed = "f" if session[position] != "f" else "e"
        nobody = session[:position] + changed + session[position + 1 :]
        answer = self.host.http.post(f"{SERVICE}/message", json={"sessionId": nobody, "message": message})
        assert (answer.status_code, answer.json()["code"]) == (404, 1000)

    @rule(session=sessions, by_name=st.booleans())
    def read(self, session: str, by_name: bool) -> None:
        if by_name:
            answer = self.host.http.post(f"{SERVICE}/getSessionMessages", content=session.encode())
        else:
            answer = self.host.http.get(f"{SERVICE}/session-messages", params={"sessionId": session})
        about, history = self.model[session]
        roles = ["user", "assistant"] * (len(history) // 2)
        messages = [{"role": role, "content": text} for role, text in zip(roles, history, strict=True)]
        assert answer.json() == {"messages": messages, **about}


def test_the_service_does_as_its_model(host: Host) -> None:
    """Whatever is called in whatever order."""

    class Running(Service):
        """The machine with this host."""

    Running.host = host
    run_state_machine_as_test(
        Running,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
