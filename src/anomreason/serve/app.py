"""The application: `POST /v1/detect` and `/v1/gate`, jobs with their progress, health, metrics, and the page.

app = create_app(service, Access(clients, "anomreason_serve"))
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anomreason.errors import StorageError
from anomreason.gating.limits import Limits, judged
from anomreason.serve.access import CHALLENGE, COOKIE_SECONDS, Access
from anomreason.serve.clients import Client
from anomreason.serve.jobs import ImageJob
from anomreason.serve.messages import AboutReply, GateReply, Health, JobReply, JobsReply, ServiceLimits
from anomreason.serve.metrics import Metrics
from anomreason.serve.service import Service
from anomreason.serve.streams import Streams
from anomreason.serve.uploads import FIELD
from anomreason.web.guard import Guard
from anomreason.web.pages import invalid_link, page_file
from anomreason.web.problems import Problem, add_problems

PAGE = files("anomreason.serve") / "page"
_UPLOADS = ("/v1/detect", "/v1/gate")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                    "required": [FIELD],
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{22}$")]
_Seconds = Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for the job's end.")]


# Not one of these is left to a thread, as FastAPI does with plain functions.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _client(request: Request) -> Client:
    return _access(request).client(request)


_Serving = Annotated[Service, Depends(_service)]
_Client = Annotated[Client, Depends(_client)]


async def _known_names(request: Request) -> None:
    """Raises RequestValidationError for a name in the address that the route does not know, e.g. a mistyped limit."""
    route: str = request.scope["route"].path
    if not route.startswith("/v1/"):
        return  # a page, or a probe of health
    operation = request.app.openapi()["paths"][route][request.method.lower()]
    known = sorted(one["name"] for one in operation.get("parameters", ()) if one["in"] == "query")
    if unknown := sorted(request.query_params.keys() - set(known)):
        taken = f"known are {', '.join(known)}" if known else "none is known here"
        raise RequestValidationError([{"loc": ("query", unknown[0]), "msg": f"there is no such parameter, {taken}"}])


async def _job(service: _Serving, client: _Client, id: _Id) -> ImageJob:
    job = await service.find(id, client)
    if job is None:
        raise HTTPException(404, "there is no such job of yours; it may be too old: send the image again")
    return job


_TheJob = Annotated[ImageJob, Depends(_job)]


async def _limits(
    max_cap: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    min_severity: Annotated[float | None, Query(ge=0, le=100, allow_inf_nan=False)] = None,
    max_anomalies: Annotated[int | None, Query(ge=0)] = None,
    on_failure: Literal["error", "reject", "pass"] = "error",
) -> Limits:
    given = {"max_cap": max_cap, "min_severity": min_severity, "max_anomalies": max_anomalies}
    return Limits.of({**given, "on_failure": on_failure})


_GateLimits = Annotated[Limits, Depends(_limits)]


def create_app(service: Service, access: Access) -> FastAPI:
    """The application of an open service."""
    app = FastAPI(
        title="anomreason",
        version=version("anomreason"),
        description="Finds what is semantically wrong in images. Severity: 0 = completely implausible, 100 = fully "
        "realistic. Where tokens are needed: Authorization: Bearer TOKEN.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_known_names)],
        responses={status: {"model": Problem} for status in (401, 403, 404, 422, 503)},
    )
    app.state.service, app.state.access = service, access
    app.state.streams = Streams()
    app.add_middleware(CountAnswers, metrics=service.metrics)
    app.add_middleware(Guard, refuse=access.refuse, uploads=_UPLOADS)
    add_problems(app, "see /openapi.json")
    _add_pages(app)
    _add_detecting(app)
    _add_jobs(app)
    _add_watching(app)
    return app


class CountAnswers:
    """Around the application: counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(getattr(scope.get("route"), "path", "none"), message["status"])
            await send(message)

        await self.app(scope, receive, send_counted if scope["type"] == "http" else send)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return page_file(PAGE, "index.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return page_file(PAGE, "static", name)

    @app.get("/enter/{token:path}", include_in_schema=False)
    async def enter(request: Request, token: str) -> Response:
        access = _access(request)
        answer = RedirectResponse("/", 303)
        if access.clients.needed:
            if access.clients.client_of(token) is None:
                return invalid_link("this service", "Enter a token", CHALLENGE)
            secure = request.url.scheme == "https"
            answer.set_cookie(
                access.cookie, token, COOKIE_SECONDS, path="/", secure=secure, httponly=True, samesite="strict"
            )
        return answer

    @app.post("/v1/leave", status_code=204, response_class=Response)
    async def leave(request: Request, _: _Client) -> Response:
        """Forget the login of this browser."""
        answer = Response(status_code=204)
        answer.delete_cookie(_access(request).cookie, path="/", httponly=True, samesite="strict")
        return answer


_REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 402, 408, 413, 415, 429)}
_WAITS: dict[int | str, dict[str, Any]] = {202: {"model": JobReply, "description": "The job has not ended yet."}}


