"""Rounds: which candidates people judge, and in which order.

    with store.command("review", {}) as command:
        begin_round(store, command.id, RoundOptions(overlap=0.1))

The order is fixed when the round begins: the places are drawn for the random slice or given by worth. So every estimate
is one of a known design, and a server that is killed and started again goes on in the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import (
    OUT_OF_DOMAIN,
    CandidateRow,
    DetectionRow,
    ImageRow,
    ImageState,
    ItemRow,
    Origin,
    Outcome,
    RoundRow,
)
from anomreason.errors import UsageError
from anomreason.review.worth import Worth, disagreements, doubts_by_likeness, worths
from anomreason.runs import settings_difference

_KNOWS = (DetectionRow.status == "ok") & ~func.coalesce(OUT_OF_DOMAIN, False)
"""A detector looked at an image, and knows such images."""
_ROWS = 20_000
"""Items that are written in one transaction's statement."""


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """How a round chooses and orders candidates."""

    name: str = "default"
    order: Literal["worth", "random"] = "worth"
    """`worth`: those first whose verdict tells most (see worth.py); `random`: all in random order."""
    random_share: float = 0.3
    """With `worth`: share of the places that are drawn at random all the same, so that the estimate holds. 0..1."""
    overlap: float = 0.0
    """Share of the items that two people judge without knowing of each other, 0..1."""
    gold: int = 0
    """How many candidates of known truth (of scenes, or settled by the owner) are mixed in."""
    detector: str | None = None
    """Only candidates of this detector; None: of all."""
    seed: int = 0


def options_of(store: Store, name: str) -> RoundOptions | None:
    """What a round was begun with; None when there is no such round."""
    with store.reading() as session:
        settings = session.scalar(select(RoundRow.settings).where(RoundRow.name == name))
    return None if settings is None else RoundOptions(**settings)


def begin_round(store: Store, command: int, options: RoundOptions = RoundOptions()) -> int:
    """Begin a round over all candidates that nobody has judged yet; gives its id. One that exists is continued.

    Raises UsageError when there is nothing to judge, or the round was begun with other options.
    """
    settings = asdict(options)
    with store.reading() as session:
        there = session.scalar(select(RoundRow).where(RoundRow.name == options.name))
    if there is not None:
        if differences := settings_difference(_as_options(there.settings), _as_options(settings)):
            raise UsageError(
                f"the round {options.name!r} was begun with other options ({'; '.join(differences)}); leave them out "
                "or give the same ones to continue it, or begin another round with --round NAME"
            )
        return there.id
    rng = np.random.default_rng(options.seed)
    with store.writing() as session:
        rows = session.execute(_candidates(options)).all()
        if not rows:
            raise UsageError("no candidate is waiting for a verdict; find some with anomreason dataset annotate")
        ids = np.array([row.id for row in rows], np.int64)
        worth = _worths(session, rows) if options.order == "worth" else np.zeros(len(rows))
        ranks, order, random = order_of(worth, options, rng)
        golds = _golds(session.execute(_known(options)).all(), options.gold, rng)
        two = rng.random(len(ids)) < options.overlap
        passes = len(ids) + int(two.sum())
        row = RoundRow(name=options.name, settings=settings, size=len(ids), passes=passes, command_id=command)
        session.add(row)
        session.flush()
        # Gold items stand between the others, evenly.
        step = len(ids) / max(1, len(golds))
        positions = np.arange(len(ids)) + np.searchsorted(np.arange(len(golds)) * step, np.arange(len(ids)), "right")
        items = [
            _item(row.id, int(ids[n]), int(p), int(ranks[n]), bool(r), None, 2 if two[n] else 1)
            for p, n, r in zip(positions, order, random, strict=True)
        ]
        free = sorted(set(range(len(ids) + len(golds))) - {i["position"] for i in items})
        items += [_item(row.id, c, p, -1, False, right, 1) for p, (c, right) in zip(free, golds, strict=True)]
        for start in range(0, len(items), _ROWS):
            add_new(session, ItemRow, items[start : start + _ROWS])
        return row.id


def _as_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a round by the names of the command's options."""
    return {f"--{name.replace('_', '-')}": value for name, value in settings.items()}


