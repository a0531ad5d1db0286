"""Images out of a request: its body as it is, the files of a form, or base64 in JSON."""

import base64
import re
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from convit.images.names import escaped
from convit.serving.batching import SentImage
from convit.serving.errors import ServiceError, invalid
from convit.serving.remote import fetch
from convit.serving.schema import ImagesBody
from convit.serving.service import Service, in_time

_DATA_URL = re.compile(r"data:[\w/+.-]{0,64}(?:;[\w=.-]{1,64})*;base64,")
_MOST_NAME = 120
_NOT_JSON = 'the body is not valid JSON; send {"images": ["…"]}'

BodyT = TypeVar("BodyT", bound=BaseModel)


async def read_images(request: Request, service: Service) -> list[SentImage]:
    """Read the images of a request.

    Raises:
        ServiceError: there is none, there are too many, or the body is not what its content type says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _from_form(request, service)
    elif kind == "application/json":
        images = await images_of(parse_body(ImagesBody, await request.body(), _NOT_JSON).images, request, service)
    elif not kind or kind == "application/octet-stream" or kind.startswith("image/"):
        images = [SentImage("the image", await request.body())]
    else:
        told = "send an image as image/* or application/octet-stream, multipart/form-data, or application/json"
        raise ServiceError(415, "unsupported_media_type", f"the content type is not supported; {told}")
    if not any(image.content for image in images):
        raise ServiceError(400, "no_image", "the request holds no image; send one in its body")
    return images


def one_image(images: list[SentImage]) -> SentImage:
    """Return the only image of a request; raises `ServiceError` if there are several."""
    if len(images) > 1:
        raise ServiceError(422, "one_image", f"there are {len(images)} images, but this looks at one; send one")
    return images[0]


async def images_of(texts: list[str], request: Request, service: Service) -> list[SentImage]:
    """Read images given as base64, data or https URLs; raises `ServiceError` if malformed, too many or too slow."""
    service.check_count(len(texts))
    images, left = list[SentImage](), service.options.body_bytes  # of fetched images, as of those in a body
    async with in_time(request, service.options):
        for number, text in enumerate(texts, 1):
            if text[:8].lower().startswith(("https://", "http://")):
                content = await fetch(text, service.options, left)
                left -= len(content)
            else:
                content = _decode(text, number)
            images.append(SentImage(f"image {number}", content))
    return images


def _decode(text: str, number: int) -> bytes:
    match = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[match.end() :] if match else text, validate=True)
    except ValueError:
        told = "is not base64; send the file's bytes as base64, or as data:image/jpeg;base64,…"
        raise ServiceError(400, "invalid_base64", f"image {number} {told}") from None


def parse_body(kind: type[BodyT], body: bytes, not_json: str) -> BodyT:
    """Parse a JSON body; raises `ServiceError` if it is not JSON (400, `not_json`) or not of this kind (422)."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(), not_json) from None


async def _from_form(request: Request, service: Service) -> list[SentImage]:
    most = service.options.images
    try:
        async with request.form(max_files=most, max_fields=most) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [SentImage(_file_name(file) or f"image {n}", await file.read()) for n, file in enumerate(files, 1)]
    except ServiceError:
        raise
    except HTTPException as error:
        if "Too many" in error.detail:
            service.check_count(most + 1)
        if "maximum size" in error.detail:  # a form field that is not a file
            told = "a part without a file name is larger than 1 MiB; send each image as a file of a part"
            raise ServiceError(413, "part_too_large", told) from None
        raise ServiceError(400, "invalid_form", "the form is damaged; send each image as a file of a part") from None


def _file_name(file: UploadFile) -> str:
    return escaped((file.filename or "").replace("\\", "/").rpartition("/")[2])[:_MOST_NAME]
