"""The OpenAPI document: true of the live host, and good enough to generate clients from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import TABLE
from tests.host import Host, environment, serving

FOLDER = Path(__file__).parent / "typescript"
ROUTES = {
    "/api/services/OpenAI/session": "post",
    "/api/services/OpenAI/message": "post",
    "/api/services/OpenAI/session-messages": "get",
    "/api/services/OpenAI/createSession": "post",
    "/api/services/OpenAI/sendMessage": "post",
    "/api/services/OpenAI/getSessionMessages": "post",
}


@pytest.fixture
def document(host: Host) -> dict[str, Any]:
    answer = host.http.get("/schema/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    told: dict[str, Any] = answer.json()
    return told


class TestContent:
    def test_every_method_is_in_it_by_route_and_by_name(self, document: dict[str, Any]) -> None:
        """With all its errors, and an id that no other method has."""
        assert {path: next(iter(verbs)) for path, verbs in document["paths"].items()} == ROUTES
        operations = [verbs[verb] for path, verb in ROUTES.items() for verbs in [document["paths"][path]]]
        assert len({operation["operationId"] for operation in operations}) == 6
        for operation in operations:
            assert operation["description"]
            assert operation["responses"].keys() == {"200", *(str(row.status) for row in TABLE.values())}

    def test_arguments_are_told_as_they_are_checked(self, document: dict[str, Any]) -> None:
        """With examples of the product page; an optional one may be null, and no other is taken."""
        schemas = document["components"]["schemas"]
        assert schemas["CreateSession"]["additionalProperties"] is False
        assert schemas["CreateSession"]["properties"]["persistInDB"]["type"] == ["boolean", "null"]
        assert schemas["SendMessage"]["required"] == ["message", "sessionId"]
        message = schemas["SendMessage"]["properties"]["message"]
        assert message["examples"] == ["What is the capital of India?"]
        (parameter,) = document["paths"]["/api/services/OpenAI/session-messages"]["get"]["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("sessionId", "query", True)

    def test_each_error_has_its_codes_and_headers(self, document: dict[str, Any]) -> None:
        """Those that the host answers with."""
        responses = document["components"]["responses"]
        assert "Retry-After" in responses["503"]["headers"]
        assert "Allow" in responses["405"]["headers"]
        assert all("X-Request-Id" in response["headers"] for response in responses.values())
        codes = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
        assert set(codes) == {row.code for row in TABLE.values()}

    def test_a_service_has_one_of_its_own(self, host: Host, document: dict[str, Any]) -> None:
        """With nothing but its methods."""
        own = host.http.get("/api/services/OpenAI/api-docs").json()
        assert own["info"]["title"] == "OpenAI"
        assert own["paths"] == document["paths"]

    def test_the_page_needs_no_internet(self, host: Host) -> None:
        """It loads nothing from elsewhere."""
        page = host.http.get("/schema")
        assert page.headers["content-type"].startswith("text/html")
        assert "http://" not in page.text
        assert "https://" not in page.text

    def test_a_host_without_services_has_an_empty_one(self, home: Path) -> None:
        """And the page still loads."""
        with serving(home) as host:
            assert host.http.get("/schema/openapi.json").json()["paths"] == {}
            assert host.http.get("/schema").status_code == 200


def test_schemathesis_finds_nothing(host: Host) -> None:
    """All of its checks hold against the live host, whatever it makes up."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{host.url}/schema/openapi.json"]
    done = subprocess.run(
        [*command, "--checks", "all", "--max-examples", "60", "--no-color"],
        cwd=host.log.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "No issues found" in done.stdout


PYTHON = """
import sys
from generated import Client
from generated.api.open_ai import (
    open_ai_create_session, open_ai_get_session_messages, open_ai_send_message
)
from generated.models import CreateSession, SendMessage

client = Client(base_url=sys.argv[1])
session = open_ai_create_session.sync(client=client, body=CreateSession(persist_in_db=True)).session_id
body = SendMessage(message="Hi", session_id=session)
reply = open_ai_send_message.sync(client=client, body=body)
history = open_ai_get_session_messages.sync(client=client, session_id=session)
refused = open_ai_send_message.sync(client=client, body=SendMessage(message=" ", session_id=session))
print(reply.response_message, [message.role.value for message in history.messages], int(refused.code))
"""


def test_a_python_client_can_be_generated(host: Host, document: dict[str, Any], tmp_path: Path) -> None:
    """It makes the three calls, and knows the error."""
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    path = f"{Path(sys.executable).parent}:{environment(tmp_path)['PATH']}"
    generate = ["openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"]
    subprocess.run(
        [Path(sys.executable).with_name(generate[0]), *generate[1:], "--output-path", "generated"],
        cwd=tmp_path,
        env=environment(tmp_path, PATH=path),
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", PYTHON, host.url], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "Hi? ['user', 'assistant'] 8005\n", done.stderr


def test_a_typescript_client_can_be_generated(host: Host, document: dict[str, Any], tmp_path: Path) -> None:
    """It compiles strictly, makes the three calls, and knows the error."""
    if not shutil.which("npm"):
        pytest.skip("Node and npm are needed for a TypeScript client")
    folder = Path(shutil.copytree(FOLDER, tmp_path / "ts", ignore=lambda *_: {"node_modules"}))
    (folder / "openapi.json").write_text(json.dumps(document))
    options = ["--outDir", "out", "--module", "commonjs", "--target", "es2022", "--strict", "--skipLibCheck"]
    for command in (
        ["npm", "ci", "--silent"],
        ["npx", "--no-install", "openapi-ts", "-i", "openapi.json", "-o", "client", "--no-log-file"],
        ["npx", "--no-install", "tsc", *options, "use.ts"],
    ):
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert made.returncode == 0, made.stdout + made.stderr
    done = subprocess.run(["node", "out/use.js", host.url], cwd=folder, capture_output=True, text=True)
    told = {"reply": "Hi?", "roles": ["user", "assistant"], "code": 8005}
    assert json.loads(done.stdout) == told, done.stderr
