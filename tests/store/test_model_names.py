"""The model names of a project, in the store and as the engine asks for them."""

from __future__ import annotations

from assistants_server.engine.model_names import ModelNames
from assistants_server.store import model_names as store
from assistants_server.store.database import Database


async def test_names_are_set_replaced_and_removed_in_one_project(database: Database) -> None:
    await database.write(store.add, "acme", {"gpt-4": "a", "*": "b"})
    await database.write(store.add, "other", {"gpt-4": "c"})
    await database.write(store.add, "acme", {"gpt-4": "d"})
    maps = {"acme": {"*": "b", "gpt-4": "d"}, "other": {"gpt-4": "c"}}
    assert await database.read(store.read) == maps
    assert await database.write(store.remove, "acme", ["gpt-4", "gpt-5"]) == ["gpt-5"]
    assert await database.read(store.read) == maps, "a refused removal changes nothing"
    assert await database.write(store.remove, "acme", ["gpt-4", "*"]) == []
    assert await database.read(store.read) == {"other": {"gpt-4": "c"}}


async def test_the_project_is_asked_before_the_server(database: Database) -> None:
    names = ModelNames(database, {"gpt-4": "server's", "house": "server's", "*": "any"})
    await database.write(store.add, "acme", {"gpt-4": "house"})
    assert names.resolve("acme", "gpt-4") == "server's", "not read yet"
    await names.refresh()
    told = {model: names.resolve("acme", model) for model in ("gpt-4", "house", "x")}
    assert told == {"gpt-4": "house", "house": "server's", "x": "any"}
    assert names.resolve("other", "gpt-4") == "server's"
    assert (names.listed("acme"), names.takes_any("acme")) == (["gpt-4", "house"], True)


async def test_a_projects_star_comes_before_what_the_server_says(database: Database) -> None:
    names = ModelNames(database, {"gpt-4": "server's"})
    await database.write(store.add, "acme", {"*": "acme's"})
    await names.refresh()
    assert [names.resolve("acme", "gpt-4"), names.resolve("other", "gpt-4")] == [
        "acme's",
        "server's",
    ]
    assert (names.takes_any("acme"), names.takes_any("other")) == (True, False)


async def test_without_a_map_a_name_is_itself(database: Database) -> None:
    names = ModelNames(database, {})
    await names.refresh()
    assert names.resolve("default", "gpt-4") == "gpt-4"
    assert (names.listed("default"), names.takes_any("default")) == ([], False)
