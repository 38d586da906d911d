"""What whoever runs the server looks at: its metrics."""

from __future__ import annotations

from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from tests.api.exchanges import Json
from tests.api.streams import played
from tests.live_server import live_server
from tests.upstream import Upstream, fail, say

Samples = dict[tuple[str, tuple[str, ...]], float]


async def measured(http: httpx2.AsyncClient) -> Samples:
    response = await http.get("/metrics", headers={"OpenAI-Beta": "", "Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name.removeprefix("assistants_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_metrics_tell_of_runs_and_their_costs(
    http: httpx2.AsyncClient, upstream: Upstream, assistant: Json, thread: Json
) -> None:
    upstream.script(say("Hello").usage(11, 7), fail(400))
    runs = f"/v1/threads/{thread['id']}/runs"
    for _ in range(2):
        await played(http, runs, {"assistant_id": assistant["id"]})
    samples = await measured(http)
    assert samples["runs_ended_total", ("completed",)] == 1
    assert samples["runs_ended_total", ("failed",)] == 1
    assert samples["runs_active", ("in_progress",)] == 0
    assert samples["streams_open", ()] == 0
    assert samples["tokens_total", ("prompt",)] == 11
    assert samples["tokens_total", ("completion",)] == 7
    assert samples["run_queue_seconds_count", ()] == 2
    assert samples["first_token_seconds_count", ()] == 1
    assert sum(samples[key] for key in samples if key[0] == "upstream_errors_total") == 1
    assert samples["requests_total", ("POST", "200")] == 4
    assert samples["database_write_seconds_count", ()] > 4
    assert samples["database_write_seconds_bucket", ("+Inf",)] > 4
    assert 0 < samples["database_write_seconds_sum", ()] < 60


async def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    async with live_server(data=tmp_path, metrics=False) as server, server.http() as http:
        assert (await http.get("/metrics")).status_code == 404
