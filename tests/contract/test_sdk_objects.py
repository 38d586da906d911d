"""Objects and lists through the official SDK."""

from __future__ import annotations

from typing import Literal

import openai
import pytest
from tests.contract.sdk import DEPRECATED
from tests.live_server import LiveServer

pytestmark = DEPRECATED


async def test_assistants_live_and_die(client: openai.AsyncOpenAI) -> None:
    assistants = client.beta.assistants
    made = await assistants.create(
        model="gpt-4o",
        name="Ada",
        tools=[{"type": "file_search"}, {"type": "code_interpreter"}],
        metadata={"k": "v"},
        response_format={"type": "json_object"},
    )
    assert await assistants.retrieve(made.id) == made
    changed = await assistants.update(made.id, name="Grace", temperature=0.5)
    assert (changed.name, changed.temperature, changed.metadata) == ("Grace", 0.5, {"k": "v"})
    assert [one.id async for one in assistants.list()] == [made.id]
    gone = await assistants.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "assistant.deleted")
    with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{made.id}'."):
        await assistants.retrieve(made.id)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_lists_page_by_themselves(
    client: openai.AsyncOpenAI, order: Literal["asc", "desc"]
) -> None:
    made = [(await client.beta.assistants.create(model="m")).id for _ in range(5)]
    seen = [one.id async for one in client.beta.assistants.list(limit=2, order=order)]
    assert seen == (made if order == "asc" else made[::-1])


async def test_threads_live_and_die(client: openai.AsyncOpenAI) -> None:
    empty = await client.beta.threads.create()
    assert (empty.object, empty.metadata) == ("thread", {})
    thread = await client.beta.threads.create(
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
        ],
        metadata={"a": "b"},
        tool_resources={"code_interpreter": {"file_ids": ["file-1"]}},
    )
    assert await client.beta.threads.retrieve(thread.id) == thread
    changed = await client.beta.threads.update(thread.id, metadata={"c": "d"})
    assert changed.metadata == {"c": "d"}
    assert changed.tool_resources == thread.tool_resources
    assert (await client.beta.threads.delete(thread.id)).object == "thread.deleted"
    with pytest.raises(openai.NotFoundError):
        await client.beta.threads.messages.list(thread.id)


async def test_messages_live_and_die(client: openai.AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    messages = client.beta.threads.messages
    plain = await messages.create(thread.id, role="user", content="plain")
    rich = await messages.create(
        thread.id,
        role="user",
        content=[
            {"type": "text", "text": "rich"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image_file", "image_file": {"file_id": "file-1"}},
        ],
        attachments=[{"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}],
        metadata={"k": "v"},
    )
    assert [block.type for block in rich.content] == ["text", "image_url", "image_file"]
    assert await messages.retrieve(rich.id, thread_id=thread.id) == rich
    assert [one.id async for one in messages.list(thread.id)] == [rich.id, plain.id]
    changed = await messages.update(plain.id, thread_id=thread.id, metadata={"a": "b"})
    assert changed.metadata == {"a": "b"}
    gone = await messages.delete(plain.id, thread_id=thread.id)
    assert gone.object == "thread.message.deleted"
    assert [one.id async for one in messages.list(thread.id)] == [rich.id]


async def test_files_live_and_die(client: openai.AsyncOpenAI) -> None:
    content = b"Lisbon is sunny.\n" * 50_000
    file = await client.files.create(
        file=("notes.txt", content),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (file.filename, file.bytes, file.purpose) == ("notes.txt", len(content), "assistants")
    assert file.expires_at == file.created_at + 3600
    assert (await client.files.content(file.id)).content == content
    assert [one.id async for one in client.files.list(purpose="assistants")] == [file.id]
    gone = await client.files.delete(file.id)
    assert (gone.id, gone.object, gone.deleted) == (file.id, "file", True)
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
        await client.files.retrieve(file.id)


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["gpt-4o", "gpt-4o-mini"]
    assert (await client.models.retrieve("gpt-4o")).object == "model"


async def test_refusals_raise_the_right_class_and_are_not_repeated(server: LiveServer) -> None:
    asked = 0

    async def count(request: object) -> None:
        nonlocal asked
        asked += 1

    async with server.client(max_retries=2) as client:
        client._client.event_hooks = {"request": [count]}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.beta.assistants.create(model="m", temperature=3)
        assert asked == 1
        assert refused.value.code == "decimal_above_max_value"
        assert refused.value.param == "temperature"
        assert refused.value.type == "invalid_request_error"
        assert refused.value.request_id is not None
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.beta.threads.retrieve("thread_x")
        assert asked == 2
        assert unknown.value.body == {
            "message": "No thread found with id 'thread_x'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


async def test_answers_carry_their_request_id(client: openai.AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    assert thread._request_id is not None
    assert thread._request_id.startswith("req_")
