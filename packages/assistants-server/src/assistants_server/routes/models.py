"""The paths of models: what the provider tells, and the names that the maps put in their place."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from ..errors import NotFound, Unavailable
from ..providers.contract import ModelInfo, ProviderError
from ..wire import models as wire
from ..wire.objects import ModelObject, ModelsObject
from ..wire.parts import NoQuery
from .endpoints import Call, Endpoint, Json


async def list_all(call: Call[None, NoQuery]) -> Response:
    return Json({"object": "list", "data": [wire.render(one) for one in await _models(call)]})


async def retrieve(call: Call[None, NoQuery]) -> Response:
    name: str = call.request.path_params["model"]
    for model in await _models(call):
        if model.id == name:
            return Json(wire.render(model))
    if call.server.model_names.takes_any(call.project):
        return Json(wire.render(_alias(name)))
    raise NotFound(f"The model '{name}' does not exist.", param="model", code="model_not_found")


async def _models(call: Call[None, NoQuery]) -> Sequence[ModelInfo]:
    try:
        told = await call.server.provider.models()
    except ProviderError as error:
        raise Unavailable(error.message) from error
    names = {model.id for model in told}
    mapped = call.server.model_names.listed(call.project)
    return [*told, *(_alias(name) for name in mapped if name not in names)]


def _alias(name: str) -> ModelInfo:
    return ModelInfo(id=name, owned_by="assistants-server")


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/models",
        list_all,
        "List models.",
        "The models.",
        returns=ModelsObject,
        beta=False,
    ),
    Endpoint(
        "GET",
        "/v1/models/{model:path}",
        retrieve,
        "Retrieve a model.",
        "The model.",
        returns=ModelObject,
        beta=False,
    ),
)
