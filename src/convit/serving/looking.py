"""Routes that look into one image: explanations, and similar images."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from convit.images import ImageError, open_image
from convit.images.names import text_path
from convit.images.opening import NamedBytes
from convit.output.pages import data_url, png_file, thumbnail
from convit.serving.batching import SentImage
from convit.serving.bodies import one_image, read_images
from convit.serving.errors import ServiceError
from convit.serving.models import ServedModel
from convit.serving.native import IMAGE_BODY, REFUSALS, ModelName, base64_of, check_rows, json_response
from convit.serving.service import INDEX, Service, service_of

if TYPE_CHECKING:
    from convit.search import Hit

PNG = "image/png"
_THUMBNAIL = 256  # longer side, pixels

router = APIRouter(prefix="/v1", tags=["images"], responses=REFUSALS)


class ClassReason(BaseModel):
    """A class, and where the model looks for it."""

    label: str
    index: int
    score: float
    map: str | None = Field(description="(rows, columns) as base64 of little-endian float32; the whole sums to 1.")


class LayerAttention(BaseModel):
    """What is read in one layer, head by head; each map (heads, rows, columns) as base64 of little-endian float32."""

    number: int = Field(description="From 1.")
    gates: list[float] | None = Field(description="Of each head, 1: by position; null in layers without gates.")
    maps: dict[str, str] = Field(
        description="content, position and blended: of the query, a patch; class_token: of the class token."
    )


class ExplainAnswer(BaseModel):
    """What a model's heads look at in one image; see `convit.analysis.explaining.Explanation`."""

    model: str
    image: str = Field(description="As the model sees it: a PNG as a data URL.")
    grid: list[int] = Field(description="Rows and columns of patches.")
    query: list[int] = Field(description="Row and column, from 0, of the patch whose attention is shown.")
    predictions: list[ClassReason]
    rollout: str
    layers: list[LayerAttention]


class Found(BaseModel):
    """One image of the index."""

    rank: int
    path: str = Field(description="Relative to the indexed folder.")
    score: float = Field(description="Cosine similarity, -1 to 1.")
    label: str | None
    width: int | None
    height: int | None
    thumbnail: str | None = Field(None, description="A small JPEG or PNG as a data URL.")


class SearchAnswer(BaseModel):
    """The images most like the one sent."""

    model: str
    results: list[Found]


