"""Folders are layers and the arrows point one way. Read from the source, imported or not."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "packages/assistants-server/src/assistants_server"
PLUGIN = ROOT / "packages/livekit-plugins-assistants/livekit/plugins/assistants"

# A layer (a folder, or a module beside them) and what it may import of the server.
ARROWS = {
    "errors": set[str](),
    "ids": set[str](),
    "version": set[str](),
    "clock": set[str](),
    "settings": set[str](),
    "log": set[str](),
    "measurements": set[str](),
    "asgi_transport": set[str](),
    "domain": {"errors"},
    "store": {"domain", "errors", "ids", "measurements"},
    "providers": {"domain", "clock", "errors", "ids", "settings", "store", "version"},
    "engine": {
        "providers",
        "store",
        "domain",
        "errors",
        "ids",
        "clock",
        "log",
        "measurements",
        "settings",
    },
    "wire": {"domain", "errors", "ids"},
    "routes": {
        "engine",
        "store",
        "wire",
        "domain",
        "providers.contract",
        "errors",
        "ids",
        "clock",
        "log",
        "measurements",
        "settings",
        "version",
    },
    "transfer": {"wire", "store", "domain", "errors"},
}
# These see everything: they build the server or start it.
OUTERMOST = {"app", "commands", "embedded", "tracing", "__main__", "__init__"}

PLUGIN_MAY_IMPORT = {"assistants_server.embedded", "assistants_server.settings"}


def imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Every imported module of a file by its full name, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(above if node.level else []) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            if node.module is None or module == "assistants_server":
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"
            else:
                yield node.lineno, module


def names(path: Path) -> Iterator[tuple[int, str]]:
    """As ``imports``, with the name that is taken out of each module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def package_of(path: Path, root: Path, name: str) -> str:
    return ".".join([name, *path.relative_to(root).parent.parts])


def modules(root: Path, name: str) -> list[tuple[Path, str]]:
    return [(path, package_of(path, root, name)) for path in sorted(root.rglob("*.py"))]


def violations(layer: str, allowed: set[str]) -> list[str]:
    found = []
    for path, package in modules(SERVER, "assistants_server"):
        here = path.relative_to(SERVER).parts[0].removesuffix(".py")
        if here != layer:
            continue
        for line, module in imports(path, package):
            if not module.startswith("assistants_server."):
                continue
            target = module.removeprefix("assistants_server.")
            if target.split(".")[0] in {layer, *allowed}:
                continue
            if any(target == name or target.startswith(name + ".") for name in allowed):
                continue
            found.append(f"{path.relative_to(ROOT)}:{line}: {layer} must not import {target}")
    return found


@pytest.mark.parametrize("layer", sorted(ARROWS))
def test_arrows_point_one_way(layer: str) -> None:
    assert violations(layer, ARROWS[layer]) == []


def test_every_layer_has_its_arrows() -> None:
    layers = {
        path.relative_to(SERVER).parts[0].removesuffix(".py") for path in SERVER.rglob("*.py")
    }
    assert layers == set(ARROWS) | OUTERMOST


def test_the_store_alone_speaks_sql() -> None:
    """Other layers may name the connection that a store function is given, and nothing more."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sorted(SERVER.rglob("*.py"))
        if path.relative_to(SERVER).parts[0] != "store"
        for line, module in names(path)
        if module.split(".")[0] == "sqlalchemy" and module != "sqlalchemy.Connection"
    ]
    assert found == []


def test_each_event_and_frame_is_built_in_one_place() -> None:
    """An object's event where it is announced; a frame of the stream where it is rendered."""
    made = {
        (call.func.id, path.relative_to(SERVER).as_posix())
        for path in SERVER.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    assert {path for name, path in made if name == "ObjectEvent"} == {"engine/announcements.py"}
    framed = re.compile(r'"event: |"object": "thread\.(message|run\.step)\.delta"')
    framing = {
        path.relative_to(SERVER).as_posix()
        for path in SERVER.rglob("*.py")
        if framed.search(path.read_text())
    }
    assert framing == {"wire/stream.py"}


def test_the_domain_is_standard_library() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path, package in modules(SERVER / "domain", "assistants_server.domain")
        for line, module in imports(path, package)
        if not module.startswith("assistants_server.")
        and module.split(".")[0] not in sys.stdlib_module_names
    ]
    assert found == []


def test_the_server_knows_nothing_of_livekit() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, package in modules(SERVER, "assistants_server")
        for line, module in imports(path, package)
        if module.split(".")[0] == "livekit"
    ]
    assert found == []


def test_the_plugin_reaches_the_server_through_the_sdk_alone() -> None:
    """Nothing of the server but starting one inside the process."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path, package in modules(PLUGIN, "livekit.plugins.assistants")
        for line, module in imports(path, package)
        if module.split(".")[0] == "assistants_server" and module not in PLUGIN_MAY_IMPORT
    ]
    assert found == []