def _add_detecting(app: FastAPI) -> None:
    @app.post("/v1/detect", response_model=JobReply, responses={**_REFUSALS, **_WAITS}, openapi_extra=_BODY)
    async def detect(request: Request, service: _Serving, client: _Client, wait: _Seconds = 0) -> Response:
        """Find what is wrong in an image: 200 with the job when it has ended, else 202. The same image is paid once."""
        job = await _submitted(request, service, client, wait)
        return _json(job, 200 if job.ended else 202)

    @app.post(
        "/v1/gate",
        response_model=GateReply,
        responses={**_REFUSALS, 202: {"model": GateReply, "description": "The job has not ended yet."}},
        openapi_extra=_BODY,
    )
    async def gate(
        request: Request, service: _Serving, client: _Client, limits: _GateLimits, wait: _Seconds = 60
    ) -> Response:
        """Whether an image passes: give at least one limit. 202 when that is not known within the time to wait."""
        job = await _submitted(request, service, client, wait)
        return _json(_gated(job, limits), 200 if job.ended else 202)


async def _submitted(request: Request, service: Service, client: Client, wait: float) -> JobReply:
    service.admit(client)
    begun = time.monotonic()
    async with service.uploads.receiving(request) as upload:
        job = await service.submit(upload, client)
    del upload  # not kept in memory while somebody waits
    service.metrics.accepted(time.monotonic() - begun)
    if job.ended or not wait:
        return job
    return await service.wait(job.id, client, wait) or job


def _gated(job: JobReply, limits: Limits) -> GateReply:
    if not job.ended:
        later = "not assessed yet; send the image again, or ask for the job"
        return GateReply(passed=None, reasons=[later], result=None, detection=None, job=job)
    if job.detection is None:
        why = f"not assessed: {job.failure.kind}: {job.failure.message}" if job.failure else "not assessed"
        return GateReply(passed=None, reasons=[why], result=None, detection=None, job=job)
    result = judged(job.detection, limits)
    return GateReply(
        passed=result.passed, reasons=list(result.reasons), result=result, detection=job.detection, job=job
    )


def _json(reply: JobReply | GateReply, status: int) -> Response:
    return Response(reply.model_dump_json(), status, media_type="application/json")


def _add_jobs(app: FastAPI) -> None:
    @app.get("/v1/jobs")
    async def jobs(service: _Serving, client: _Client, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> JobsReply:
        """The latest jobs of the one who asks."""
        return JobsReply(jobs=await service.latest(client, limit))

    @app.get("/v1/jobs/{id}", response_model=JobReply)
    async def job(service: _Serving, client: _Client, found: _TheJob, wait: _Seconds = 0) -> Response:
        """One job, as it is or when it has ended."""
        reply = await service.wait(found.id, client, wait)
        if reply is None:
            raise HTTPException(404, "there is no such job of yours any more; send the image again")
        return _json(reply, 200)

    @app.get("/v1/jobs/{id}/image", response_class=Response)
    async def image(service: _Serving, found: _TheJob) -> Response:
        """The image of a job as the model gets it; it is dropped when the job has ended, unless images are kept."""
        encoded = await service.image(found)
        if encoded is None:
            raise HTTPException(404, "the image was dropped when its job ended (--keep-images keeps them)")
        return Response(encoded.data, media_type=encoded.mime, headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/v1/jobs/{id}/events", response_class=StreamingResponse, responses={429: {"model": Problem}})
    async def events(request: Request, service: _Serving, client: _Client, found: _TheJob) -> Response:
        """Server-sent events: `job` with the job, at once and at each change until it has ended."""
        streams: Streams = request.app.state.streams
        return streams.stream(client, _lines(service.events(found.id, client)))


async def _lines(replies: AsyncIterator[JobReply | None]) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    async for reply in replies:
        yield ": still at work\n\n" if reply is None else f"event: job\ndata: {reply.model_dump_json()}\n\n"


def _add_watching(app: FastAPI) -> None:
    @app.get("/v1/me")
    async def me(service: _Serving, client: _Client) -> AboutReply:
        """Who asks, what this service does, and what is left of the budget."""
        setup, options = service.detecting.setup, service.options
        return AboutReply(
            client=client.name or None,
            model=setup.model,
            schedule=setup.options.schedule,
            simulated=setup.model.startswith("sim:"),
            judges_source=bool(setup.options.source_calls),
            price_known=setup.price is not None,
            usual=service.detecting.usual(),
            allowance=service.allowance(client),
            limits=ServiceLimits(
                upload_bytes=options.upload_bytes,
                queue=options.queue,
                max_cost=setup.options.max_cost,
                max_tokens=setup.options.max_tokens,
            ),
            keeps_images=options.keep_images,
            keep_days=options.keep_days,
            queued=service.queued,
            running=service.running,
            version=version("anomreason"),
        )

    @app.get("/healthz")
    async def health() -> Health:
        """Whether the process answers."""
        return Health(ok=True)

    @app.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    async def ready(service: _Serving) -> Response:
        """Whether images sent now will be worked on: 503 with the reasons when not."""
        problems = service.problems()
        try:
            await service.quickly(service.jobs.find, "")
        except StorageError as error:
            problems.append(str(error))
        return JSONResponse(Health(ok=not problems, problems=problems).model_dump(), 503 if problems else 200)

    @app.get("/metrics", response_class=Response)
    async def metrics(service: _Serving, _: _Client) -> Response:
        """Numbers for Prometheus."""
        text = service.metrics.text(service.queued, service.running, service.uploads.held)
        return Response(text, media_type="text/plain; version=0.0.4")
