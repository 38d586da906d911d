"""Images: frames and data URLs are uploaded once, plain URLs pass, and clean-up is a choice."""

from __future__ import annotations

import base64
import io

import httpx2
import pytest
from livekit.agents import APIConnectionError, APIConnectOptions
from livekit.agents.llm import ChatContext, ChatMessage, ImageContent
from PIL import Image
from tests.live_server import LiveServer
from tests.plugin.agents import ADD, RUN, Caller
from tests.upstream import Upstream, stall

from livekit import rtc
from livekit.plugins.assistants import OnFileUploadedInfo, build_oai_message

UPLOAD = "POST files"


def png() -> str:
    data = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(data, format="PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def frame() -> rtc.VideoFrame:
    return rtc.VideoFrame(4, 4, rtc.VideoBufferType.RGBA, b"\x80" * 64)


def looking(*images: ImageContent, text: str = "what is this?") -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content=[text, *images])
    return context


def seen_by_the_model(upstream: Upstream) -> list[str]:
    last = upstream.requests[-1].messages
    return [
        part["image_url"]["url"]
        for message in last
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


@pytest.mark.parametrize("kind", ["frame", "data"])
async def test_an_image_is_uploaded_once(
    server: LiveServer, extensions: bool | None, upstream: Upstream, kind: str
) -> None:
    told: list[OnFileUploadedInfo] = []
    image = ImageContent(image=frame() if kind == "frame" else png(), inference_detail="low")
    options = {"on_file_uploaded": told.append}
    async with Caller(server, extensions=extensions, options=options) as caller:
        context = looking(image)
        answer = await caller.llm.chat(chat_ctx=context).collect()
        context.add_message(role="assistant", content=answer.text, extra=answer.extra)
        context.add_message(role="user", content="and now?")
        await caller.llm.chat(chat_ctx=context).collect()
        assert caller.wire.requests.count(UPLOAD) == 1
    (info,) = told
    assert info.type == "image"
    assert info.original_file is image
    assert info.openai_file_object.purpose == "vision"
    (url,) = seen_by_the_model(upstream)
    assert url.startswith("data:image/jpeg" if kind == "frame" else "data:image/png")
    part = build_oai_message(context.messages()[0])["content"][1]
    assert part["image_file"] == {"file_id": info.openai_file_object.id, "detail": "low"}


async def test_a_url_is_passed_on(caller: Caller, upstream: Upstream) -> None:
    await caller.llm.load_chat_ctx()
    with caller.counted() as requests:
        image = ImageContent(image="https://example.com/cat.png")
        await caller.llm.chat(chat_ctx=looking(image)).collect()
    assert requests == ([RUN] if caller.extensions is None else [ADD, RUN])
    assert seen_by_the_model(upstream) == ["https://example.com/cat.png"]


async def test_several_images_of_a_turn_and_its_words_keep_their_order(
    caller: Caller, upstream: Upstream
) -> None:
    context = ChatContext.empty()
    context.add_message(
        role="user",
        content=[ImageContent(image=png()), "left", ImageContent(image=frame()), "right"],
    )
    await caller.llm.chat(chat_ctx=context).collect()
    (message,) = [m for m in upstream.requests[-1].messages if m["role"] == "user"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"] * 2


async def test_what_is_no_image_is_left_out(caller: Caller, upstream: Upstream) -> None:
    broken = ImageContent(image="data:text/plain;base64,aGVsbG8=")
    answer = await caller.llm.chat(chat_ctx=looking(broken)).collect()
    assert answer.text == "what is this?"
    only = await caller.llm.chat(chat_ctx=looking(broken, text="")).collect()
    assert "could not be read" in only.text


async def files(server: LiveServer) -> int:
    async with server.http() as http:
        return len((await http.get("/v1/files")).json()["data"])


async def test_a_listener_that_fails_does_not_end_the_turn(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(info: OnFileUploadedInfo) -> None:
        raise RuntimeError("the listener is broken")

    async with Caller(server, options={"on_file_uploaded": fails}) as caller:
        answer = await caller.llm.chat(chat_ctx=looking(ImageContent(image=png()))).collect()
    assert answer.text == "what is this?"
    assert "on_file_uploaded failed" in caplog.text


@pytest.mark.parametrize("extensions", [None])
async def test_an_upload_that_fails_ends_the_others(caller: Caller) -> None:
    """Nothing goes on uploading for a turn that is over."""
    await caller.llm.load_chat_ctx()
    hold = stall()
    uploads = 0
    ended: list[bool] = []

    async def answered(request: httpx2.Request) -> None:
        nonlocal uploads
        if request.url.path.endswith("/files"):
            uploads += 1
            if uploads == 2:
                raise httpx2.ReadError("the line is dead", request=request)
            try:
                await hold()
            finally:
                ended.append(True)

    caller.wire.answered = answered
    once = APIConnectOptions(max_retry=0)
    images = ImageContent(image=png()), ImageContent(image=png())
    with pytest.raises(APIConnectionError):
        await caller.llm.chat(chat_ctx=looking(*images), conn_options=once).collect()
    assert ended == [True]


async def test_files_go_with_their_message(server: LiveServer, extensions: bool | None) -> None:
    options = {"delete_files": "with_message"}
    async with Caller(server, extensions=extensions, options=options) as caller:
        context = looking(ImageContent(image=png()))
        answer = await caller.llm.chat(chat_ctx=context).collect()
        assert await files(server) == 1
        context.items.pop()
        context.add_message(role="user", content="never mind")
        context.items.append(
            ChatMessage(role="assistant", content=[answer.text], extra=answer.extra)
        )
        await caller.llm.chat(chat_ctx=looking(text="else")).collect()
    assert await files(server) == 0


async def test_files_go_with_an_edit_that_takes_their_picture_away(
    server: LiveServer, extensions: bool | None
) -> None:
    options = {"delete_files": "with_message"}
    async with Caller(server, extensions=extensions, options=options) as caller:
        context = looking(ImageContent(image=png()), ImageContent(image=png()))
        await caller.llm.chat(chat_ctx=context).collect()
        (item,) = context.messages()
        item.content.pop()
        await caller.llm.sync(context)
        item.content.pop()
        await caller.llm.chat(chat_ctx=context).collect()
    assert await files(server) == 0


@pytest.mark.parametrize(("choice", "left"), [("never", 1), ("on_close", 0)])
async def test_files_at_the_end(server: LiveServer, choice: str, left: int) -> None:
    async with Caller(server, options={"delete_files": choice}) as caller:
        await caller.llm.chat(chat_ctx=looking(ImageContent(image=png()))).collect()
    assert await files(server) == left
