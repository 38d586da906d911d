"""Folders are layers and the arrows point one way. Read from the source, imported or not."""

from __future__ import annotations

import ast
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
