"""What a refused request is answered: a status, a code that stays, and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

_NOT_JSON = "the body is not valid JSON"
_TOLD = {
    404: ("not_found", "there is nothing at this path"),
    405: ("method_not_allowed", "this path does not take this method"),
}


class ServiceError(HTTPException):
    """A request that is not answered.

    Args:
        status: of HTTP.
        code: stays the same whatever the sentence says.
        message: what was given, the rule, what to do.
        headers: sent along.
        reason: why it counts as refused in the metrics; empty if the mistake is the client's.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, reason: str = ""
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code, self.message, self.reason = code, message, reason


def busy(code: str, message: str, seconds: float = 1) -> ServiceError:
    """A 503 that says when to try again."""
    return ServiceError(503, code, message, {"Retry-After": str(max(1, round(seconds)))}, reason=code)


def route_path(scope: Mapping[str, Any]) -> str:
    """The path of a request within the service, whether or not a proxy has cut off what it shows the service under."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] if path.startswith(f"{root}/") else path


def error_response(error: ServiceError, scope: Mapping[str, Any]) -> Response:
    """An error as JSON: under /v2 as the Open Inference Protocol has it, else as OpenAI's clients read it."""
    state = scope.get("state", {})
    state["code"], state["reason"] = error.code, error.reason
    if route_path(scope).startswith("/v2"):
        return JSONResponse({"error": error.message, "code": error.code}, error.status_code, error.headers)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    told = {"code": error.code, "message": error.message, "type": kind, "request_id": state.get("request_id")}
    return JSONResponse({"error": told}, error.status_code, error.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app in one form."""

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        if error.detail == "There was an error parsing the body":  # FastAPI's, of JSON that is too deep
            error = ServiceError(400, "invalid_json", _NOT_JSON)
        if not isinstance(error, ServiceError):
            code, told = _TOLD.get(error.status_code, ("bad_request", str(error.detail)))
            error = ServiceError(error.status_code, code, f"{told}; /docs lists what there is", error.headers)
        return error_response(error, request.scope)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(invalid(error.errors()), request.scope)

    app.add_exception_handler(StarletteHTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)


def invalid(problems: Sequence[Any], not_json: str = _NOT_JSON) -> ServiceError:
    """A refusal that names the first of pydantic's problems, but not the value: it may be an image."""
    first = problems[0]
    if first["type"] == "json_invalid":
        return ServiceError(400, "invalid_json", not_json)
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return ServiceError(422, "invalid_request", f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}")
