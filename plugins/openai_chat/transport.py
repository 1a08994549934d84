"""How calls to the upstream travel: aiohttp under the `openai` package's client.

It costs less per call than the client's own transport, which looks at every idle connection each time. It
keeps no cookies, bounds what it reads, and reports every failure as the `httpx2` error that it is.
"""

import asyncio
import ssl
import urllib.request

import aiohttp
import httpx2

__all__ = ["MAX_ANSWER", "Transport"]

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
        """Send ``request``, and return the whole answer.

        Raises:
            httpx2.TransportError: if there is none; its kind says why.
        """
        timeout = request.extensions.get("timeout", {})
        try:
            async with self._opened().request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=request.content or None,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=timeout.get("read")),
            ) as response:
                headers = [(k, v) for k, v in response.raw_headers if k.lower() != b"content-encoding"]
                content = await _read(response)
                return httpx2.Response(response.status, headers=headers, content=content, request=request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx2.ConnectError("cannot connect", request=request) from error
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no answer in time", request=request) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise httpx2.RemoteProtocolError("no whole answer", request=request) from error

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=_ssl_context(), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(content)


def _ssl_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _proxy_for(url: httpx2.URL) -> str | None:
    if url.host in ("localhost", "::1") or url.host.startswith("127."):
        return None
    if urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)
