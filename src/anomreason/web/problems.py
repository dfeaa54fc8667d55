"""Every error as JSON that says what to do.

add_problems(app, "load the page again")
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from anomreason.errors import StorageError, UnreadableImage, UsageError, shown

_PLAIN = ("Not Found", "Method Not Allowed")
"""What Starlette says by itself."""


class Problem(BaseModel):
    """Why something was not done, and what to do."""

    error: str


def add_problems(app: FastAPI, remedy: str) -> None:
    """Answer errors as `Problem`. remedy: what whoever sent a request that cannot be used is to do."""

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        known = {404: f"there is nothing here; {remedy}", 405: f"{request.method} is not possible here; {remedy}"}
        text = known.get(error.status_code, error.detail) if error.detail in _PLAIN else error.detail
        return JSONResponse({"error": text}, error.status_code, error.headers)

    def of_request(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:])) or "the request"
        place = place if place.isprintable() and len(place) <= 60 else shown(place)
        return JSONResponse({"error": f"{place}: {first['msg']}; {remedy}"}, 422)

    def answer_with(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: JSONResponse({"error": str(error)}, status)

    app.add_exception_handler(StarletteHTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_request)
    app.add_exception_handler(UsageError, answer_with(400))
    app.add_exception_handler(UnreadableImage, answer_with(404))
    app.add_exception_handler(StorageError, answer_with(503))
