"""The HTTP of one OpenAI-compatible endpoint: its address, its key, its warm connections.

On aiohttp: it streams a token for a third of what the SDK's own client takes, and its pool costs
the same however many connections it holds. Two hundred conversations at once spent two thirds of
their time in the other.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yarl

from ..version import __version__
from .chat_errors import Refusal
from .contract import ProviderError

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"

CONNECT_SECONDS = 5.0
# Turns of a conversation are many seconds apart: a connection must survive the listening.
KEEP_ALIVE_SECONDS = 120.0

# Bytes of an answer that are read before somebody takes them; at twice as many the model waits.
READ_AHEAD = 16 * 1024

# No answer that is read as a whole is longer; what is, is cut off there.
LONGEST_BODY = 32 * 1024 * 1024

FAILURES = (Refusal, aiohttp.ClientError, TimeoutError, OSError)
"""What a request may raise; ``chat_errors.explain`` has a sentence for each."""


class Endpoint:
    """Use it in one event loop and close it. Nothing is opened before the first request."""

    def __init__(self, base_url: str | None, api_key: str | None, *, timeout: float) -> None:
        """``timeout``: seconds without a byte, before the first and between any two.

        Raises:
            ProviderError: the URL or the key cannot be used.
        """
        url = (base_url or OPENAI_URL).strip().rstrip("/")
        key = (api_key or "").strip()
        if not key.isascii() or not key.isprintable():
            raise ProviderError("The upstream key holds characters that no key has.")
        parsed = _parsed(url)
        self.host = parsed.host_port_subcomponent or ""
        self.base_url = _without_secrets(url)
        self._url = parsed.with_user(None) if key else parsed
        self._headers = _headers(key)
        self._proxy = _proxy(parsed)
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=timeout
        )
        self._open_session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self, path: str, content: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The answer, its body not yet read. Whoever gets it closes it.

        Raises:
            Refusal: a status of 400 or more.
            aiohttp.ClientError, TimeoutError, OSError: no answer.
        """
        return await self._answer(
            await self._session.post(self._at(path), data=content, headers=headers)
        )

    async def get(self, path: str) -> bytes:
        """The body of the answer. Raises as ``post``."""
        async with await self._answer(await self._session.get(self._at(path))) as response:
            return await body_of(response)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        if self._open_session is not None:
            await self._open_session.close()

    async def _answer(self, response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        if response.status < 400:
            return response
        async with response:
            content = await body_of(response)
        raise Refusal(response.status, response.headers, content)

    def _at(self, path: str) -> yarl.URL:
        """A query of the base URL, such as Azure's api-version, goes along."""
        path = self._url.raw_path.rstrip("/") + path
        return self._url.with_path(path, encoded=True, keep_query=True)

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise aiohttp.ClientConnectionError("closed")
        if self._open_session is None:
            self._open_session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_AHEAD,
                proxy=self._proxy,
            )
        return self._open_session


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer, as far as it is bounded."""
    content = bytearray()
    async for data in response.content.iter_any():
        content += data
        if len(content) > LONGEST_BODY:
            response.close()
            break
    return bytes(content)


def _parsed(url: str) -> yarl.URL:
    try:
        parsed = yarl.URL(url)
        if parsed.scheme in ("http", "https") and parsed.raw_host:
            parsed.raw_host.encode("idna")  # as whoever looks it up will do
            return parsed
    except ValueError:
        pass
    raise ProviderError(
        f"The upstream URL {_without_secrets(url)!r} is not one that can be called. "
        "It looks like http://127.0.0.1:11434/v1."
    )


def _proxy(url: yarl.URL) -> str | None:
    """What the usual variables say, looked up once: the client itself would for every request."""
    if url.host is None or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy:
        return None
    if "://" not in proxy:  # as other programs take it too
        return f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        # The client knows nothing of SOCKS. To refuse would stop whoever has such a proxy for other
        # programs and a model on the same machine.
        logger.warning(
            "The proxy %s is not used: models are asked through HTTP proxies only. %s is asked "
            "directly.",
            _without_secrets(proxy),
            url.host,
        )
        return None
    return proxy


def _headers(key: str) -> dict[str, str]:
    """What every request carries. The SDK's own variables name organization and project."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"assistants-server/{__version__}",
    }
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, variable in (
        ("OpenAI-Organization", "OPENAI_ORG_ID"),
        ("OpenAI-Project", "OPENAI_PROJECT_ID"),
    ):
        if value := os.environ.get(variable, "").strip():
            headers[name] = value
    return headers


def _without_secrets(url: str) -> str:
    """The URL without what may stand before an ``@`` or after a ``?``."""
    return re.sub(r"//[^/@]*@", "//", url.split("?")[0])
