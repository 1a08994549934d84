"""The official client in a browser: a page from another port, in headless Chromium."""

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.host import Host, install, serving
from tests.upstream import KEY, FakeUpstream, refusing

QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]


class Site:
    """The page's own server, which also takes what came of it."""

    def __init__(self, server: ThreadingHTTPServer, results: "queue.Queue[dict[str, Any]]") -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self._results = results

    def open(self, folder: Path, host: Host) -> dict[str, Any]:
        """Open the page in Chromium, and return its results."""
        chromium = shutil.which("chromium")
        if not chromium:
            pytest.skip("Chromium is needed for a page")
        profile = f"--user-data-dir={folder / 'profile'}"
        command = [chromium, *QUIET, profile, f"{self.url}/?host={host.url}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                return self._results.get(timeout=60)
            finally:
                browser.terminate()


@contextmanager
def site(scripts: Path) -> Iterator[Site]:
    """Serve the page and the client's script on a free port."""
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    files = {
        "/": ("text/html", scripts / "page.html"),
        "/backendless.min.js": (
            "text/javascript",
            scripts / "node_modules/backendless/dist/backendless.min.js",
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, path = files[self.path.partition("?")[0]]
            self._answer(kind, path.read_bytes())

        def do_POST(self) -> None:
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer("text/plain", b"")

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, name="site").start()
        try:
            yield Site(server, results)
        finally:
            server.shutdown()


def test_a_page_of_an_allowed_origin_uses_the_client(
    sdk: Path, home: Path, tmp_path: Path, upstream: FakeUpstream
) -> None:
    """Objects, strings and nothing as arguments; errors and Retry-After arrive as well."""
    install(home, upstream.url, KEY)
    upstream.behaviours["limit"] = refusing(429, Retry_After="700")
    with site(sdk) as page, serving(home, MARKETPLACE_ORIGINS=page.url) as host:
        made = page.open(tmp_path, host)
    session = made["created"]["result"]["sessionId"]
    assert made["sent"]["result"] == {"sessionId": session, "responseMessage": "Hi?"}
    assert made["read"]["result"]["id"] == session
    assert made["empty"]["result"]["sessionId"]
    assert (made["refused"]["error"]["status"], made["refused"]["error"]["code"]) == (400, 8005)
    assert (made["limited"]["error"]["status"], made["limited"]["error"]["code"]) == (429, 999)
    assert made["retryAfter"]["result"] == "700"


def test_a_page_of_a_foreign_origin_gets_nothing_done(
    sdk: Path, home: Path, tmp_path: Path, upstream: FakeUpstream
) -> None:
    """Also where the browser sends the call without asking first."""
    install(home, upstream.url, KEY)
    with site(sdk) as page, serving(home, MARKETPLACE_ORIGINS="https://app.example") as host:
        made = page.open(tmp_path, host)
        log = host.log.read_text()
    assert all("error" in one for one in made.values())
    assert upstream.prompts() == []
    assert "createSession 403" in log
    assert " 200 " not in log


def test_the_page_of_the_document_shows_every_method(host: Host, tmp_path: Path) -> None:
    """With its arguments and an example to send; it loads what it needs from the host alone."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is needed for a page")
    options = [*QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    shown = subprocess.run(
        [chromium, *options, f"{host.url}/schema"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for name in ("createSession", "sendMessage", "getSessionMessages"):
        assert f"<h2>{name}</h2>" in shown
    assert "A prompt for the AI." in shown
    assert 'aria-label="Arguments of OpenAI_sendMessageByName"' in shown
