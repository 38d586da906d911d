"""Models: what the provider tells, and the names that the settings map."""

from __future__ import annotations

from pathlib import Path

import httpx2
from tests.api.exchanges import refusal
from tests.live_server import live_server
from tests.upstream import Upstream


async def test_the_providers_models_are_listed(http: httpx2.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["gpt-4o", "gpt-4o-mini"]
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}
    assert (await http.get("/v1/models/gpt-4o")).json() == listed["data"][0]
    assert refusal(await http.get("/v1/models/gpt-x")) == (
        404,
        "The model 'gpt-x' does not exist.",
        "model",
        "model_not_found",
    )


async def test_mapped_names_are_listed_too(tmp_path: Path) -> None:
    async with Upstream(models=["org/qwen3:8b"]) as upstream:
        names = {"gpt-4o": "org/qwen3:8b", "*": "org/qwen3:8b"}
        async with (
            live_server(data=tmp_path, models=names, upstream_url=upstream.base_url) as server,
            server.http() as http,
        ):
            listed = (await http.get("/v1/models")).json()["data"]
            assert [model["id"] for model in listed] == ["org/qwen3:8b", "gpt-4o"]
            for name in ("org/qwen3:8b", "gpt-4o", "anything"):
                assert (await http.get(f"/v1/models/{name}")).json()["id"] == name


async def test_a_provider_that_does_not_answer_is_told(tmp_path: Path) -> None:
    async with (
        live_server(data=tmp_path, upstream_url="http://127.0.0.1:9/v1") as server,
        server.http() as http,
    ):
        assert refusal(await http.get("/v1/models"))[0] == 503
