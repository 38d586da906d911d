"""Objects as people dumped them from OpenAI's API, and what is wrong with some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transfer.projects import NOW, exported, fill, imported, lines, page, said, texts_of

from assistants_server import errors
from assistants_server.domain.drafts import RunDraft
from assistants_server.domain.records import Assistant, Page, Thread
from assistants_server.store import arrivals, assistants, messages, run_creation, threads
from assistants_server.store.database import Database
from assistants_server.store.run_creation import Claim
from assistants_server.transfer.contents import Contents, ImportFault

ASSISTANT = {
    "id": "asst_1",
    "object": "assistant",
    "created_at": NOW,
    "name": None,
    "description": None,
    "model": "gpt-4-turbo",
    "instructions": None,
    "tools": [{"type": "code_interpreter"}, {"type": "retrieval"}],
    "file_ids": [],
    "top_p": 1,
    "temperature": None,
    "tool_resources": {"code_interpreter": {"file_ids": None}},
    "metadata": None,
    "response_format": None,
}
INDENT = orjson.OPT_INDENT_2
THREAD = {"id": "thread_1", "object": "thread", "created_at": NOW, "metadata": None}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return tmp_path / "dump.json"


@pytest.mark.parametrize(
    "content",
    [
        lines(THREAD, said(1, NOW), said(2, NOW + 1), said(3, NOW + 1)),
        lines(page(THREAD), page(said(1, NOW)), page(said(2, NOW + 1), said(3, NOW + 1))),
        lines(page(said(3, NOW + 1), said(2, NOW + 1), said(1, NOW))),
        orjson.dumps(page(said(3, NOW + 1), said(2, NOW + 1), said(1, NOW))),
        orjson.dumps([THREAD, page(said(3, NOW + 1), said(2, NOW + 1), said(1, NOW))]),
        orjson.dumps(
            [said(1, NOW), said(2, NOW + 1), said(3, NOW + 1)], option=orjson.OPT_INDENT_2
        ),
        b"\xef\xbb\xbf\r\n" + lines(said(1, NOW), said(2, NOW + 1), said(3, NOW + 1)),
        # Overlapping pages.
        lines(page(said(3, NOW + 1), said(2, NOW + 1)), page(said(2, NOW + 1), said(1, NOW))),
        # One second: the newest first, as lists are.
        lines(page(said(3, NOW), said(2, NOW), said(1, NOW))),
        # One second, but the file's other threads say that it goes forwards.
        lines(
            said(1, NOW),
            said(2, NOW),
            said(3, NOW),
            said(8, NOW, "thread_2"),
            said(9, NOW + 1, "thread_2"),
        ),
        # One second in an export of ours.
        lines(
            {"object": "assistants.export", "version": 1, "project": "x"},
            said(1, NOW),
            said(2, NOW),
            said(3, NOW),
        ),
    ],
)
async def test_every_way_of_dumping_a_thread(
    database: Database, dump: Path, content: bytes
) -> None:
    fill(dump, content)
    await imported(database, "p", dump)
    assert await texts_of(database, "p", "thread_1") == ["1", "2", "3"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moments=st.lists(st.integers(0, 3), min_size=2, max_size=8).filter(
        lambda moments: len(set(moments)) > 1
    ),
    size=st.integers(1, 4),
    newest_first=st.booleans(),
)
def test_messages_stand_in_the_order_of_the_conversation(
    tmp_path: Path, moments: list[int], size: int, newest_first: bool
) -> None:
    spoken = [said(number, moment) for number, moment in enumerate(sorted(moments))]
    listed = spoken[::-1] if newest_first else spoken
    dump = tmp_path / "dump.jsonl"
    fill(
        dump, lines(*(page(*listed[start : start + size]) for start in range(0, len(listed), size)))
    )
    contents = Contents()
    contents.read([dump], progress=lambda count: None)
    places = contents.in_order(list(contents.messages["thread_1"].values()))
    assert sorted(contents.messages["thread_1"].values(), key=places.index) == places
    by_place = {place: name for name, place in contents.messages["thread_1"].items()}
    contents.close()
    assert [by_place[place] for place in places] == [one["id"] for one in spoken]


async def test_pages_of_several_files_are_one_thread(database: Database, tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    fill(first, lines(page(said(3, NOW + 1), said(2, NOW))))
    fill(second, lines(page(said(1, NOW), said(0, NOW - 1))))
    await imported(database, "p", first, second)
    assert await texts_of(database, "p", "thread_1") == ["0", "1", "2", "3"]


async def test_an_assistant_with_nulls(database: Database, dump: Path) -> None:
    fill(dump, lines(ASSISTANT))
    await imported(database, "p", dump)
    kept = await database.read(assistants.get, "p", "asst_1")
    assert (kept.temperature, kept.metadata, kept.response_format) == (1.0, {}, "auto")
    assert kept.tools == [{"type": "code_interpreter"}, {"type": "file_search"}]


async def test_messages_of_version_1(database: Database, dump: Path) -> None:
    old = said(1, NOW, file_ids=["file-1"], metadata=None)
    half = said(2, NOW + 1, status="in_progress", role="assistant", incomplete_details=None)
    cut = said(3, NOW + 2, status="incomplete", incomplete_details={"reason": "max_tokens"})
    bare = said(4, NOW + 3, content="hello", attachments=None, status=None)
    fill(dump, lines(old, half, cut, bare))
    await imported(database, "p", dump)
    found = (await database.read(messages.list_page, "p", "thread_1", Page(order="asc"))).items
    assert [message.status for message in found] == [
        "completed",
        "incomplete",
        "incomplete",
        "completed",
    ]
    assert [message.incomplete_reason for message in found] == [
        None,
        "run_failed",
        "max_tokens",
        None,
    ]
    assert found[0].attachments == [{"file_id": "file-1", "tools": [{"type": "file_search"}]}]
    assert found[0].completed_at == NOW
    assert found[3].content[0]["text"] == {"value": "hello", "annotations": []}


async def test_a_file_without_its_bytes_is_left_out(database: Database, dump: Path) -> None:
    file = {"object": "file", "id": "file-1", "created_at": 1, "filename": "a", "purpose": "x"}
    fill(dump, lines({**file, "bytes": 3}, {**file, "id": "file-2", "bytes": 0}))
    tally = await imported(database, "p", dump)
    assert (tally.stored, tally.without_bytes) == ({"file": 1}, 1)


CONTENT = {"object": "file.content", "file_id": "file-1", "number": 0, "data": "eHg="}
FILE = {
    "object": "file",
    "id": "file-1",
    "created_at": 1,
    "filename": "a",
    "bytes": 2,
    "purpose": "x",
}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ([b"{"], "line 3: not JSON"),
        ([b"\xff"], "line 3: not JSON"),
        ([3], "line 3: expected an object or a list of objects."),
        ([{}], 'line 3: it has no "object" that says what it is.'),
        ([{"object": "thread.run"}], "line 3: objects of kind 'thread.run' cannot be imported."),
        ([{**THREAD, "id": "x"}], "line 3: thread, id: String should match pattern"),
        ([{**THREAD, "id": "thread_" + "x" * 60}], "line 3: thread, id: String should have at"),
        ([{**THREAD, "created_at": -1}], "line 3: thread, created_at: Input should be greater"),
        ([{**THREAD, "metadata": {"a": "\0"}}], "line 3: text holds a NUL character."),
        (
            [{**THREAD, "metadata": {"a": 1}}],
            "line 3: thread, metadata, a: Input should be",
        ),
        ([said(9, NOW, role="system")], "line 3: thread.message, role: Input should be 'user'"),
        ([said(9, NOW, content=[{"type": "audio"}])], "line 3: thread.message, content, 0: Input"),
        (
            [said(9, NOW, content=[{"type": "refusal", "refusal": "no"}])],
            "line 3: thread.message: a user message holds no refusal.",
        ),
        ([said(1, NOW, "thread_2")], "line 3: the message msg_1 stood in thread_1 before."),
        (
            [{**ASSISTANT, "tools": [{"type": "x"}]}],
            "line 3: assistant, tools, 0: a tool's type",
        ),
        (
            [{**ASSISTANT, "tools": [{"type": "function"}]}],
            "line 3: assistant, tools, 0: a function tool needs a function with a name.",
        ),
        ([{**ASSISTANT, "temperature": 3}], "line 3: assistant, temperature: Input should be less"),
        ([CONTENT], "line 3: content of file-1 must follow its file."),
        ([FILE, {**CONTENT, "number": 1}], "line 4: content 1 of file-1 is out of order."),
        ([FILE, {**CONTENT, "data": "?"}], "line 4: file.content: data is not base64."),
        (
            [FILE, {**CONTENT, "data": "eA=="}],
            "line 3: this file has 2 bytes, but 1 bytes of content follow.",
        ),
        (
            [{"object": "assistants.export", "version": 2}],
            "line 3: an export of version 2 is not known here.",
        ),
    ],
)
async def test_a_fault_in_the_last_line_leaves_the_database_untouched(
    database: Database, dump: Path, last: list[Any], reason: str
) -> None:
    before = await exported(database, "p")
    end = b"".join(one + b"\n" if isinstance(one, bytes) else lines(one) for one in last)
    fill(dump, lines(ASSISTANT, said(1, NOW)) + end)
    with pytest.raises(ImportFault) as fault:
        await imported(database, "p", dump)
    assert str(fault.value).startswith(f"{dump}, {reason}")
    assert await exported(database, "p") == before


@pytest.mark.parametrize(
    ("content", "line"),
    [(b'{"object": "thread"\n{"id": 1}\n', 2), (b'[\n{"a": 1},\n{]\n', 3), (b"nonsense", 1)],
)
async def test_a_document_that_is_broken_names_its_line(
    database: Database, dump: Path, content: bytes, line: int
) -> None:
    fill(dump, content)
    with pytest.raises(ImportFault, match=f"line {line}: not JSON"):
        await imported(database, "p", dump)


async def test_a_file_that_is_not_there(database: Database, tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ImportFault, match=f"^{path}: "):
            await imported(database, "p", path)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([ASSISTANT], "line 3: the id asst_1 belongs to another project already."),
        ([THREAD], "line 3: the id thread_1 belongs to another project already."),
        ([said(1, NOW)], "line 3: the id thread_1 belongs to another project already."),
        (
            [said(1, NOW, "thread_9")],
            "line 3: the message msg_1 belongs to another thread already.",
        ),
        ([FILE, CONTENT], "line 3: the id file-1 belongs to another project already."),
    ],
)
async def test_ids_of_another_project_are_refused(
    database: Database, dump: Path, objects: list[Any], reason: str
) -> None:
    fill(dump, lines(ASSISTANT, FILE, CONTENT, THREAD, said(1, NOW)))
    await imported(database, "theirs", dump)
    theirs = await exported(database, "theirs")
    fill(dump, lines({**ASSISTANT, "id": "asst_2"}, said(2, NOW, "thread_2"), *objects))
    with pytest.raises(ImportFault) as fault:
        await imported(database, "mine", dump)
    assert str(fault.value) == f"{dump}, {reason}"
    assert (await exported(database, "mine")).count(b"\n") == 1
    assert await exported(database, "theirs") == theirs


async def test_what_is_there_is_left_as_it_is(database: Database, dump: Path) -> None:
    fill(dump, lines(THREAD, said(1, NOW)))
    await imported(database, "p", dump)
    await database.write(
        threads.update,
        "p",
        "thread_1",
        {"metadata": {"a": "b"}},
        [],
        now=1,
        unstored=lambda run_id: None,
    )
    fill(dump, lines(THREAD, said(1, NOW, content="other"), said(2, NOW + 1)))
    tally = await imported(database, "p", dump)
    assert (tally.stored, tally.present) == ({"message": 1}, 2)
    assert (await database.read(threads.get, "p", "thread_1")).metadata == {"a": "b"}
    assert await texts_of(database, "p", "thread_1") == ["1", "2"]


async def test_a_thread_with_an_active_run_takes_no_messages(
    database: Database, dump: Path
) -> None:
    assistant = Assistant(
        id="asst_1", project_id="p", created_at=NOW, model="m", instructions="Be brief."
    )
    await database.write(arrivals.add_assistant, assistant)
    await database.write(arrivals.add_thread, Thread(id="thread_1", project_id="p", created_at=NOW))
    await database.write(
        run_creation.create,
        "p",
        "thread_1",
        RunDraft(assistant_id="asst_1"),
        now=NOW,
        claim=Claim(owner="w", lease_until=NOW + 10, expires_at=NOW + 600),
        unstored=lambda run_id: None,
    )
    fill(dump, lines(said(1, NOW)))
    with pytest.raises(errors.BadRequest, match="while a run run_"):
        await imported(database, "p", dump)