def _worths(session: Session, rows: Sequence[Row[int, float | None, str | None, int, str]]) -> Worth:
    """How much each candidate's verdict is worth, (n,)."""
    scores = np.array([np.nan if row.score is None else row.score for row in rows])
    worth = worths(scores, [row.kind for row in rows])
    looked: dict[int, set[str]] = defaultdict(set)
    several = select(DetectionRow.image_id).where(_KNOWS).group_by(DetectionRow.image_id).having(func.count() > 1)
    of_several = select(DetectionRow.image_id, DetectionRow.detector).where(_KNOWS, DetectionRow.image_id.in_(several))
    for image, detector in session.execute(of_several):
        looked[image].add(detector)
    if looked:
        proposals: dict[tuple[int, str | None], set[str]] = defaultdict(set)
        made = select(CandidateRow.image_id, CandidateRow.kind, CandidateRow.detector).distinct()
        for image, kind, detector in session.execute(made.where(CandidateRow.dropped.is_(None))):
            if image in looked:
                proposals[image, kind].add(detector)
        worth = worth + disagreements([(r.image_id, r.detector, r.kind) for r in rows], proposals, looked)
    rejected = session.execute(
        select(CandidateRow.kind, CandidateRow.name).where(CandidateRow.outcome == Outcome.REJECTED)
    ).all()
    if rejected:
        ids = {row.id: n for n, row in enumerate(rows)}
        named = [(row.kind, "") for row in rows]
        names = select(CandidateRow.id, CandidateRow.name).where(CandidateRow.outcome == Outcome.UNVERIFIED)
        for candidate, name in session.execute(names):
            if candidate in ids:
                named[ids[candidate]] = named[ids[candidate]][0], name
        worth = worth + doubts_by_likeness(named, [(kind, name) for kind, name in rejected])
    return worth


def order_of(
    worth: Worth, options: RoundOptions, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], list[int], list[bool]]:
    """Rank by worth of each candidate; then candidate and way of choice for each place."""
    size = len(worth)
    by_worth = np.argsort(-worth, kind="stable")
    ranks = np.empty(size, np.int64)
    ranks[by_worth] = np.arange(size)
    shuffled = rng.permutation(size)
    draws = rng.random(size) < (1.0 if options.order == "random" else options.random_share)
    taken = np.zeros(size, bool)
    sources = {False: iter(by_worth.tolist()), True: iter(shuffled.tolist())}
    order: list[int] = []
    for draw in draws.tolist():
        chosen = next(n for n in sources[draw] if not taken[n])
        taken[chosen] = True
        order.append(chosen)
    return ranks, order, draws.tolist()


def _candidates(options: RoundOptions) -> Select[int, float | None, str | None, int, str]:
    """Candidates of images in the dataset that nobody has judged and that their detector did not drop itself."""
    query = (
        select(CandidateRow.id, CandidateRow.score, CandidateRow.kind, CandidateRow.image_id, CandidateRow.detector)
        .join(ImageRow)
        .where(
            CandidateRow.outcome == Outcome.UNVERIFIED,
            CandidateRow.origin == Origin.DETECTOR,
            CandidateRow.dropped.is_(None),
            ImageRow.status == ImageState.KEPT,
        )
        .order_by(CandidateRow.id)
    )
    return query.where(CandidateRow.detector == options.detector) if options.detector else query


def _known(options: RoundOptions) -> Select[int, str, str]:
    """Candidates of known truth, of images in the dataset."""
    return (
        select(CandidateRow.id, CandidateRow.origin, CandidateRow.outcome)
        .join(ImageRow)
        .where(
            (CandidateRow.origin == Origin.SCENE) | CandidateRow.outcome.in_((Outcome.ACCEPTED, Outcome.REJECTED)),
            CandidateRow.dropped.is_(None),
            ImageRow.status == ImageState.KEPT,
        )
        .order_by(CandidateRow.id)
        .limit(100 * options.gold)
    )


def _golds(rows: Sequence[Row[int, str, str]], count: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Some of the candidates of known truth, each with the right choice."""
    chosen = rng.permutation(len(rows))[:count].tolist()
    return [(rows[n][0], "reject" if rows[n][2] == Outcome.REJECTED else "accept") for n in chosen]


def _item(
    round_id: int, candidate: int, position: int, rank: int, random: bool, gold: str | None, passes: int
) -> dict[str, object]:
    return {
        "round_id": round_id,
        "candidate_id": candidate,
        "position": position,
        "rank": rank,
        "random": random,
        "gold": gold,
        "passes": passes,
        "needed": passes,
        "done": False,
    }
