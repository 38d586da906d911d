"""The command line in a process of its own: what it prints, how it refuses, how it stops."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
import psutil  # type: ignore[import-untyped]
import pytest
from tests.api.exchanges import made
from tests.api.streams import frames, names, streaming
from tests.live_server import BETA
from tests.upstream import Upstream, say, stall
from typer.testing import CliRunner

from assistants_server.__main__ import cli
from assistants_server.version import __version__

if sys.platform == "win32":
    pytest.skip("signals are POSIX's", allow_module_level=True)


@pytest.fixture(autouse=True)
def logging_is_put_back() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("assistants_server")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers, root.level, ours.level = before


async def command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "assistants_server",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def outcome(*arguments: str) -> tuple[int, str, str]:
    """Of a command that ends by itself: status, output, errors."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@dataclass
class Served:
    process: asyncio.subprocess.Process
    greeting: str
    origin: str

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.origin, headers=BETA, timeout=30)

    async def ended(self) -> tuple[int | None, str]:
        _, err = await self.process.communicate()
        return self.process.returncode, err.decode()


@asynccontextmanager
async def served(data: Path, *arguments: str) -> AsyncIterator[Served]:
    process = await command("serve", "--port", "0", "--data", str(data), *arguments)
    try:
        assert process.stdout is not None
        greeting = (await process.stdout.readline()).decode()
        found = re.search(r"http://[\w.:]+", greeting)
        if found is None:
            raise AssertionError(await process.communicate())
        yield Served(process, greeting, found[0])
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def refusing(http: httpx2.AsyncClient) -> None:
    """Wait until the server takes no more connections: it has begun to stop."""
    while True:
        try:
            await http.get("/openapi.json")
        except httpx2.TransportError:
            return


def test_the_version() -> None:
    assert outcome("--version") == (0, f"assistants-server {__version__}\n", "")


