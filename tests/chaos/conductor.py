"""Puts servers, database, model and callers together, breaks them, and audits what is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai

from . import audit
from .audit import Audit, Fault
from .caller import Caller
from .ledger import Ledger
from .processes import Postgres, Server, model
from .proxy import Proxy

SETUPS = ("sqlite", "shared", "postgresql", "replicas")
"""``shared``: two processes on one SQLite file, as agent processes with embedded servers are."""
LEASE = 3.0
EXPIRY = 12.0
WORK_BETWEEN_FAULTS = 30  # answers
PATIENCE = 60


@dataclass
class Report:
    setup: str
    seed: int
    ledger: Ledger
    complaints: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    settled_seconds: float = 0.0

    def __str__(self) -> str:
        ledger = self.ledger
        ended = sum(run.statuses[-1] == "completed" for run in ledger.runs.values())
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.counts.items()))
        refused = ", ".join(f"{n} × {code}" for code, n in sorted(ledger.refusals.items()))
        lines = [
            f"{self.setup}, seed {self.seed}: {len(self.complaints)} complaints",
            f"  {ledger.answers} answers, {ledger.unanswered} without one; refused: {refused}",
            f"  {len(ledger.threads)} threads, {len(ledger.written)} messages",
            f"  {len(ledger.runs)} runs ({ended} told as completed), {len(ledger.said)} replies",
            f"  {len(ledger.files)} files",
            f"  faults: {faults}; all runs settled {self.settled_seconds:.1f} s after the last",
            *(f"  {complaint}" for complaint in self.complaints[:50]),
        ]
        return "\n".join(lines)


class World:
    """One setup under load."""

    def __init__(self, servers: list[Server], postgres: Postgres | None, seed: int) -> None:
        self.servers = servers
        self.postgres = postgres
        self.faults: list[Fault] = []
        self.counts: dict[str, int] = {}
        self._random = random.Random(f"{seed} faults")

    async def break_things(self, seconds: float, ledger: Ledger) -> None:
        """One fault after the other; everything runs when this returns.

        A fault is to hit work: on a slow machine it waits until there has been some.
        """
        until = time.monotonic() + seconds
        while True:
            enough = ledger.answers + WORK_BETWEEN_FAULTS
            await asyncio.sleep(self._random.uniform(0.3, 3))
            while ledger.answers < enough and time.monotonic() < until + PATIENCE:
                await asyncio.sleep(0.1)
            if time.monotonic() > until:
                return
            await self.one_fault()

    async def one_fault(self) -> None:
        server = self._random.choice(self.servers)
        kinds: list[tuple[str, Callable[[], Awaitable[None]], int]] = [
            ("kill -9", lambda: self._kill(server), 5),
            ("SIGTERM", lambda: self._stop(server), 1),
            ("freeze", lambda: server.freeze(self._random.uniform(0.5, LEASE * 1.7)), 1),
        ]
        if len(self.servers) > 1:
            kinds.append(("kill -9 of all", self._kill_all, 1))
        if self.postgres is not None:
            kinds.append(("kill -9 of PostgreSQL", self._crash_postgres, 3))
        name, fault, _ = self._random.choices(kinds, [odds for *_, odds in kinds])[0]
        self.counts[name] = self.counts.get(name, 0) + 1
        begin = time.monotonic()
        await fault()
        self.faults.append((begin, time.monotonic()))

    async def _kill(self, server: Server) -> None:
        await server.kill()
        await asyncio.sleep(self._random.choice((0, 0, 0.5, LEASE + 1)))
        await server.start()

    async def _kill_all(self) -> None:
        for server in self.servers:
            await server.kill()
        await asyncio.gather(*(server.start() for server in self.servers))

    async def _stop(self, server: Server) -> None:
        await server.stop()
        await server.start()

    async def _crash_postgres(self) -> None:
        assert self.postgres is not None
        await self.postgres.crash()
        await asyncio.sleep(self._random.choice((0, 0.5, LEASE + 1)))
        await self.postgres.start()

    async def last_kill(self) -> None:
        """Under load, all at once; only the first comes back."""
        begin = time.monotonic()
        for server in self.servers:
            await server.kill()
        await self.servers[0].start()
        self.faults.append((begin, time.monotonic()))


@asynccontextmanager
async def world(
    setup: str, folder: Path, *, seed: int, expiry: float
) -> AsyncIterator[tuple[World, str, str]]:
    """The setup running: its world, the URL to call and the URL of the database."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(model())
        postgres = None
        if setup in ("sqlite", "shared"):
            database = f"sqlite:///{folder / 'assistants.db'}"
        else:
            postgres = await asyncio.to_thread(Postgres, folder / "postgres")
            stack.callback(postgres.close)
            database = postgres.url
        environment = {
            "ASSISTANTS_DATABASE_URL": database,
            "ASSISTANTS_DATA": str(folder),
            "ASSISTANTS_UPSTREAM_URL": upstream,
            "ASSISTANTS_UPSTREAM_KEY": "none",
            "ASSISTANTS_LEASE": str(LEASE),
            "ASSISTANTS_RUN_EXPIRY": str(expiry),
            "ASSISTANTS_DRAIN": "1",
        }
        count = 2 if setup in ("shared", "replicas") else 1
        servers = [
            Server(f"server {number}", environment, folder / f"server{number}.log")
            for number in range(count)
        ]
        for server in servers:
            stack.push_async_callback(server.kill)
            await server.start()
        url = servers[0].base_url
        if count > 1:
            proxy = await stack.enter_async_context(Proxy([server.port for server in servers]))
            url = f"http://127.0.0.1:{proxy.port}/v1"
        yield World(servers, postgres, seed), url, database


async def perform(
    setup: str,
    folder: Path,
    *,
    seed: int,
    seconds: float,
    callers: int = 8,
    expiry: float = EXPIRY,
) -> Report:
    """Load and faults for so long, then the audit."""
    ledger = Ledger()
    async with world(setup, folder, seed=seed, expiry=expiry) as (around, url, database):
        finished = asyncio.Event()
        work = [
            asyncio.create_task(Caller(number, seed, url, ledger).work(finished))
            for number in range(callers)
        ]
        try:
            await around.break_things(seconds, ledger)
            await around.last_kill()
            killed = time.monotonic()
            finished.set()
            await asyncio.gather(*work)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        async with contextlib.aclosing(audit.unsettled(database)) as counts:
            async for left in counts:
                if not left:
                    break
                if time.monotonic() - killed > expiry + 2 * LEASE + 30:
                    return Report(setup, seed, ledger, [f"never settled: {left}"])
        settled = time.monotonic() - killed
        client = openai.AsyncOpenAI(
            base_url=around.servers[0].base_url, api_key="chaos", max_retries=0, timeout=30
        )
        async with client:
            await _end_waiting(client, ledger)
            auditor = Audit(ledger, client, around.faults)
            complaints = await auditor.complaints()
            assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Obey.")
            complaints += await auditor.locks(assistant.id)
        complaints += await audit.inside(database, ledger)
        return Report(setup, seed, ledger, complaints, around.counts, settled)


async def _end_waiting(client: openai.AsyncOpenAI, ledger: Ledger) -> None:
    """Runs that wait for a client that is done end when they expire; we have no time for that."""
    for thread_id in ledger.threads:
        runs = await client.beta.threads.runs.list(thread_id, limit=1)
        for run in runs.data:
            if run.status == "requires_action":
                with contextlib.suppress(openai.BadRequestError):
                    await client.beta.threads.runs.cancel(run.id, thread_id=thread_id)
