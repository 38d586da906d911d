"""How an endpoint is reached where a proxy stands in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.upstream import Upstream, say

from assistants_server.providers.endpoint import Endpoint, body_of


@asynccontextmanager
async def reaching(url: str) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(url, "sk-secret-key", timeout=20)
    try:
        yield endpoint
    finally:
        await endpoint.aclose()


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_a_proxy_is_asked_and_may_be_named_without_its_scheme(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Upstream() as upstream:
        address = upstream.base_url.removeprefix("http://").split("/")[0]
        monkeypatch.setenv(variable, address)
        upstream.script(say("Hello"))
        async with reaching("http://models.test/v1") as endpoint:
            answer = await endpoint.post("/chat/completions", b'{"stream": true}', {})
            assert b"Hello" in await body_of(answer)
        assert upstream.requests[0].headers["host"] == "models.test"


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
async def test_a_proxy_that_cannot_be_used_is_named_at_once_and_passed_by(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "socks5h://me:secret@proxy.test:1080")
    async with Upstream() as upstream, reaching(upstream.base_url) as endpoint:
        (told,) = caplog.records
        assert told.getMessage() == (
            "The proxy socks5h://proxy.test:1080 is not used: models are asked through HTTP "
            "proxies only. 127.0.0.1 is asked directly."
        )
        caplog.clear()
        for _ in range(2):
            assert b"data" in await endpoint.get("/models")
    assert caplog.records == [], "once is enough"


async def test_a_socks_proxy_is_not_spoken_of_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://proxy.test:1080")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with Upstream() as upstream, reaching(upstream.base_url) as endpoint:
        assert b"data" in await endpoint.get("/models")
    assert caplog.records == []
