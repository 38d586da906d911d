"""What the objects of the wire are made of, and the rules that all of them keep.

Every key is always present and stands in its recorded place; a key that nobody knows is a mistake.
The few that may be left out are named.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self


class Exact(BaseModel):
    """A closed object. Keys stand in the order of the fields; ``OPTIONAL`` may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    OPTIONAL: ClassVar[frozenset[str]] = frozenset()
    ANY_ORDER: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = [field.alias or name for name, field in cls.model_fields.items()]
        missing = [key for key in known if key not in value and key not in cls.OPTIONAL]
        if missing:
            raise ValueError(f"{', '.join(missing)} must always be present")
        present = [key for key in known if key in value]
        if not cls.ANY_ORDER and [key for key in value if key in known] != present:
            raise ValueError(f"keys must stand in the order {present}, not {list(value)}")
        return value


AssistantId = Annotated[str, Field(pattern=r"^asst_[A-Za-z0-9]+$")]
ThreadId = Annotated[str, Field(pattern=r"^thread_[A-Za-z0-9]+$")]
MessageId = Annotated[str, Field(pattern=r"^msg_[A-Za-z0-9]+$")]
RunId = Annotated[str, Field(pattern=r"^run_[A-Za-z0-9]+$")]
StepId = Annotated[str, Field(pattern=r"^step_[A-Za-z0-9]+$")]
FileId = Annotated[str, Field(pattern=r"^file-[A-Za-z0-9]+$")]
CallId = Annotated[str, Field(min_length=1)]

Time = Annotated[int, Field(ge=0, lt=2**40)]
Tokens = Annotated[int, Field(ge=0)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class CodeInterpreterTool(Exact):
    type: Literal["code_interpreter"]


class RankingOptions(Exact):
    ranker: Literal["auto", "default_2024_08_21"]
    score_threshold: Annotated[float, Field(ge=0, le=1)]
    hybrid_search: dict[str, float] | None


class FileSearch(Exact):
    OPTIONAL = frozenset({"max_num_results"})  # shown only when it was given
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 20
    ranking_options: RankingOptions


class FileSearchTool(Exact):
    type: Literal["file_search"]
    file_search: FileSearch


class Function(Exact):
    OPTIONAL = frozenset({"description"})
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any]
    strict: bool


class FunctionTool(Exact):
    type: Literal["function"]
    function: Function


Tools = Annotated[list[CodeInterpreterTool | FileSearchTool | FunctionTool], Field(max_length=128)]


class FileIds(Exact):
    file_ids: Annotated[list[FileId], Field(max_length=20)]


class VectorStoreIds(Exact):
    vector_store_ids: Annotated[list[str], Field(max_length=1)]


class ToolResources(Exact):
    OPTIONAL = frozenset({"code_interpreter", "file_search"})
    ANY_ORDER = True
    code_interpreter: FileIds = Field(default=None)  # type: ignore[assignment] # absent, not null
    file_search: VectorStoreIds = Field(default=None)  # type: ignore[assignment]


class PlainFormat(Exact):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Exact):
    ANY_ORDER = True  # echoed as sent
    type: Literal["json_schema"]
    json_schema: dict[str, Any]


ResponseFormat = Literal["auto"] | PlainFormat | JsonSchemaFormat
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]


class CachedTokens(Exact):
    cached_tokens: Tokens


class ReasoningTokens(Exact):
    reasoning_tokens: Tokens


class Usage(Exact):
    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_token_details: CachedTokens
    completion_tokens_details: ReasoningTokens

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total_tokens != self.prompt_tokens + self.completion_tokens:
            raise ValueError("total_tokens must be the sum")
        return self


class RunError(Exact):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: Annotated[str, Field(min_length=1)]


class StepError(Exact):
    code: Literal["server_error", "rate_limit_exceeded"]
    message: Annotated[str, Field(min_length=1)]


def dates_of(shown: Any, status: str, dates: dict[str, tuple[str, ...]]) -> None:
    """Each date is set in exactly the statuses that are listed for it."""
    for name, statuses in dates.items():
        value = getattr(shown, name)
        if (value is not None) is not (status in statuses):
            raise ValueError(f"{name} is {value} while the status is {status}")
