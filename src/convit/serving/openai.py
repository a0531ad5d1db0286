"""Embeddings as OpenAI's clients ask for them; images come as data URLs in the place of text."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from convit.serving.bodies import images_of
from convit.serving.errors import ServiceError
from convit.serving.native import REFUSALS, base64_of, check_rows, embedder_of, json_response, vectors_of
from convit.serving.service import service_of

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=REFUSALS)


class EmbeddingsBody(BaseModel):
    """What OpenAI's clients send."""

    model: str
    input: str | list[str] = Field(description="Images as data URLs or base64.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="As many as the model gives, if it is named at all.")
    user: str | None = None


class EmbeddingItem(BaseModel):
    """The vector of one image: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Images have no tokens to pay for."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingsAnswer(BaseModel):
    """What OpenAI's clients read."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


@router.post("/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(request: Request, body: EmbeddingsBody) -> Response:
    """Compute the vector of each image, as OpenAI's `client.embeddings.create` asks for it."""
    service = service_of(request)
    served = service.model(body.model)
    embedder = embedder_of(served, "pooled")
    (dim,) = embedder.shape
    if body.dimensions not in (None, dim):
        raise ServiceError(422, "invalid_request", f"dimensions: the model gives {dim}; leave it out")
    texts = [body.input] if isinstance(body.input, str) else body.input
    images = await images_of(texts, request, service)
    if not any(image.content for image in images):
        raise ServiceError(400, "no_image", "the input holds no image; send data URLs")
    rows = await service.run(request, served.name, embedder, images)
    check_rows(rows, all_needed=True)
    as_text = body.encoding_format == "base64"
    found: list[dict[str, Any]] = [
        {"object": "embedding", "index": index, "embedding": base64_of(vector) if as_text else vector.tolist()}
        for index, vector in enumerate(vectors_of(rows))
    ]
    return json_response({"object": "list", "data": found, "model": served.name, "usage": Usage().model_dump()})
