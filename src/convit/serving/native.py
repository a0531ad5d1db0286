"""The service's own routes: labels and vectors of images, and what models there are."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from convit.inference.embedder import Embedder
from convit.inference.predicting import Row
from convit.serving.bodies import read_images
from convit.serving.errors import ServiceError
from convit.serving.models import ServedModel
from convit.serving.schema import ClassifyAnswer, EmbedAnswer, ErrorBody, ImagesBody, ModelDetail, ModelInfo, ModelList
from convit.serving.service import service_of

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "The body or an image cannot be read."),
        (401, "The key is missing or wrong."),
        (403, "Another web page may not call this service."),
        (404, "There is no such model, or it does not have this output."),
        (408, "The request came too slowly."),
        (413, "The body is too large, or there are too many images."),
        (415, "The content type is not supported."),
        (421, "The service does not answer for this host name."),
        (422, "A parameter is out of range."),
        (503, "The service is busy; Retry-After says when to try again."),
    )
}
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["images"],
                }
            },
            "application/json": {"schema": ImagesBody.model_json_schema()},
        },
    }
}
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
NPY, ARROW = "application/x-npy", "application/vnd.apache.arrow.stream"
Format = Literal["json", "base64", "npy", "arrow"]

router = APIRouter(prefix="/v1", tags=["images"], responses=REFUSALS)
ModelName = Annotated[str | None, Query(description="A model's id; the first model by default.")]


@router.post("/classify", response_model=ClassifyAnswer, openapi_extra=IMAGE_BODY)
async def classify(
    request: Request,
    model: ModelName = None,
    top_k: Annotated[int, Query(ge=1, le=1000, description="Classes per image, best first.")] = 5,
) -> Response:
    """Return the most likely classes of each image."""
    service = service_of(request)
    served = service.model(model)
    if served.classifier is None:
        raise ServiceError(404, "no_classes", "this model has no classes; use /v1/embed")
    rows = await service.run(request, served.name, served.classifier, await read_images(request, service))
    check_rows(rows)
    labels = served.labels
    return json_response({"model": served.name, "results": [_classes_of(row, labels, top_k) for row in rows]})


@router.post(
    "/embed",
    response_model=EmbedAnswer,
    openapi_extra=IMAGE_BODY,
    responses={200: {"content": {each: {"schema": {"type": "string", "format": "binary"}} for each in (NPY, ARROW)}}},
)
async def embed(
    request: Request,
    model: ModelName = None,
    kind: Annotated[str, Query(description="pooled, pre_logits, tokens, patches or layer:N.")] = "pooled",
    form: Annotated[Format, Query(alias="format", description="Of the vectors: in JSON, or a file.")] = "json",
) -> Response:
    """Compute the vector of each image; npy and Arrow need every image to be readable."""
    service = service_of(request)
    served = service.model(model)
    embedder = embedder_of(served, kind)
    rows = await service.run(request, served.name, embedder, await read_images(request, service))
    check_rows(rows, all_needed=form in ("npy", "arrow"))
    if form == "npy":
        file = io.BytesIO()
        np.save(file, vectors_of(rows))
        return Response(file.getvalue(), media_type=NPY)
    if form == "arrow":
        return Response(_arrow_of(rows), media_type=ARROW)
    results = [_vector_of(row, as_text=form == "base64") for row in rows]
    return json_response(
        {"model": served.name, "kind": kind, "shape": list(vectors_of(rows).shape[1:]), "results": results}
    )


@router.get("/models")
async def models(request: Request) -> ModelList:
    """List the models, the default first."""
    return ModelList(data=[describe(model) for model in service_of(request).models.values()])


@router.get("/models/{name}")
async def model_detail(request: Request, name: str) -> ModelDetail:
    """Describe a model, with the names of its classes."""
    served = service_of(request).model(name)
    return ModelDetail(**describe(served).model_dump(), labels=list(served.labels))


def describe(model: ServedModel) -> ModelInfo:
    """Describe a model to clients."""
    predictor = model.predictor
    return ModelInfo(
        id=model.name,
        classes=len(model.labels),
        input_size=list(predictor.transform.settings.input_size),
        precision=predictor.precision,
        can_explain=model.weights is not None,
    )


def embedder_of(model: ServedModel, kind: str) -> Embedder:
    """Return what computes a kind of embedding; raises `ServiceError` if this model does not have it."""
    try:
        return model.embedder(kind)
    except (ValueError, TypeError) as error:
        raise ServiceError(422, "unknown_kind", str(error)) from None


def check_rows(rows: Sequence[Row], *, all_needed: bool = False) -> None:
    """Raise `ServiceError` if no image could be read; with `all_needed`, if any could not."""
    bad = [row for row in rows if row.error is not None]
    if bad and (all_needed or len(bad) == len(rows)):
        raise ServiceError(400, "invalid_image", str(bad[0].error))


def vectors_of(rows: Sequence[Row]) -> np.ndarray:
    """Embeddings of images that could all be read, (images, *shape)."""
    return np.stack([row.outputs[0] for row in rows if row.outputs is not None])


def json_response(content: Any) -> Response:
    """An answer as JSON, without the checks of a response model, which take longer than a small model."""
    return Response(_JSON.encode(content).encode("utf-8", "replace"), media_type="application/json")


def base64_of(values: np.ndarray) -> str:
    """Little-endian float32 as base64, 50 times faster than numbers in JSON."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _problem(row: Row) -> dict[str, str] | None:
    return None if row.error is None else {"code": "invalid_image", "message": str(row.error)}


def _classes_of(row: Row, labels: Sequence[str], top_k: int) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    if row.outputs is not None:
        scores, indices = (each[:top_k].tolist() for each in row.outputs)
        found = [
            {"label": labels[index], "index": index, "score": score}
            for score, index in zip(scores, indices, strict=True)
        ]
    return {"name": row.name, "predictions": found, "error": _problem(row)}


def _vector_of(row: Row, *, as_text: bool) -> dict[str, Any]:
    values = None if row.outputs is None else row.outputs[0]
    shown = None if values is None else base64_of(values) if as_text else values.tolist()
    return {"name": row.name, "embedding": shown, "error": _problem(row)}


def _arrow_of(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa

    from convit.output.binary import as_lists

    vectors = vectors_of(rows)
    names = pa.array([row.name for row in rows])
    batch = pa.record_batch([names, as_lists([*vectors], vectors.shape[1:])], names=["name", "embedding"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()
