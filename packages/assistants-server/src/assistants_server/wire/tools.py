"""Tools, tool choice and response formats: what a request may say and how it is shown back.

OpenAI completes what a client leaves out (recorded): a function without parameters shows an empty
schema and ``strict: false``, a file search shows its ranking. They are completed once, here, so
that records hold what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ..domain.records import JsonObject
from . import validation
from .parts import Closed

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]


def tag_of(value: Any) -> str:
    """The tag of a union's member: the object's own ``type``, or ``plain`` for a bare string."""
    kind = "plain" if isinstance(value, str) else value["type"]
    return validation.TAG + str(kind)


def typed_object(*types: str) -> Callable[[Any], Any]:
    """A check before a union of objects: an object, with a ``type`` that is one of these."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise validation.wrong_type("an object")
        if "type" not in value:
            raise validation.missing("type")
        if value["type"] not in types:
            raise validation.not_supported(types, key="type")
        return value

    return check


def word_or_object(words: Sequence[str], *types: str) -> Callable[[Any], Any]:
    """A check before a union of bare words and objects."""
    check_object = typed_object(*types)

    def check(value: Any) -> Any:
        if isinstance(value, str):
            if value not in words:
                raise validation.not_supported(words)
            return value
        if not isinstance(value, dict):
            raise validation.wrong_type("one of a string or an object")
        return check_object(value)

    return check


# --- tools ----------------------------------------------------------------------------------------


class CodeInterpreterTool(Closed):
    type: Literal["code_interpreter"]

    def record(self) -> JsonObject:
        return {"type": "code_interpreter"}


class RankingOptions(Closed):
    ranker: Literal["auto", "default_2024_08_21"] | None = None
    score_threshold: float = Field(ge=0.0, le=1.0)
    hybrid_search: dict[str, float] | None = None  # shown in answers, so it comes back in requests


class FileSearchOptions(Closed):
    max_num_results: int | None = Field(None, ge=1, le=50)
    ranking_options: RankingOptions | None = None


class FileSearchTool(Closed):
    type: Literal["file_search"]
    file_search: FileSearchOptions | None = None

    def record(self) -> JsonObject:
        shown: dict[str, Any] = {}
        options = self.file_search
        if options is not None and options.max_num_results is not None:
            shown["max_num_results"] = options.max_num_results
        ranking = options.ranking_options if options is not None else None
        shown["ranking_options"] = {
            "ranker": (ranking.ranker if ranking else None) or "default_2024_08_21",
            "score_threshold": ranking.score_threshold if ranking else 0.0,
            "hybrid_search": ranking.hybrid_search if ranking else None,
        }
        return {"type": "file_search", "file_search": shown}


class Function(Closed):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Closed):
    type: Literal["function"]
    function: Function

    def record(self) -> JsonObject:
        function = self.function
        shown: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            shown["description"] = function.description
        shown["parameters"] = (
            function.parameters
            if function.parameters is not None
            else {"type": "object", "properties": {}}
        )
        shown["strict"] = bool(function.strict)
        return {"type": "function", "function": shown}


Tool = Annotated[
    Annotated[CodeInterpreterTool, Tag("\0code_interpreter")]
    | Annotated[FileSearchTool, Tag("\0file_search")]
    | Annotated[FunctionTool, Tag("\0function")],
    Discriminator(tag_of),
    BeforeValidator(typed_object("code_interpreter", "file_search", "function")),
]

Tools = Annotated[list[Tool], Field(max_length=128)]


def tool_records(tools: Sequence[Tool] | None) -> Sequence[JsonObject] | None:
    """``None`` stays ``None``: on a run, no tools at all is another wish than the assistant's."""
    return None if tools is None else [tool.record() for tool in tools]


# --- tool choice ----------------------------------------------------------------------------------


class FunctionName(Closed):
    name: Name


class FunctionChoice(Closed):
    type: Literal["function"]
    function: FunctionName


class HostedToolChoice(Closed):
    type: Literal["code_interpreter", "file_search"]
    function: None = None


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("\0plain")]
    | Annotated[FunctionChoice, Tag("\0function")]
    | Annotated[HostedToolChoice, Tag("\0code_interpreter")]
    | Annotated[HostedToolChoice, Tag("\0file_search")],
    Discriminator(tag_of),
    BeforeValidator(
        word_or_object(("none", "auto", "required"), "function", "code_interpreter", "file_search")
    ),
]


def tool_choice_record(choice: ToolChoice | None) -> str | JsonObject | None:
    if choice is None or isinstance(choice, str):
        return choice
    return choice.model_dump(exclude_none=True)


# --- response format ------------------------------------------------------------------------------


class PlainFormat(Closed):
    type: Literal["text", "json_object"]


class JsonSchema(Closed):
    name: Name
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Closed):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    Annotated[Literal["auto"], Tag("\0plain")]
    | Annotated[PlainFormat, Tag("\0text")]
    | Annotated[PlainFormat, Tag("\0json_object")]
    | Annotated[JsonSchemaFormat, Tag("\0json_schema")],
    Discriminator(tag_of),
    BeforeValidator(word_or_object(("auto",), "text", "json_object", "json_schema")),
]


def response_format_record(value: ResponseFormat | None) -> str | JsonObject | None:
    """As sent."""
    if value is None or isinstance(value, str):
        return value
    return value.model_dump(by_alias=True, exclude_unset=True)


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
