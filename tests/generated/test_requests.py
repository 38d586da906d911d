"""Generated requests to every endpoint of the server's own document, hundreds in CI.

Never a 5xx, always the envelope (the traffic's checker sees to the shape of every answer); what is
refused has changed nothing; what the document forbids is refused, and what it allows is refused
only for a reason that it cannot tell; lists and single objects agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.generated.requests import Request, is_allowed, requests
from tests.generated.world import LONG, NIGHTLY, World
from tests.live_server import BETA

REASONS = [
    # what is not there, or not here
    r"No (assistant|thread|message|run|run step) found with id '.*'\.",
    r"No such File object: .*",
    r"No object found with id '.*' to page from\.",
    r"The model '.*' does not exist\.",
    r"Invalid '\w+_id': '.*'\. Expected an ID that begins with '\w+'\.",
    r"Invalid URL \(\w+ .*\)",
    r".*[Vv]ector store.*",
    # states
    r"Thread .* already has an active run .*\.",
    r"Can't add messages to .* while a run .* is active\.",
    r'Runs in status "\w+" do not accept tool outputs\.',
    r"Expected tool outputs for call_ids \[.*\], got \[.*\]",
    r"Cannot (cancel|update) run with status '\w+'\.",
    r"Run creation requires a Thread with a user message or an assistant with instructions\.",
    r"A run with run_key '.*' already exists in this thread\.",
    r"The run with run_key '.*' was ended before this request arrived\.",
    # rules between two values of a body
    r"Missing required parameter: 'truncation_strategy\.last_messages'\.",
    r"Invalid '.*': '.*'\. Expected an ID that begins with 'file'\.",
]
"""Why a request that the document allows may still be refused."""


pytestmark = LONG


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    made.open()
    yield made
    made.close()


def exchange(world: World, request: Request) -> httpx2.Response:
    """One request, and all that must hold of it whatever it was."""

    async def asked() -> tuple[httpx2.Response, Any, Any]:
        await world.tidy()
        before = await world.rows()
        response = await world.ask(request)
        return response, before, await world.rows()

    response, before, after = world.do(asked())
    world.server.traffic.check()
    shown = f"{request.method} {response.url} -> {response.status_code} {response.text[:300]}"
    assert response.status_code < 500, shown
    if response.status_code != 200 or request.method == "get":
        changed = [table for table in before if before[table] != after[table]]
        assert changed == [], f"changed {changed}: {shown}"
    return response


RUN = "/v1/threads/{thread_id}/runs/{run_id}"

QUICKLY = settings(suppress_health_check=list(HealthCheck))


@QUICKLY
@given(request=requests())
@example(Request("post", RUN, {"thread_id": "0", "run_id": "."}, {}, {}))
@example(Request("get", RUN, {"thread_id": "..", "run_id": ".."}, {}))
def test_what_the_document_allows_is_done_or_refused_for_a_reason(
    world: World, request: Request
) -> None:
    response = exchange(world, request)
    if response.status_code == 200:
        return
    message = response.json()["error"]["message"]
    assert any(re.fullmatch(reason, message, re.DOTALL) for reason in REASONS), message


@QUICKLY
@given(request=requests(broken=True))
def test_what_the_document_forbids_is_refused(world: World, request: Request) -> None:
    response = exchange(world, request)
    if request.breakage == "beta":
        assert response.json()["error"]["code"] == "invalid_beta"
        return
    schema = request.schema
    wrong = request.breakage in ("bytes", "type")
    if schema is not None and not wrong:
        wrong = not is_allowed(world.body(request), schema)
    if wrong:
        assert response.status_code >= 400, f"{request} -> {response.text[:300]}"


LISTINGS = 500 if NIGHTLY else QUICKLY.max_examples
"""Each takes as long as six of the other examples."""


@settings(QUICKLY, max_examples=LISTINGS)
@given(
    filling=st.lists(requests(), max_size=6),
    pick=st.integers(0, 20),
    limit=st.integers(1, 5),
    order=st.sampled_from(("asc", "desc")),
)
def test_lists_agree_with_what_they_list(
    world: World, filling: list[Request], pick: int, limit: int, order: str
) -> None:
    for request in filling:
        exchange(world, request)
    world.do(world.tidy())
    threads = world.known["thread"]
    if not threads:
        return
    thread = threads[pick % len(threads)]
    for path in ("/v1/assistants", "/v1/threads", "/v1/files"):
        agree(world, path, limit, order)
    agree(world, f"/v1/threads/{thread}/messages", limit, order)
    for run in agree(world, f"/v1/threads/{thread}/runs", limit, order):
        agree(world, f"/v1/threads/{thread}/runs/{run['id']}/steps", limit, order)


def agree(world: World, path: str, limit: int, order: str) -> list[Any]:
    """All pages of a list hold each object once, as it is retrieved; returns them."""

    async def get(url: str) -> Any:
        response = await world.http.get(url, headers=BETA)
        assert response.status_code == 200, response.text
        return response.json()

    async def pages(order: str) -> list[Any]:
        listed: list[Any] = []
        after = ""
        while True:
            page = await get(f"{path}?limit={limit}&order={order}{after}")
            listed += page["data"]
            if not page["has_more"]:
                return listed
            after = f"&after={page['last_id']}"

    listed = world.do(pages(order))
    assert listed == world.do(pages({"asc": "desc", "desc": "asc"}[order]))[::-1]
    assert len({one["id"] for one in listed}) == len(listed)
    for one in listed[:3]:
        assert world.do(get(f"{path}/{one['id']}")) == one
    return listed