@router.post(
    "/explain",
    response_model=ExplainAnswer,
    openapi_extra=IMAGE_BODY,
    responses={200: {"content": {PNG: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def explain(
    request: Request,
    model: ModelName = None,
    query: Annotated[str, Query(description="center, or ROW,COLUMN of a patch, from 0.")] = "center",
    top_k: Annotated[int, Query(ge=1, le=10, description="Classes to explain.")] = 3,
    classes: Annotated[list[str] | None, Query(alias="class", description="To explain instead, by name.")] = None,
    form: Annotated[
        Literal["json", "png"], Query(alias="format", description="Maps as numbers, or one drawn over the image.")
    ] = "json",
    show: Annotated[Literal["class", "rollout", "attention"], Query(description="Which map the PNG shows.")] = "class",
    layer: Annotated[int | None, Query(ge=1, description="For show=attention; the last one by default.")] = None,
    head: Annotated[int | None, Query(ge=1, description="For show=attention; the mean of all by default.")] = None,
) -> Response:
    """Show what a model attends to in one image, and the evidence for its classes."""
    service = service_of(request)
    served = service.model(model)
    if served.weights is None:
        told = "this model was exported, and exported files do not contain attention; serve the weights instead"
        raise ServiceError(404, "cannot_explain", told)
    asked: dict[str, Any] = {"query": _parse_query(query), "top_k": top_k, "classes": classes or ()}
    image = one_image(await read_images(request, service))
    if form == "png":
        return Response(await service.look(request, _png_of, served, image, asked, show, layer, head), media_type=PNG)
    return json_response(await service.look(request, _json_of, served, image, asked))


@router.post("/search", response_model=SearchAnswer, openapi_extra=IMAGE_BODY)
async def search(
    request: Request,
    k: Annotated[int, Query(ge=1, le=100, description="How many to find.")] = 10,
    where: Annotated[str | None, Query(max_length=500, description="Such as label = 'cat' AND width > 640.")] = None,
    thumbnails: Annotated[bool, Query(description="Send the images found, small.")] = False,
) -> Response:
    """Find the images of the index that are most like one."""
    service = service_of(request)
    if service.index is None:
        raise ServiceError(404, "no_index", "this service has no index; start it with --index")
    image = one_image(await read_images(request, service))
    rows = await service.run(request, INDEX, service.index.embedder, [image])
    check_rows(rows, all_needed=True)
    assert rows[0].outputs is not None
    found = await service.look(request, _search, service, rows[0].outputs[0], k, where, thumbnails)
    return json_response({"model": service.index.model_name, "results": found})


def _parse_query(text: str) -> Any:
    parts = text.split(",")
    if text == "center":
        return text
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        raise ServiceError(422, "invalid_request", "query: must be center, or ROW,COLUMN such as 3,5")
    return int(parts[0]), int(parts[1])


def _explanation(served: ServedModel, image: SentImage, asked: dict[str, Any]) -> Any:
    from convit.analysis.explaining import explain as look_into

    run = served.options
    try:
        plain = served.plain
    except (ValueError, OSError):
        told = "the model's weights were replaced or removed since the service was started; start it again"
        raise ServiceError(503, "weights_changed", told, reason="weights_changed") from None
    try:
        source = NamedBytes(image.content, image.name)
        seen: dict[str, Any] = {name: getattr(run, name) for name in ("img_size", "crop_pct", "apply_exif")}
        return look_into(plain, source, **seen, **asked)
    except ImageError as error:
        raise ServiceError(400, "invalid_image", str(error)) from None
    except ValueError as error:
        raise ServiceError(422, "invalid_request", str(error)) from None


def _json_of(served: ServedModel, image: SentImage, asked: dict[str, Any]) -> dict[str, Any]:
    found = _explanation(served, image, asked)
    layers: list[dict[str, Any]] = []
    for view in found.layers:
        maps = {kind: base64_of(values) for kind, values in view.maps.items()}
        if view.number in found.class_attention:
            maps["class_token"] = base64_of(found.class_attention[view.number])
        layers.append({"number": view.number, "gates": None if view.gate is None else view.gate.tolist(), "maps": maps})
    reasons = [base64_of(values) for values in found.class_maps] or [None] * len(found.predictions)
    return {
        "model": served.name,
        "image": data_url(png_file(found.pixels)),
        "grid": list(found.grid),
        "query": list(found.query),
        "predictions": [
            {**asdict(each), "map": reason} for each, reason in zip(found.predictions, reasons, strict=True)
        ],
        "rollout": base64_of(found.rollout),
        "layers": layers,
    }


def _png_of(
    served: ServedModel, image: SentImage, asked: dict[str, Any], show: str, layer: int | None, head: int | None
) -> bytes:
    from convit.analysis.drawing import overlay

    found = _explanation(served, image, asked)
    if show == "class":
        if not found.class_maps:
            raise ServiceError(404, "no_classes", "this model has no classes; use show=rollout")
        values = found.class_maps[0]
    elif show == "rollout":
        values = found.rollout
    else:
        values = _attention(found, layer, head)
    return png_file((overlay(found.pixels, values) * 255).round().astype(np.uint8))


def _attention(found: Any, layer: int | None, head: int | None) -> np.ndarray:
    """One head's map, or the mean of all, in a layer: of the class token where there is one, else of the query."""
    number = len(found.layers) if layer is None else layer
    if not 1 <= number <= len(found.layers):
        raise ServiceError(422, "invalid_request", f"layer: the model has layers 1 to {len(found.layers)}")
    of_query = found.layers[number - 1].maps["blended"]
    maps = found.class_attention.get(number, of_query)
    if head is not None and head > len(maps):
        raise ServiceError(422, "invalid_request", f"head: the model has heads 1 to {len(maps)}")
    return maps.mean(axis=0) if head is None else maps[head - 1]


def _search(service: Service, vector: np.ndarray, k: int, where: str | None, thumbnails: bool) -> list[dict[str, Any]]:
    assert service.index is not None
    try:
        hits = service.index.search(vector, k, where=where)
    except ValueError as error:
        if where is None:
            raise
        raise ServiceError(422, "invalid_request", f"where: {error}") from None
    return [{**asdict(hit), "thumbnail": _thumbnail(service, hit) if thumbnails else None} for hit in hits]


def _thumbnail(service: Service, hit: "Hit") -> str | None:
    """The image of a hit, small; None if it is there no more."""
    assert service.index is not None
    try:
        image = open_image(service.index.root / text_path(hit.path), at_least=_THUMBNAIL)
    except ImageError:
        return None
    return data_url(thumbnail(image, _THUMBNAIL))
