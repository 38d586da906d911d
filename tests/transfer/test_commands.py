"""``export`` and ``import`` as commands: pipes, files, sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.test_command_line import outcome
from tests.transfer.projects import NOW, fill, lines, said

from assistants_server.commands import transfer

EXPORT = {"object": "assistants.export", "version": 1, "project": "default"}
THREAD = {"id": "thread_1", "object": "thread", "created_at": NOW}


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    return "--data", str(tmp_path / "data")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.jsonl"
    fill(path, lines(said(1, NOW), said(2, NOW + 1), said(3, NOW + 2, "thread_2")))
    return path


def test_an_import_says_what_it_did(data: tuple[str, str], dump: Path) -> None:
    assert outcome("import", str(dump), *data) == (
        0,
        "Imported 2 threads, 3 messages.\n",
        "",
    )
    assert outcome("import", str(dump), *data) == (
        0,
        "Imported nothing. 5 objects had been there already.\n",
        "",
    )


def test_progress_is_told_now_and_then(
    data: tuple[str, str], dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_EVERY", 2)
    _, _, told = outcome("import", str(dump), *data)
    assert told.splitlines() == ["checking: 2 objects", "storing: 2 objects", "storing: 4 objects"]
    _, _, told = outcome("export", *data)
    assert told.splitlines() == [
        "exporting: 2 objects",
        "exporting: 4 objects",
        "Exported 5 objects.",
    ]


def test_an_export_goes_through_a_pipe_or_into_a_file(
    data: tuple[str, str], dump: Path, tmp_path: Path
) -> None:
    outcome("import", str(dump), "--project", "acme", *data)
    status, out, err = outcome("export", "--project", "acme", *data)
    assert (status, err) == (0, "Exported 5 objects.\n")
    file = tmp_path / "out" / "acme.jsonl"
    file.parent.mkdir()
    assert outcome("export", "--project", "acme", "--out", str(file), *data)[:2] == (0, "")
    assert file.read_text() == out
    assert list(file.parent.iterdir()) == [file]
    elsewhere = ("--data", str(tmp_path / "elsewhere"))
    assert outcome("import", str(file), "--project", "acme", *elsewhere)[0] == 0
    assert outcome("export", "--project", "acme", *elsewhere)[1] == out
    _, some, err = outcome("export", "--project", "acme", "--thread", "thread_2", *data)
    assert err == "Exported 2 objects.\n"
    assert some.count("thread_1") == 0
    assert outcome("export", *data)[2] == "Exported 0 objects.\n"


def test_a_failed_export_leaves_no_file(data: tuple[str, str], dump: Path, tmp_path: Path) -> None:
    outcome("import", str(dump), *data)
    folder = tmp_path / "out"
    folder.mkdir()
    out = ("--out", str(folder / "x.jsonl"))
    ids = ("--thread", "thread_1", "--thread", "thread_x")
    assert outcome("export", *ids, *out, *data) == (
        1,
        "",
        "No thread found with id 'thread_x'.\n",
    )
    assert list(folder.iterdir()) == []


def test_what_cannot_be_done_is_one_sentence(
    data: tuple[str, str], dump: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    fill(broken, lines(THREAD) + b"nonsense\n")
    status, out, err = outcome("import", str(dump), str(broken), *data)
    assert (status, out) == (1, "")
    assert err.startswith(f"{broken}, line 2: not JSON (")
    assert len(err.splitlines()) == 1
    assert outcome("export", *data)[2] == "Exported 0 objects.\n"
    none = tmp_path / "none.jsonl"
    assert outcome("import", str(none), *data) == (1, "", f"{none}: No such file or directory.\n")
    where = tmp_path / "no" / "x.jsonl"
    assert outcome("export", "--out", str(where), *data) == (
        1,
        "",
        f"Cannot write {where}: No such file or directory.\n",
    )
    assert outcome("export", "--project", "a/b", *data)[0] == 1


def test_the_pieces_of_a_file_are_not_counted_as_objects(
    data: tuple[str, str], tmp_path: Path
) -> None:
    file = {
        "id": "file-1",
        "object": "file",
        "purpose": "assistants",
        "filename": "a.txt",
        "bytes": 2,
        "created_at": NOW,
        "expires_at": None,
    }
    pieces = [
        {"object": "file.content", "file_id": "file-1", "number": number, "data": "YQ=="}
        for number in (0, 1)
    ]
    path = tmp_path / "file.jsonl"
    fill(path, lines(EXPORT, file, *pieces))
    assert outcome("import", str(path), *data) == (0, "Imported 1 file.\n", "")
    assert outcome("export", *data)[2] == "Exported 1 object.\n"


@pytest.mark.parametrize(
    "command",
    [
        ["export"],
        ["prune", "--older-than", "1d"],
        ["keys", "list"],
        ["keys", "revoke", "key_x"],
        ["models", "list"],
        ["models", "unset", "x"],
    ],
)
def test_what_reads_or_deletes_objects_makes_no_database_where_there_is_none(
    command: list[str], data: tuple[str, str]
) -> None:
    status, out, err = outcome(*command, *data)
    assert (status, out) == (1, "")
    assert err == (
        f"There is no database at {data[1]}; --data or --database-url names another place.\n"
    )
    assert not Path(data[1]).exists()
