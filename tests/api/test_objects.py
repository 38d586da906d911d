"""Assistants, threads, messages and steps over HTTP: made, read, changed, listed, deleted."""

from __future__ import annotations

import httpx2
import pytest
from tests.api.exchanges import Json, made, refusal


async def test_an_assistant_is_kept_as_it_is_shown(http: httpx2.AsyncClient) -> None:
    body = {
        "model": "gpt-4o",
        "name": "Ada",
        "description": "d",
        "instructions": "i",
        "tools": [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "f"}}],
        "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
        "metadata": {"k": "v"},
        "temperature": 0,
        "top_p": 0.5,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    shown = await made(http, "/v1/assistants", body)
    assert (await http.get(f"/v1/assistants/{shown['id']}")).json() == shown
    assert shown["temperature"] == 0
    assert {key: shown[key] for key in ("name", "metadata", "top_p", "reasoning_effort")} == {
        "name": "Ada",
        "metadata": {"k": "v"},
        "top_p": 0.5,
        "reasoning_effort": "low",
    }
    assert shown["id"].startswith("asst_")
    assert len(shown["id"]) == len("asst_") + 24


async def test_a_modification_keeps_sets_and_clears(http: httpx2.AsyncClient) -> None:
    shown = await made(
        http,
        "/v1/assistants",
        {"model": "m", "name": "Ada", "metadata": {"a": "1", "b": "2"}, "temperature": 0.2},
    )
    path = f"/v1/assistants/{shown['id']}"
    changed = await made(http, path, {"name": None, "metadata": {"c": "3"}})
    assert changed == {**shown, "name": None, "metadata": {"c": "3"}}
    assert await made(http, path, {"temperature": None}) == {**changed, "temperature": 1.0}
    assert await made(http, path, {}) == {**changed, "temperature": 1.0}


async def test_a_deleted_assistant_is_gone(http: httpx2.AsyncClient, assistant: Json) -> None:
    path = f"/v1/assistants/{assistant['id']}"
    assert (await http.delete(path)).json() == {
        "id": assistant["id"],
        "object": "assistant.deleted",
        "deleted": True,
    }
    gone = (404, f"No assistant found with id '{assistant['id']}'.", None, None)
    for method in ("GET", "POST", "DELETE"):
        answer = await http.request(method, path, json={} if method == "POST" else None)
        assert refusal(answer) == gone


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_a_thread_needs_no_body(http: httpx2.AsyncClient, content: bytes) -> None:
    response = await http.post("/v1/threads", content=content)
    assert response.status_code == 200
    assert response.json()["object"] == "thread"


async def test_a_thread_comes_with_its_messages_in_order(http: httpx2.AsyncClient) -> None:
    thread = await made(
        http,
        "/v1/threads",
        {
            "messages": [
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
            ],
            "metadata": {"k": "v"},
        },
    )
    page = (await http.get(f"/v1/threads/{thread['id']}/messages?order=asc")).json()
    assert [m["content"][0]["text"]["value"] for m in page["data"]] == ["one", "two"]
    assert [m["role"] for m in page["data"]] == ["user", "assistant"]
    assert page["first_id"] == page["data"][0]["id"]
    changed = await made(http, f"/v1/threads/{thread['id']}", {"metadata": None})
    assert changed == {**thread, "metadata": {}}


async def test_a_deleted_thread_takes_its_messages_along(
    http: httpx2.AsyncClient, thread: Json
) -> None:
    path = f"/v1/threads/{thread['id']}"
    message = await made(http, path + "/messages", {"role": "user", "content": "hi"})
    assert (await http.delete(path)).json()["object"] == "thread.deleted"
    gone = (404, f"No thread found with id '{thread['id']}'.", None, None)
    for suffix in ("", "/messages", f"/messages/{message['id']}", "/runs"):
        assert refusal(await http.get(path + suffix)) == gone


