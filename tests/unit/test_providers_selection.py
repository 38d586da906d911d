"""Which model answers for a name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.upstream import Upstream, echo

from assistants_server.domain.model_exchange import ModelRequest, TextPiece
from assistants_server.providers.contract import ProviderError
from assistants_server.providers.selection import Selection, select_provider
from assistants_server.settings import Settings


def ask(model: str) -> ModelRequest:
    return ModelRequest(model=model, messages=[{"role": "user", "content": "Hello"}])


async def hear(provider: Selection, model: str) -> str:
    pieces = [piece async for batch in provider.stream(ask(model)) for piece in batch]
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


def without_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)


async def test_every_name_but_the_local_one_goes_upstream_as_it_is() -> None:
    async with Upstream(default=echo) as upstream:
        names = {"gpt-4o": "big", "*": "small"}
        provider = select_provider(Settings(upstream_url=upstream.base_url, models=names))
        assert await hear(provider, "gpt-4o") == "Hello "
        await provider.aclose()
    assert [request.body["model"] for request in upstream.requests] == ["gpt-4o"]
    assert provider.describe() == f"small at {upstream.base_url}"


async def test_openai_variables_are_used_and_ours_win(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Upstream(default=echo) as theirs, Upstream(default=echo) as ours:
        monkeypatch.setenv("OPENAI_BASE_URL", theirs.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "their key")
        for settings in (
            Settings(),
            Settings(upstream_url=ours.base_url, upstream_key="our key"),
        ):
            provider = select_provider(settings)
            await hear(provider, "m")
            await provider.aclose()
    assert theirs.requests[0].headers["authorization"] == "Bearer their key"
    assert ours.requests[0].headers["authorization"] == "Bearer our key"


async def test_a_key_alone_means_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    provider = select_provider(Settings())
    assert provider.describe() == "models at https://api.openai.com/v1"
    await provider.aclose()


@pytest.mark.parametrize(("answers", "models"), [(True, ["local"]), (False, ["local", "m"])])
async def test_the_local_model_answers_for_its_name_and_where_nobody_else_does(
    answers: bool, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_runtime(monkeypatch)
    async with Upstream() as upstream:
        provider = select_provider(Settings(upstream_url=upstream.base_url if answers else None))
        for model in models:
            with pytest.raises(ProviderError, match="OPENAI_API_KEY"):
                await hear(provider, model)
            assert provider.context_window(model) < 10_000
        await provider.aclose()
    assert not upstream.requests


async def test_what_is_missing_is_said_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_runtime(monkeypatch)
    provider = select_provider(Settings(data=tmp_path))
    assert provider.describe() == "SmolLM2-135M-Instruct, on this machine"
    assert [model.id for model in await provider.models()] == ["local"]
    assert "assistants-server[local]" in (provider.lacks() or "")
    await provider.prewarm()
    await provider.aclose()
    asked_for = select_provider(Settings(data=tmp_path, models={"*": "local"}))
    with pytest.raises(ProviderError, match=r"assistants-server\[local\]"):
        await asked_for.prewarm()
    await asked_for.aclose()


async def test_an_upstream_lacks_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    without_runtime(monkeypatch)
    provider = select_provider(Settings(upstream_url="http://127.0.0.1:9/v1"))
    assert provider.lacks() is None
    await provider.aclose()


async def test_a_file_of_ones_own_is_named(tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": tmp_path, "local_model": tmp_path / "Qwen3-1.7B.gguf"}
    provider = select_provider(Settings(**given))
    assert provider.describe() == "Qwen3-1.7B, on this machine"
    await provider.aclose()


async def test_an_upstream_that_cannot_be_called_is_refused_at_once() -> None:
    with pytest.raises(ProviderError, match="not one that can be called"):
        select_provider(Settings(upstream_url="localhost:11434/v1"))
