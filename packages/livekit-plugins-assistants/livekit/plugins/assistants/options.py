"""What an ``AssistantLLM`` is made of. The first half are the old module's classes, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from livekit.agents.llm import ImageContent
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import is_given
from openai.types import FileObject

from .errors import AssistantError
from .models import ChatModels


@dataclass
class LLMOptions:
    model: str | ChatModels


@dataclass
class AssistantCreateOptions:
    """An assistant made on the fly, or found again if it was made before."""

    name: str
    instructions: str
    model: str | ChatModels
    temperature: float | None = None


@dataclass
class AssistantLoadOptions:
    """An assistant that exists. Without a thread id one is created and written back here."""

    assistant_id: str
    thread_id: str | None = None


@dataclass
class AssistantOptions:
    """Exactly one of the two."""

    create_options: AssistantCreateOptions | None = None
    load_options: AssistantLoadOptions | None = None


@dataclass
class OnFileUploadedInfo:
    type: Literal["image"]
    original_file: ImageContent
    openai_file_object: FileObject


OnFileUploaded = Callable[[OnFileUploadedInfo], None]

Interrupted = Literal["heard", "full"]
DeleteFiles = Literal["never", "with_message", "on_close"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Fields of every run. What is not given is the assistant's."""

    model: NotGivenOr[str] = NOT_GIVEN
    temperature: NotGivenOr[float] = NOT_GIVEN
    top_p: NotGivenOr[float] = NOT_GIVEN
    parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN
    response_format: NotGivenOr[str | Mapping[str, Any]] = NOT_GIVEN
    reasoning_effort: NotGivenOr[str] = NOT_GIVEN
    truncation: NotGivenOr[int | Mapping[str, Any]] = NOT_GIVEN
    max_prompt_tokens: NotGivenOr[int] = NOT_GIVEN
    max_completion_tokens: NotGivenOr[int] = NOT_GIVEN
    metadata: NotGivenOr[Mapping[str, str]] = NOT_GIVEN

    def body(self) -> dict[str, Any]:
        fields: dict[str, NotGivenOr[Any]] = {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": self.response_format,
            "reasoning_effort": self.reasoning_effort,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_completion_tokens": self.max_completion_tokens,
            "metadata": self.metadata,
        }
        body = {name: value for name, value in fields.items() if is_given(value)}
        if isinstance(self.truncation, int):
            body["truncation_strategy"] = {
                "type": "last_messages",
                "last_messages": self.truncation,
            }
        elif is_given(self.truncation):
            body["truncation_strategy"] = dict(self.truncation)
        return body


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a conversation is kept, apart from what its runs are asked."""

    thread_key: str | None = None
    interrupted: Interrupted = "heard"
    delete_files: DeleteFiles = "never"
    extensions: bool | None = None
    idle_timeout: float = 30.0
    on_file_uploaded: OnFileUploaded | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.interrupted not in ("heard", "full"):
            raise ValueError(f"interrupted is 'heard' or 'full', not {self.interrupted!r}")
        if self.delete_files not in ("never", "with_message", "on_close"):
            raise ValueError(
                f"delete_files is 'never', 'with_message' or 'on_close', not {self.delete_files!r}"
            )


def check_options(options: AssistantOptions) -> None:
    if (options.create_options is None) == (options.load_options is None):
        raise AssistantError(
            "AssistantOptions takes exactly one of create_options and load_options."
        )
