"""The application behind the review page.

    app = create_app(Review(store, queue, links, people, "default"))
    uvicorn.run(app, host="127.0.0.1", port=8022)

The page itself and its scripts hold no data and need no login; everything else needs the cookie that a person's link
is exchanged for. Work on the database runs in threads; images have threads of their own, so that a large one holds no
verdict up.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Annotated, Literal

import anyio
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BeforeValidator

from anomreason.review.images import ShownImage, Side, shown_crop, shown_image
from anomreason.review.messages import (
    AnnotatedSent,
    AnnotationSent,
    AnnotationTakenBack,
    ImageDecisionSent,
    ItemImages,
    Items,
    KeptAnnotation,
    Me,
    NextItems,
    Opinions,
    Taken,
    Undoing,
    UndoSent,
    VerdictSent,
)
from anomreason.review.owner import OwnerReport
from anomreason.review.reviewing import Review
from anomreason.review.security import Reviewer, refuse, reviewer_of
from anomreason.web.guard import Guard
from anomreason.web.pages import invalid_link, page_file
from anomreason.web.problems import Problem, add_problems

PAGE = files("anomreason.review") / "page"
COOKIE_SECONDS = 30 * 24 * 3600
FOR_EVER = "private, max-age=31536000, immutable"
_Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
_Have = Annotated[str, Query(pattern=r"^(\d{1,18}(,\d{1,18}){0,99})?$")]
"""Ids that the page has already, separated by commas."""
_Side = Annotated[Side, BeforeValidator(int)]
_Version = Annotated[str, Query(max_length=64)]


def _review(request: Request) -> Review:
    review: Review = request.app.state.review
    return review


async def _person(request: Request) -> Reviewer:
    """Who asks, by the cookie."""
    review = _review(request)
    person = reviewer_of(request.cookies.get(review.links.cookie, ""), review.people)
    if person is None:
        raise HTTPException(401, "you are not signed in; open the link that you were given again")
    return person


async def _owner(request: Request) -> Reviewer:
    person = await _person(request)
    if not person.owner:
        raise HTTPException(403, "this is for the owner of the dataset; ask them")
    return person


_Person = Annotated[Reviewer, Depends(_person)]
_Owner = Annotated[Reviewer, Depends(_owner)]
_Reviewing = Annotated[Review, Depends(_review)]


def create_app(review: Review) -> FastAPI:
    """The application for one round."""
    app = FastAPI(
        title="anomreason review",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={status: {"model": Problem} for status in (400, 401, 403, 404, 413, 422, 503)},
    )
    app.state.review = review
    app.state.decoding = anyio.CapacityLimiter(2)
    app.add_middleware(Guard, refuse=refuse)
    add_problems(app, "load the page again")
    _add_pages(app)
    _add_candidates(app)
    _add_annotating(app)
    _add_images(app)
    _add_owner(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return page_file(PAGE, "index.html")

    @app.get("/owner", include_in_schema=False)
    def owner_page() -> Response:
        return page_file(PAGE, "owner.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return page_file(PAGE, "static", name)

    @app.get("/enter/{token:path}", include_in_schema=False)
    async def enter(review: _Reviewing, token: str) -> Response:
        if reviewer_of(token, review.people) is None:
            return invalid_link("the dataset", "Go on with the link that this browser had before")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            review.links.cookie, token, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", path="/"
        )
        return answer


def _add_candidates(app: FastAPI) -> None:
    @app.get("/api/me")
    def me(review: _Reviewing, person: _Person) -> Me:
        """Who uses the page."""
        return review.me(person)

    @app.get("/api/next")
    def next_items(
        review: _Reviewing, person: _Person, count: Annotated[int, Query(ge=0, le=20)] = 3, have: _Have = ""
    ) -> NextItems:
        """Items to judge, besides those that the page has already."""
        return review.next(person, count, _ids(have))

    @app.post("/api/verdict")
    def verdict(review: _Reviewing, person: _Person, sent: VerdictSent) -> Taken:
        """Keep a verdict."""
        if sent.final and not person.owner:
            raise HTTPException(403, "only the owner settles disagreements; leave 'final' out")
        return review.answer(person, sent)

    @app.post("/api/undo")
    def undo(review: _Reviewing, person: _Person, sent: UndoSent) -> Undoing:
        """Take back the latest verdict of the one who asks."""
        return review.undo(person, sent.key)

    @app.get("/api/image-items/{image}")
    def image_items(review: _Reviewing, person: _Person, image: _Id) -> Items:
        """All candidates of an image that wait for this person."""
        return review.image_items(person, image)

    @app.get("/api/group/{candidate}")
    def group(review: _Reviewing, person: _Person, candidate: _Id) -> Items:
        """A candidate and those nearly identical to it that wait for this person."""
        return review.group(person, candidate)


def _add_annotating(app: FastAPI) -> None:
    @app.get("/api/images")
    def images(
        review: _Reviewing,
        person: _Person,
        mode: Literal["keep", "annotate"],
        count: Annotated[int, Query(ge=0, le=20)] = 3,
        have: _Have = "",
    ) -> ItemImages:
        """Images that nobody has kept or dropped yet, or that this person has not annotated."""
        return review.images(person, mode, count, _ids(have))

    @app.post("/api/image/{image}")
    def keep_or_drop(review: _Reviewing, person: _Person, image: _Id, sent: ImageDecisionSent) -> Taken:
        """Keep or drop an image."""
        return review.decide(person, image, sent)

    @app.post("/api/annotation")
    def annotation(review: _Reviewing, person: _Person, sent: AnnotationSent) -> KeptAnnotation:
        """Keep an anomaly that a person found."""
        return review.annotate(person, sent)

    @app.post("/api/annotation/undo")
    def take_annotation_back(review: _Reviewing, person: _Person, sent: AnnotationTakenBack) -> Taken:
        """Take back an anomaly that this person found."""
        return review.take_annotation_back(person, sent)

    @app.post("/api/annotated")
    def annotated(review: _Reviewing, person: _Person, sent: AnnotatedSent) -> Taken:
        """A person has written down all anomalies of an image."""
        return review.annotated(person, sent)


def _ids(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _add_images(app: FastAPI) -> None:
    @app.get("/image/{image}", response_class=Response)
    async def image_file(
        request: Request, review: _Reviewing, _: _Person, image: _Id, side: _Side = 1536, v: _Version = ""
    ) -> Response:
        """An image, bounded; v: the beginning of its hash, so that the browser may keep it for ever."""
        return await _shown(request, v, partial(shown_image, review.store, image, side))

    @app.get("/crop/{candidate}", response_class=Response)
    async def crop_file(request: Request, review: _Reviewing, _: _Person, candidate: _Id, v: _Version = "") -> Response:
        """The region of a candidate, enlarged."""
        return await _shown(request, v, partial(shown_crop, review.store, candidate))


async def _shown(request: Request, version: str, make: partial[ShownImage | None]) -> Response:
    image = await anyio.to_thread.run_sync(make, limiter=request.app.state.decoding)
    if image is None:
        raise HTTPException(404, "there is no such image; load the page again")
    known = len(version) >= 8 and image.sha256.startswith(version)
    return Response(image.data, media_type="image/jpeg", headers={"Cache-Control": FOR_EVER if known else "no-store"})


def _add_owner(app: FastAPI) -> None:
    @app.get("/api/disputed")
    def disputed(review: _Reviewing, _: _Owner) -> Items:
        """Candidates on which people disagree; what they said is asked for apart."""
        return review.disputed()

    @app.get("/api/opinions/{candidate}")
    def opinions(review: _Reviewing, _: _Owner, candidate: _Id) -> Opinions:
        """What people said of one candidate."""
        return review.opinions(candidate)

    @app.get("/api/owner")
    def owner(review: _Reviewing, _: _Owner) -> OwnerReport:
        """How the review goes."""
        return review.report()
