"""What requests and answers hold, as the OpenAPI description shows it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stays the same whatever the message says.")
    message: str
    type: str
    request_id: str | None


class ErrorBody(BaseModel):
    """The answer to a request that is refused."""

    error: ErrorDetail


class ImagesBody(BaseModel):
    """Images in a JSON body."""

    model_config = ConfigDict(extra="forbid")
    images: list[str] = Field(min_length=1, description="Each as base64, a data URL, or an https URL that is allowed.")


class ImageProblem(BaseModel):
    """Why one of several images has no result."""

    code: str
    message: str


class ClassScore(BaseModel):
    """One class that an image may show."""

    label: str
    index: int = Field(description="Its place in the model's head, from 0.")
    score: float = Field(description="Its probability, 0 to 1.")


class ImageClasses(BaseModel):
    """The likeliest classes of one image, best first."""

    name: str
    predictions: list[ClassScore]
    error: ImageProblem | None = None


class ClassifyAnswer(BaseModel):
    """One result per image, in order."""

    model: str
    results: list[ImageClasses]


class ImageVector(BaseModel):
    """The vector of one image: numbers, or base64 of little-endian float32."""

    name: str
    embedding: list[float] | list[list[float]] | str | None
    error: ImageProblem | None = None


class EmbedAnswer(BaseModel):
    """One result per image, in order; `shape` is that of each embedding."""

    model: str
    kind: str
    shape: list[int]
    results: list[ImageVector]


class ModelInfo(BaseModel):
    """A model that the service runs; the names are those of OpenAI's list of models."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "convit"
    classes: int
    input_size: list[int] = Field(description="Channels, height and width.")
    precision: str
    can_explain: bool


class ModelDetail(ModelInfo):
    """A model, and the names of its classes by index."""

    labels: list[str]


class ModelList(BaseModel):
    """Every model that the service runs, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Health(BaseModel):
    """Whether the service runs."""

    status: Literal["ok"] = "ok"