def test_help_names_every_option() -> None:
    status, out, _ = outcome("serve", "--help")
    assert status == 0
    for option in ("host", "port", "data", "database-url", "upstream-url", "local", "log-level"):
        assert f"--{option}" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "Refusing to listen on 0.0.0.0: this server has no keys"),
        (["--host", "::"], "Refusing to listen on ::"),
        (["--port", "99999"], "--port: Input should be less than or equal to 65535."),
        (["--log-level", "loud"], "There is no log level 'loud'"),
        (["--database-url", "mysql://x"], "Databases of kind 'mysql' are not supported: use "),
        (["--database-url", "nonsense"], "The database URL is not one"),
        (
            ["--database-url", "postgresql://user:secret@127.0.0.1:1/x"],
            "Cannot open the database at 127.0.0.1:1",
        ),
        (["--data", __file__], "Cannot open the database"),
        (["--local-model", "/nowhere.gguf"], "There is no model file /nowhere.gguf."),
        (
            ["--port", "8499", "--upstream-url", "http://localhost:8499/v1"],
            "The models are to be asked at http://localhost:8499/v1, which is this server itself.",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    url = "http://127.0.0.1:9/v1"
    status, out, err = outcome(
        "serve", "--port", "0", "--data", str(tmp_path), "--upstream-url", url, *arguments
    )
    assert (status, out) == (1, "")
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1
    assert "secret" not in err


def test_what_tells_the_clients_does_not_tell_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8400/v1")
    status, _, err = outcome("serve", "--local", "--data", str(tmp_path))
    assert status == 1
    assert "unset OPENAI_BASE_URL" in err


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, err = outcome("serve", "--port", port, "--data", str(tmp_path))
    assert status == 1
    assert err == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"


def test_a_setting_that_is_wrong_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANTS_PORT", "many")
    status, _, err = outcome("serve")
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith("ASSISTANTS_PORT: ")
    monkeypatch.delenv("ASSISTANTS_PORT")
    monkeypatch.setenv("ASSISTANTS_MODELS", "gpt-4o")
    assert outcome("serve") == (1, "", "ASSISTANTS_MODELS: its value is not JSON.\n")


async def test_the_greeting_says_who_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patch:
        patch.setenv("ASSISTANTS_LOCAL_MODEL", "/nowhere.gguf")
        async with served(tmp_path) as server:
            assert "answers with no model yet" in server.greeting
            server.process.terminate()
            assert "There is no model file /nowhere.gguf.\n" in (await server.ended())[1]
    async with served(tmp_path) as server:
        assert "answers with SmolLM2-135M-Instruct, on this machine" in server.greeting
    monkeypatch.setenv("ASSISTANTS_MODELS", '{"*": "small"}')
    async with served(tmp_path, "--upstream-url", "http://127.0.0.1:9/v1") as server:
        assert "answers with small at http://127.0.0.1:9/v1" in server.greeting


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_streams_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    async with (
        Upstream() as upstream,
        served(tmp_path, "--upstream-url", upstream.base_url) as server,
        server.http() as http,
    ):
        assert upstream.base_url in server.greeting
        assert str(tmp_path) in server.greeting
        hold = stall()
        upstream.script(say("Hel", hold, "lo"))
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        secret = {"role": "user", "content": "a secret"}
        body = {"assistant_id": assistant["id"], "thread": {"messages": [secret]}}
        seen, told = [], False
        async with streaming(http, "/v1/threads/runs", body) as response:
            async for frame in frames(response):
                seen.append(frame)
                if names(seen).count("thread.message.delta") == 1 and not told:
                    told = True
                    server.process.send_signal(kind)
                    await refusing(http)
                    hold.release()
        assert names(seen)[-2:] == ["thread.run.completed", "done"]
        status, err = await server.ended()
    assert status == 0
    lines = [orjson.loads(line) for line in err.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[0] == "POST /v1/assistants 200"
    assert messages[-1] == "POST /v1/threads/runs 200"
    assert all(line["request_id"].startswith("req_") for line in lines)
    assert "secret" not in err


async def test_a_run_that_will_not_end_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("ASSISTANTS_DRAIN", "0")
    async with (
        Upstream() as upstream,
        served(tmp_path, "--upstream-url", upstream.base_url) as server,
        server.http() as http,
    ):
        upstream.script(say("Hel", stall(), "lo"))
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        seen = []
        async with streaming(
            http, "/v1/threads/runs", {"assistant_id": assistant["id"]}
        ) as response:
            async for frame in frames(response):
                seen.append(frame)
                if frame[0] == "thread.message.delta":
                    server.process.terminate()
        assert names(seen)[-4:] == [
            "thread.message.incomplete",
            "thread.run.step.failed",
            "thread.run.failed",
            "done",
        ]
        assert "shut down" in seen[-2][1]["last_error"]["message"]
        status, _ = await server.ended()
        assert status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="psutil tells limits on Linux only")
async def test_it_serves_as_many_connections_as_the_system_permits(tmp_path: Path) -> None:
    here = psutil.Process()
    few, most = 256, here.rlimit(psutil.RLIMIT_NOFILE)[1]
    before = here.rlimit(psutil.RLIMIT_NOFILE)
    here.rlimit(psutil.RLIMIT_NOFILE, (few, most))
    try:
        async with served(tmp_path) as server:
            limits = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    finally:
        here.rlimit(psutil.RLIMIT_NOFILE, before)
    assert limits == (most, most)


async def test_the_second_signal_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    async with (
        Upstream() as upstream,
        served(tmp_path, "--upstream-url", upstream.base_url) as server,
        server.http() as http,
    ):
        hold = stall()
        upstream.script(hold + say("never"))
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        await made(http, "/v1/threads/runs", {"assistant_id": assistant["id"]})
        await hold.reached.wait()
        server.process.send_signal(signal.SIGINT)
        await refusing(http)
        server.process.send_signal(signal.SIGINT)
        status, _ = await server.ended()
        assert status == 128 + signal.SIGINT
        await upstream.disconnected()
