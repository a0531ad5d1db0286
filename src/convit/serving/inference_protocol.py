"""The Open Inference Protocol, version 2, as clients of KServe and Triton speak it, with their binary tensors.

Source: https://github.com/kserve/open-inference-protocol (REST), and Triton's extension for binary tensor data.
"""

import base64
import json
import math
import struct
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from convit.inference.predicting import ImagePredictor, Row
from convit.serving.batching import SentImage
from convit.serving.bodies import parse_body
from convit.serving.errors import ServiceError
from convit.serving.models import ServedModel
from convit.serving.native import check_rows, vectors_of
from convit.serving.service import service_of

INPUT, PROBABILITIES, EMBEDDING = "images", "probabilities", "embedding"


class ProtocolError(BaseModel):
    """The answer to a request that is refused."""

    error: str
    code: str


class Tensor(BaseModel):
    """What a model takes or gives; -1: as many as there are images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model's inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class InputTensor(Tensor):
    """Images: encoded files, as base64 in `data` or as binary data behind the JSON."""

    shape: list[Annotated[int, Field(ge=0, le=2**20)]] = Field(max_length=8)
    parameters: dict[str, Any] = {}
    data: list[str] | None = None


class WantedOutput(BaseModel):
    """An output that is asked for, and whether its data come as binary."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """A request for outputs."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[WantedOutput] = Field([], max_length=8)


class OutputTensor(Tensor):
    """An output: numbers, or the size of its binary data behind the JSON."""

    parameters: dict[str, Any] = {}
    data: list[float] | None = None


class InferAnswer(BaseModel):
    """The outputs."""

    model_name: str
    model_version: str = "1"
    id: str | None = None
    outputs: list[OutputTensor]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProtocolError} for status in (400, 401, 403, 404, 408, 413, 421, 422, 503)
}
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=REFUSALS)


@router.get("")
async def server() -> dict[str, Any]:
    """Name the service."""
    return {"name": "convit", "version": version("convit"), "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Whether the service runs."""
    return {"live": True}


@router.get("/health/ready")
async def ready() -> dict[str, bool]:
    """Whether the models are loaded: they are before the service listens."""
    return {"ready": True}


@router.get("/models/{name}")
async def metadata(request: Request, name: str) -> ModelMetadata:
    """Describe a model's inputs and outputs."""
    model = service_of(request).model(name)
    return ModelMetadata(
        name=model.name,
        versions=["1"],
        platform="convit",
        inputs=[Tensor(name=INPUT, datatype="BYTES", shape=[-1])],
        outputs=[
            Tensor(name=output, datatype="FP32", shape=[-1, *shape]) for output, (_, shape) in _outputs(model).items()
        ],
    )


@router.get("/models/{name}/ready")
async def model_ready(request: Request, name: str) -> dict[str, Any]:
    """Whether a model is loaded: each is before the service listens."""
    return {"name": service_of(request).model(name).name, "ready": True}


# the body may be JSON and binary data behind it, so that it is read here, and FastAPI does not know its schema
_HERE = "#/paths/~1v2~1models~1{name}~1infer/post/requestBody/content/application~1json/schema/$defs/"
_SCHEMA = InferBody.model_json_schema(ref_template=_HERE.replace("{", "{{").replace("}", "}}") + "{model}")


@router.post(
    "/models/{name}/infer",
    response_model=InferAnswer,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}},
)
async def infer(
    request: Request,
    name: str,
    inference_header_content_length: Annotated[int | None, Header(ge=0)] = None,
) -> Response:
    """Compute the outputs of images."""
    service = service_of(request)
    model, content = service.model(name), await request.body()
    size = len(content) if inference_header_content_length is None else inference_header_content_length
    body = parse_body(InferBody, content[:size], "the request is not valid JSON")
    images = _read_input(body.inputs[0], content[size:])
    known = _outputs(model)
    wanted = body.outputs or [WantedOutput(name=each) for each in known]
    if not {each.name for each in wanted} <= known.keys():
        raise ServiceError(422, "unknown_output", f"there is no such output; there are {', '.join(known)}")
    computed: dict[str, np.ndarray] = {}
    for each in dict.fromkeys(output.name for output in wanted):  # once, however often a request names it
        rows = await service.run(request, model.name, known[each][0], images)
        check_rows(rows, all_needed=True)
        computed[each] = _probabilities(rows) if each == PROBABILITIES else vectors_of(rows)
    outputs, binary = list[OutputTensor](), b""
    for each in wanted:
        values = computed[each.name]
        output = OutputTensor(name=each.name, datatype="FP32", shape=[len(values), *known[each.name][1]])
        if each.parameters.get("binary_data", body.parameters.get("binary_data_output", False)):
            content = np.ascontiguousarray(values, "<f4").tobytes()
            output.parameters = {"binary_data_size": len(content)}
            binary += content
        else:
            output.data = values.reshape(-1).tolist()
        outputs.append(output)
    return _respond(InferAnswer(model_name=model.name, id=body.id, outputs=outputs), binary)


def _outputs(model: ServedModel) -> dict[str, tuple[ImagePredictor[Any], tuple[int, ...]]]:
    """What a model gives: its predictor, and the shape of one image's row."""
    found: dict[str, tuple[ImagePredictor[Any], tuple[int, ...]]] = {}
    if model.classifier is not None:
        found[PROBABILITIES] = model.classifier, (len(model.labels),)
    if model.can_embed:
        found[EMBEDDING] = model.embedder(), model.embedder().shape
    return found


def _read_input(tensor: InputTensor, binary: bytes) -> list[SentImage]:
    """The images of a request, which must be as many as the shape says."""
    if tensor.name != INPUT or tensor.datatype != "BYTES":
        raise ServiceError(422, "unknown_input", f"the input is {INPUT!r} of datatype BYTES: encoded images")
    if "binary_data_size" in tensor.parameters:
        contents = _split(binary, tensor.parameters["binary_data_size"])
    else:
        try:
            contents = [base64.b64decode(text, validate=True) for text in tensor.data or ()]
        except ValueError:
            raise ServiceError(400, "invalid_base64", "the data are not base64 of encoded images") from None
    if len(contents) != math.prod(tensor.shape) or not any(contents):
        raise ServiceError(400, "wrong_shape", f"there are {len(contents)} images, but the shape says otherwise")
    return [SentImage(f"image {number}", content) for number, content in enumerate(contents, 1)]


def _split(binary: bytes, size: Any) -> list[bytes]:
    """The elements of a BYTES tensor: each behind its length, 4 bytes, little-endian."""
    found: list[bytes] = []
    place = 0
    while size == len(binary) and place + 4 <= size:
        (length,) = struct.unpack_from("<I", binary, place)
        found.append(binary[place + 4 : place + 4 + length])
        place += 4 + length
    if place != size:
        raise ServiceError(400, "invalid_tensor", "the binary data are not as long as they say")
    return found


def _probabilities(rows: list[Row]) -> np.ndarray:
    """Scores in the order of the classes; a classifier gives them best first, and all of them."""
    return np.stack([row.outputs[0][np.argsort(row.outputs[1])] for row in rows if row.outputs is not None])


def _respond(answer: InferAnswer, binary: bytes) -> Response:
    head = json.dumps(answer.model_dump(exclude_none=True)).encode()
    if not binary:
        return Response(head, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Response(head + binary, media_type="application/octet-stream", headers=headers)
