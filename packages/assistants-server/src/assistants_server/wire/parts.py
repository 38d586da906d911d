"""What the bodies of several nouns have in common: closed objects, metadata, tool resources, lists.

Null is everyday: frameworks send almost every optional key as ``null``. On creation it means "not
given"; on a modification it clears what an absent key keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ..domain.records import JsonObject, Page
from . import validation
from .objects import DeletionObject

_Record = TypeVar("_Record")

LARGEST_INTEGER = 2**31 - 1
"""No token count comes near it, and every database keeps it."""

LARGEST_ARRAY = 10_000
"""Bound of the arrays for which OpenAI names none."""

Text = Annotated[str, Field(max_length=256_000)]
ObjectId = Annotated[str, Field(min_length=1, max_length=256)]
ObjectIds = Annotated[list[ObjectId], Field(max_length=LARGEST_ARRAY)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]


class Closed(BaseModel):
    """A request body: unknown keys are refused, and nothing is converted (``"1"`` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_key_is_enough(cls, value: Any) -> Any:
        # Every unknown key is a complaint of its own; a body of a million keys must not become a
        # million complaints of which one is shown.
        if not isinstance(value, dict) or len(value) <= 2 * len(cls.model_fields) + 8:
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next(key for key in value if key not in known)
        return {key: item for key, item in value.items() if key in known or key == unknown}


class Empty(Closed):
    """A body without parameters: absent or ``{}``."""


# --- metadata -------------------------------------------------------------------------------------


def _few_enough(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > 16:
        raise validation.not_valid(
            ": too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(value)} properties instead.",
            code="object_above_max_properties",
        )
    return value


MetadataBody = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    BeforeValidator(_few_enough),
    Field(description="At most 16 pairs; keys of 64 and values of 512 characters."),
]


# --- tool resources -------------------------------------------------------------------------------


def _file_id(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("file"):
        raise validation.not_valid(f": '{value}'. Expected an ID that begins with 'file'.")
    return value


FileId = Annotated[str, Field(max_length=128), BeforeValidator(_file_id)]


class CodeInterpreterResources(Closed):
    file_ids: Annotated[list[FileId], Field(max_length=20)] | None = None


class FileSearchResources(Closed):
    vector_store_ids: (
        Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=1)] | None
    ) = None


class NewFileSearchResources(FileSearchResources):
    """Where OpenAI accepts the helper that makes a vector store."""

    vector_stores: Annotated[list[dict[str, Any]], Field(max_length=1)] | None = None

    @field_validator("vector_stores")
    @classmethod
    def _no_stores_yet(cls, value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        if value:
            raise validation.not_valid(": this server has no vector stores yet.")
        return value


class ToolResources(Closed):
    """``tool_resources`` of a modification or of a run."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None

    def record(self) -> JsonObject:
        """As it is kept and shown. Nulls inside (agency-swarm, autogen) leave nothing behind."""
        kept: dict[str, Any] = {}
        if self.code_interpreter is not None:
            kept["code_interpreter"] = {"file_ids": self.code_interpreter.file_ids or []}
        if self.file_search is not None:
            kept["file_search"] = {"vector_store_ids": self.file_search.vector_store_ids or []}
        return kept


class NewToolResources(ToolResources):
    """``tool_resources`` of a creation."""

    file_search: NewFileSearchResources | None = None


# --- requests for lists ---------------------------------------------------------------------------


def _absent_if_empty(value: Any) -> Any:
    return None if value == "" else value


Cursor = Annotated[str | None, BeforeValidator(_absent_if_empty)]


class ListQuery(BaseModel):
    """The query of a list. Values are text, so numbers are read from it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    after: Cursor = None
    before: Cursor = None

    def page(self) -> Page:
        return Page(limit=self.limit, order=self.order, after=self.after, before=self.before)


class NoQuery(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class IncludeQuery(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    include: list[Literal["step_details.tool_calls[*].file_search.results[*].content"]] = Field(
        default_factory=list, alias="include[]", max_length=10
    )


# --- answers --------------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    """``value`` as JSON. A model may break a surrogate pair in two; such text is escaped."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | Iterable):
        return list(value)
    raise TypeError(type(value).__name__)


def list_page(
    items: Sequence[_Record], render: Callable[[_Record], Mapping[str, Any]], *, has_more: bool
) -> dict[str, Any]:
    data = [render(item) for item in items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def deletion(object_name: str, object_id: str) -> DeletionObject:
    """``object_name`` is the noun's own (``thread.message``); files answer it without suffix."""
    suffix = "" if object_name == "file" else ".deleted"
    return {"id": object_id, "object": object_name + suffix, "deleted": True}


def error_body(
    message: str,
    *,
    type: str,  # noqa: A002 - the wire's own word
    param: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
