"""How calls to the upstream travel: aiohttp under the `openai` package's client.

It costs less per call than the client's own transport, which looks at every idle connection each time. It
keeps no cookies, bounds what it reads, and reports every failure as the `httpx2` error that it is.
"""

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx2

__all__ = ["EVENTS", "MAX_ANSWER", "Transport"]

EVENTS = "text/event-stream"
"""What a request accepts whose answer is to be read while it comes."""

MAX_ANSWER = 32 * 1024 * 1024
"""Bytes that an answer of the upstream may have, unpacked."""

CONNECT_TIMEOUT = 10
"""Seconds that a connection may take to come about."""


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests with aiohttp; ``base_url`` decides whether the environment's proxy is used."""

    def __init__(self, base_url: str) -> None:
        self._proxy = _proxy_for(httpx2.URL(base_url))
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``, and return the whole answer, or, of `EVENTS`, its beginning.

        Raises:
            httpx2.TransportError: if there is none; its kind says why: `ReadError` that there was no
                answer at all, `RemoteProtocolError` that it was cut off.
        """
        timeout = aiohttp.ClientTimeout(
            sock_connect=CONNECT_TIMEOUT, sock_read=request.extensions.get("timeout", {}).get("read")
        )
        with _errors_of(request, silent=httpx2.ReadError):
            response = await self._opened().request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=request.content or None,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=timeout,
            )
        headers = [(k, v) for k, v in response.raw_headers if k.lower() != b"content-encoding"]
        body = _Body(response, request)
        if response.content_type == EVENTS and request.headers.get("accept") == EVENTS:
            return httpx2.Response(response.status, headers=headers, stream=body, request=request)
        try:
            content = b"".join([chunk async for chunk in body])
        finally:
            await body.aclose()
        return httpx2.Response(response.status, headers=headers, content=content, request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=_ssl_context(), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, unpacked, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        with _errors_of(self._request, silent=httpx2.RemoteProtocolError):
            async for chunk in self._response.content.iter_any():
                size += len(chunk)
                if size > MAX_ANSWER:
                    raise aiohttp.ClientPayloadError("the answer is too large")
                yield chunk

    async def aclose(self) -> None:
        # A connection whose answer was not read to its end cannot be used again.
        self._response.release() if self._response.content.at_eof() else self._response.close()


@contextmanager
def _errors_of(request: httpx2.Request, *, silent: type[httpx2.TransportError]) -> Iterator[None]:
    """Raise aiohttp's errors as those of `httpx2`; ``silent`` is what a connection that ends means."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise httpx2.ConnectError("cannot connect", request=request) from error
    except TimeoutError as error:
        raise httpx2.ReadTimeout("no answer in time", request=request) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise silent("the connection ended", request=request) from error
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
        raise httpx2.RemoteProtocolError("no whole answer", request=request) from error


def _ssl_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _proxy_for(url: httpx2.URL) -> str | None:
    if url.host in ("localhost", "::1") or url.host.startswith("127."):
        return None
    if urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)