async def test_a_message_made_by_a_client_is_complete(
    http: httpx2.AsyncClient, thread: Json
) -> None:
    path = f"/v1/threads/{thread['id']}/messages"
    message = await made(
        http,
        path,
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
            "attachments": [{"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}],
        },
    )
    assert message["status"] == "completed"
    assert message["completed_at"] == message["created_at"]
    assert (message["run_id"], message["assistant_id"], message["incomplete_at"]) == (None,) * 3
    assert message["content"][1]["image_url"]["detail"] == "auto"
    assert message["attachments"] == [
        {"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}
    ]
    assert (await http.get(f"{path}/{message['id']}")).json() == message


async def test_a_messages_content_can_be_corrected(http: httpx2.AsyncClient, thread: Json) -> None:
    path = f"/v1/threads/{thread['id']}/messages"
    message = await made(http, path, {"role": "user", "content": "helo", "metadata": {"item": "1"}})
    changed = await made(http, f"{path}/{message['id']}", {"content": "hello"})
    assert changed["content"] == [{"type": "text", "text": {"value": "hello", "annotations": []}}]
    assert changed["metadata"] == {"item": "1"}
    assert (changed["id"], changed["created_at"]) == (message["id"], message["created_at"])


async def test_a_deleted_message_is_gone(http: httpx2.AsyncClient, thread: Json) -> None:
    path = f"/v1/threads/{thread['id']}/messages"
    message = await made(http, path, {"role": "user", "content": "hi"})
    assert (await http.delete(f"{path}/{message['id']}")).json() == {
        "id": message["id"],
        "object": "thread.message.deleted",
        "deleted": True,
    }
    assert refusal(await http.get(f"{path}/{message['id']}")) == (
        404,
        f"No message found with id '{message['id']}'.",
        None,
        None,
    )
    assert (await http.get(path)).json()["data"] == []


async def test_threads_are_found_by_their_metadata(http: httpx2.AsyncClient) -> None:
    await made(http, "/v1/threads", {"metadata": {"caller": "a"}})
    wanted = await made(http, "/v1/threads", {"metadata": {"caller": "b c&d", "shop": "1"}})
    await made(http, "/v1/threads", {"metadata": {"caller": "b c&d", "shop": "2"}})
    query = {"metadata[caller]": "b c&d", "metadata[shop]": "1"}
    page = (await http.get("/v1/threads", params=query)).json()
    assert page["data"] == [wanted]
    everything = (await http.get("/v1/threads")).json()
    assert len(everything["data"]) == 3


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_neither_skip_nor_repeat(http: httpx2.AsyncClient, order: str) -> None:
    made_ids = [(await made(http, "/v1/assistants", {"model": "m"}))["id"] for _ in range(5)]
    expected = made_ids if order == "asc" else made_ids[::-1]
    seen: list[str] = []
    query: dict[str, str | int] = {"limit": 2, "order": order}
    while True:
        page = (await http.get("/v1/assistants", params=query)).json()
        seen += [one["id"] for one in page["data"]]
        assert page["last_id"] == seen[-1]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == expected
    query = {"limit": 2, "order": order, "before": expected[4]}
    page = (await http.get("/v1/assistants", params=query)).json()
    assert [one["id"] for one in page["data"]] == expected[2:4]
    assert page["has_more"] is True


@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_an_unknown_cursor_is_refused(http: httpx2.AsyncClient, cursor: str) -> None:
    status, _, param, _ = refusal(await http.get(f"/v1/assistants?{cursor}=asst_unknown"))
    assert (status, param) == (400, cursor)


async def test_vector_stores_are_refused_plainly(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/vector_stores")).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    plainly = "This server has no vector stores yet."
    status, message, _, _ = refusal(await http.post("/v1/vector_stores", json={"name": "x"}))
    assert (status, message) == (400, plainly)
    for path in ("/vs_1", "/vs_1/files", "/vs_1/file_batches/vsfb_1"):
        status, message, _, _ = refusal(await http.get("/v1/vector_stores" + path))
        assert (status, message) == (404, f"No vector store found with id 'vs_1'. {plainly}")
