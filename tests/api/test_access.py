"""Before any object is looked at: path, method, beta header, and what every answer carries."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from tests.api.exchanges import refusal
from tests.live_server import LiveServer, live_server

from assistants_server.version import __version__

MISSING = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by "
    "setting the header 'OpenAI-Beta: assistants=v2'."
)
V1 = (
    "The v1 Assistants API is not supported. Please try again by setting the header "
    "'OpenAI-Beta: assistants=v2'."
)


def malformed(item: str) -> str:
    return (
        f"Invalid beta header provided: '{item}'. The header should be in the format "
        "'OpenAI-Beta: example_beta=v1'."
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, MISSING),
        ("", MISSING),
        ("v1", malformed("v1")),
        ("assistants", malformed("assistants")),
        ("assistants=v1", V1),
        ("responses=v1", "Unknown beta requested: 'responses'."),
        ("assistants=v9", "Unknown beta requested: 'assistants=v9'."),
    ],
)
@pytest.mark.parametrize("path", ["/v1/assistants", "/v1/threads"])
async def test_the_beta_header_is_asked_for(
    server: LiveServer, path: str, header: str | None, message: str
) -> None:
    headers = {} if header is None else {"OpenAI-Beta": header}
    async with server.http(headers) as http:
        assert refusal(await http.get(path)) == (400, message, None, "invalid_beta")


@pytest.mark.parametrize("header", ["assistants=v2", "realtime=v1, assistants=v2"])
async def test_the_beta_may_be_one_of_several(server: LiveServer, header: str) -> None:
    async with server.http({"OpenAI-Beta": header}) as http:
        assert (await http.get("/v1/assistants")).status_code == 200


async def test_no_beta_header_is_asked_for_elsewhere(server: LiveServer) -> None:
    async with server.http({}) as http:
        for path in ("/v1/files", "/v1/models", "/v1/vector_stores", "/health/live"):
            assert (await http.get(path)).status_code == 200, path


async def test_the_beta_header_can_be_done_without(tmp_path: Path) -> None:
    async with (
        live_server(data=tmp_path, require_beta_header=False) as server,
        server.http({}) as http,
    ):
        assert (await http.get("/v1/assistants")).status_code == 200


@pytest.mark.parametrize("authorization", [None, "Bearer anything", "Basic x"])
async def test_without_keys_any_key_or_none_will_do(
    server: LiveServer, authorization: str | None
) -> None:
    headers = {"OpenAI-Beta": "assistants=v2"}
    if authorization is not None:
        headers["Authorization"] = authorization
    async with server.http(headers) as http:
        assert (await http.get("/v1/assistants")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/x"),
        ("POST", "/v1/x"),
        ("GET", "/"),
        ("GET", "/assistants"),
        ("GET", "/v1/assistants/"),
        ("DELETE", "/v1/threads/thread_1/messages/msg_1/x"),
        ("GET", "/v1/threads/thread_1/runs/run_1/x"),
    ],
)
async def test_an_unknown_path_is_named(http: httpx2.AsyncClient, method: str, path: str) -> None:
    assert refusal(await http.request(method, path)) == (
        404,
        f"Invalid URL ({method} {path})",
        None,
        None,
    )


async def test_the_path_is_judged_before_the_beta_header(server: LiveServer) -> None:
    async with server.http({}) as http:
        assert refusal(await http.get("/v1/threads/thread_1/x"))[0] == 404


async def test_the_beta_header_is_judged_before_the_body(server: LiveServer) -> None:
    async with server.http({}) as http:
        response = await http.post("/v1/threads/thread_1/messages", content=b"{")
        assert refusal(response)[3] == "invalid_beta"


async def test_the_body_is_judged_before_objects_are_looked_up(http: httpx2.AsyncClient) -> None:
    path = "/v1/threads/thread_1/messages"
    assert refusal(await http.post(path, json={}))[3] == "missing_required_parameter"
    body = {"role": "user", "content": "x"}
    assert refusal(await http.post(path, json=body))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/threads", "GET, POST"),
        ("PATCH", "/v1/assistants/asst_1", "DELETE, GET, POST"),
        ("DELETE", "/v1/threads/thread_1/runs/run_1", "GET, POST"),
        ("GET", "/v1/threads/runs", "POST"),
    ],
)
async def test_a_wrong_method_says_which_are_right(
    http: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await http.request(method, path)
    assert refusal(response) == (
        405,
        (
            f"Not allowed to {method} on {path}. "
            "(HINT: Perhaps you meant to use a different HTTP method?)"
        ),
        None,
        "method_not_supported",
    )
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "param", "prefix"),
    [
        ("/v1/assistants/undefined", "assistant_id", "asst"),
        ("/v1/threads/undefined", "thread_id", "thread"),
        ("/v1/threads/undefined/messages", "thread_id", "thread"),
        ("/v1/threads/thread_1/messages/undefined", "message_id", "msg"),
        ("/v1/threads/thread_1/runs/undefined", "run_id", "run"),
        ("/v1/threads/thread_1/runs/run_1/steps/undefined", "step_id", "step"),
    ],
)
async def test_an_id_that_cannot_be_one_is_refused(
    http: httpx2.AsyncClient, path: str, param: str, prefix: str
) -> None:
    assert refusal(await http.get(path)) == (
        400,
        f"Invalid '{param}': 'undefined'. Expected an ID that begins with '{prefix}'.",
        param,
        "invalid_value",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/threads/thread_%00",
        "/v1/files/file-%00",
        "/v1/assistants?after=%00",
        "/v1/threads?metadata[a]=%00",
        "/v1/threads?metadata[%00]=a",
    ],
)
async def test_nul_characters_never_reach_the_database(http: httpx2.AsyncClient, path: str) -> None:
    assert refusal(await http.get(path))[0] in (400, 404)


async def test_every_answer_can_be_traced(http: httpx2.AsyncClient) -> None:
    seen = set()
    for path in ("/v1/assistants", "/v1/x", "/v1/threads/undefined", "/health/live"):
        headers = (await http.get(path)).headers
        assert re.fullmatch("req_[0-9a-f]{32}", headers["x-request-id"])
        assert headers["openai-version"] == "2020-10-01"
        assert (headers["openai-organization"], headers["openai-project"]) == (
            "self-hosted",
            "default",
        )
        assert int(headers["openai-processing-ms"]) >= 0
        assert headers["assistants-server"] == __version__
        seen.add(headers["x-request-id"])
    assert len(seen) == 4


async def test_head_is_a_get_without_its_body(http: httpx2.AsyncClient) -> None:
    response = await http.head("/v1/assistants")
    assert (response.status_code, response.content) == (200, b"")


async def test_health_and_the_document_are_open(server: LiveServer) -> None:
    async with server.http({}) as http:
        for path in ("/health/live", "/health/ready"):
            assert (await http.get(path)).json() == {"status": "ok"}
        assert (await http.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_a_server_that_shuts_down_is_not_ready(server: LiveServer) -> None:
    await server.state.worker.drain(0)
    async with server.http() as http:
        assert refusal(await http.get("/health/ready"))[0] == 503
        assert (await http.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
        {"Host": "rebound.example.com:8400"},
    ],
)
async def test_without_keys_no_web_page_gets_an_answer_nor_leaves_a_trace(
    server: LiveServer, headers: dict[str, str]
) -> None:
    async with server.http({"OpenAI-Beta": "assistants=v2"}) as http:
        upload = {"file": ("a.txt", b"words")}
        answers = [
            await http.post("/v1/threads", headers=headers),
            await http.post(
                "/v1/files", data={"purpose": "user_data"}, files=upload, headers=headers
            ),
            await http.get("/v1/files", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [403, 403, 403]
        assert "keys create" in refusal(answers[0])[1]
        assert (await http.get("/v1/files")).json()["data"] == []
        assert (await http.get("/v1/threads")).json()["data"] == []


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8400", "[::ffff:127.0.0.1]", "server"]
)
async def test_without_keys_programs_may_call_it_by_any_private_name(
    server: LiveServer, host: str
) -> None:
    async with server.http({"OpenAI-Beta": "assistants=v2", "Host": host}) as http:
        assert (await http.get("/v1/threads")).status_code == 200


async def test_organization_and_project_are_sent_back(server: LiveServer) -> None:
    sent = {"OpenAI-Organization": "org-a", "OpenAI-Project": "proj_b"}
    async with server.http({"OpenAI-Beta": "assistants=v2", **sent}) as http:
        headers = (await http.get("/v1/threads")).headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-a", "proj_b")
