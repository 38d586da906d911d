"""Settings, read once. Every one is an environment variable ``ASSISTANTS_…``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from typing_extensions import Self


def _default_data() -> Path:
    home = os.environ.get("ASSISTANTS_HOME")
    return Path(home) if home else platformdirs.user_data_path("assistants")


class UnusableSetting(Exception):
    """A value cannot be one. The message is a sentence that names its option or variable."""


class Settings(BaseSettings):
    """How a server is to run. Frozen: a change is a new server."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANTS_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8400, ge=0, le=65535, description="Port to listen on; 0 picks a free one."
    )
    data: Path = Field(
        default_factory=_default_data,
        description="Folder of the SQLite database and cached weights. `ASSISTANTS_HOME` moves it.",
    )
    database_url: str | None = Field(
        default=None,
        description="`postgresql://…` or `sqlite:////path/of/a/file` (four slashes; three: from "
        "the current folder); unset: `assistants.db` in the data folder.",
    )
    upstream_url: str | None = Field(
        default=None,
        description="Chat Completions endpoint (`…/v1`); unset: `OPENAI_BASE_URL`, "
        "or OpenAI's own when there is a key.",
    )
    upstream_key: str | None = Field(
        default=None, repr=False, description="Its key; unset: `OPENAI_API_KEY`."
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        description='Model names to replace, as JSON: `{"gpt-4o": "qwen3:8b", "*": "local"}`. '
        "`*` stands for every name that is not listed. A project's own map "
        "(`assistants-server models`) comes first.",
    )
    local_model: Path | None = Field(
        default=None,
        description="A GGUF file for the model named `local`; unset: SmolLM2-135M-Instruct.",
    )
    context_tokens: int = Field(
        default=128_000,
        ge=256,
        description="Context window assumed for models that do not tell theirs.",
    )
    run_expiry: float = Field(
        default=600, gt=0, description="Seconds until an unfinished run expires (OpenAI: 600)."
    )
    lease: float = Field(
        default=10,
        gt=0,
        description="Seconds after which another process takes over a silent one's runs.",
    )
    drain: float = Field(
        default=10,
        ge=0,
        description="Seconds that runs get to end when the server is told to stop.",
    )
    tool_history: bool = Field(
        default=True,
        description="Show the model finished tool calls of earlier runs where they happened.",
    )
    require_beta_header: bool = Field(
        default=True,
        description="Refuse assistants and threads without `OpenAI-Beta: assistants=v2`.",
    )
    max_body: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="Largest JSON body accepted, in bytes."
    )
    max_upload: int = Field(
        default=512 * 1024 * 1024,
        ge=1024,
        description="Largest uploaded file, in bytes (OpenAI: 512 MB).",
    )
    max_active_runs: int = Field(
        default=1000, ge=1, description="Runs one project may have under way in one process."
    )
    max_active_runs_total: int | None = Field(
        default=None,
        ge=1,
        description="Runs that all projects may have under way in one process, each no more than "
        "it leaves for others; unset: twice as many as one.",
    )
    max_open_streams: int = Field(
        default=2000, ge=1, description="Streams one project may have open in one process."
    )
    max_open_streams_total: int | None = Field(
        default=None,
        ge=1,
        description="Streams that all projects may have open in one process, each no more than "
        "it leaves for others; unset: twice as many as one.",
    )
    metrics: bool = Field(
        default=True,
        description="Answer `/metrics`: numbers of all projects together, no key asked.",
    )
    tracing: bool | None = Field(
        default=None,
        description="Send OpenTelemetry spans; unset: if `OTEL_TRACES_EXPORTER` or "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` says where to.",
    )
    log_level: str = Field(default="info", description="debug, info, warning or error.")

    @classmethod
    def read(cls, **options: Any) -> Self:
        """The settings of the environment, except for these options.

        Raises:
            UnusableSetting: a value cannot be one.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            name = str(wrong["loc"][0])
            option = f"--{name.replace('_', '-')}"
            source = option if name in options else f"ASSISTANTS_{name.upper()}"
            raise UnusableSetting(f"{source}: {wrong['msg']}.") from None
        except SettingsError as error:
            # Its text is: error parsing value for field "models" from source "EnvSettingsSource".
            name = str(error).partition('"')[2].partition('"')[0]
            raise UnusableSetting(f"ASSISTANTS_{name.upper()}: its value is not JSON.") from None

    @property
    def traces(self) -> bool:
        """Whether spans are wanted, by the setting or by OpenTelemetry's own variables."""
        if self.tracing is not None:
            return self.tracing
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return False
        exporter = os.environ.get("OTEL_TRACES_EXPORTER")
        if exporter:
            return exporter != "none"
        places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        return any(os.environ.get(place) for place in places)

    @property
    def active_runs_in_all(self) -> int:
        return self.max_active_runs_total or 2 * self.max_active_runs

    @property
    def open_streams_in_all(self) -> int:
        return self.max_open_streams_total or 2 * self.max_open_streams

    @property
    def database(self) -> str:
        """The database's URL, whichever way it was given."""
        return self.database_url or f"sqlite:///{self.data / 'assistants.db'}"
