"""Files: what an upload's form may say, and the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..domain.records import File, Page
from ..errors import BadRequest
from . import validation
from .objects import FileObject
from .parts import Cursor

PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
"""What a client may upload for, in the order in which OpenAI's refusal names them."""


class ExpiresAfter(BaseModel):
    """``expires_after[anchor]`` and ``expires_after[seconds]``: form fields, so text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class UploadFields(BaseModel):
    """The fields of an upload's form beside the file itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: str
    expires_after: ExpiresAfter | None = None

    def expires_at(self, created_at: int) -> int | None:
        return None if self.expires_after is None else created_at + self.expires_after.seconds


def upload_fields(form: Mapping[str, str]) -> UploadFields:
    """The form's fields, checked.

    Raises:
        BadRequest: a field is missing, unknown or wrong.
    """
    values: dict[str, Any] = {}
    for name, value in form.items():
        outer, bracket, inner = name.partition("[")
        if bracket and inner.endswith("]") and outer == "expires_after":
            values.setdefault(outer, {})[inner[:-1]] = value
        else:
            values[name] = value
    fields = validation.validated(UploadFields, values)
    if fields.purpose not in PURPOSES:
        raise BadRequest(
            f"'{fields.purpose}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose"
        )
    return fields


class FilesQuery(BaseModel):
    """Unlike other lists: up to 10,000 a page, and no ``before``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    after: Cursor = None
    purpose: Cursor = None

    def page(self) -> Page:
        return Page(limit=self.limit, order=self.order, after=self.after)


def render(file: File) -> FileObject:
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.filename,
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "status": "processed",
        "status_details": None,
    }
