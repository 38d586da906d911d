"""Models: the object."""

from __future__ import annotations

from typing import Protocol

from .objects import ModelObject


class Model(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def created(self) -> int: ...
    @property
    def owned_by(self) -> str: ...


def render(model: Model) -> ModelObject:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }
