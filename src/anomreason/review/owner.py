"""What the owner of a dataset sees: how far the review is, how good the candidates are, how well people agree.

    owner_report(store, round_id, share, within=0.02).people[0].accepted

Progress and acceptance come from the tallies that are kept with each verdict; only the candidates that two people
judged are read for the agreement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import sqrt

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from anomreason.anomaly import Result
from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, ItemRow, Outcome, RoundRow, TallyRow, VerdictRow
from anomreason.dataset.verdicts import OUTCOMES
from anomreason.metrics.agreement import Verdict, agreement
from anomreason.review.estimate import FEWEST_AT_RANDOM, ShareCorrect, verdicts_needed
from anomreason.review.strata import Dimension
from anomreason.stats import Estimate, wilson

SHOWN = 100
"""Flagged candidates that are listed."""
FEWEST = 30
"""Verdicts of a person, and of all others together, before they are compared."""
RULE = (
    f"Somebody is named who has {FEWEST} verdicts or more and accepts a share that is more than 10 points from the "
    "others' and by more than 3 standard errors, or takes less than a third or more than three times of the others' "
    "mean time, or is right on fewer than 70 % of 10 or more gold candidates."
)


class ShareOf(Result):
    """A share with its 95 % interval."""

    value: float | None
    """0..1; None when the data define none."""
    low: float | None
    high: float | None
    n: int
    """What it is a share of, or the items it comes from."""


class ChoiceCount(Result):
    """How often each choice was made about one sort of candidates; gold ones are left out."""

    name: str
    accept: int
    reject: int
    unsure: int
    accepted: ShareOf
    """Accepted among accepted and rejected."""


class StratumReport(ChoiceCount):
    """A part of the round: what was said of it, and how good all of it is."""

    correct: ShareOf
    """Estimated share of correct candidates among all of the part; None while too few drawn at random are judged."""
    size: int
    """Candidates of the part."""


class PersonReport(ChoiceCount):
    """How one person works."""

    seconds: float | None
    """A verdict takes on average."""
    gold: ShareOf
    """Right among the gold candidates judged."""
    warnings: list[str]


class PairReport(Result):
    """Agreement of two people on the candidates that both judged."""

    one: str
    other: str
    agree: ShareOf
    cohen_kappa: ShareOf


class AgreementReport(Result):
    """Agreement on the candidates that two people or more judged."""

    items: int
    agree: ShareOf
    """Share of pairs of verdicts that are the same."""
    krippendorff_alpha: ShareOf
    gwet_ac1: ShareOf
    pairs: list[PairReport]


class StopReport(Result):
    """How good the candidates are by now, and whether that is known well enough."""

    share: float | None
    """Estimated share of correct candidates in the whole round, 0..1; None while too few drawn at random are judged."""
    low: float
    high: float
    within: float
    """Half of the interval that is wanted."""
    reached: bool
    judged: int
    size: int
    """Candidates of the round, gold ones left out."""
    needed: int
    """About how many more verdicts bring the interval to +- within."""
    outlook: list[tuple[float, int]]
    """Half of an interval, and about how many more verdicts it takes."""
    sentence: str


class Flagged(Result):
    """A candidate that somebody wants the owner to look at."""

    candidate: int
    image: int
    name: str
    person: str
    reason: str | None


class OwnerReport(Result):
    """All of the owner's page."""

    verdicts: int
    wanted: int
    estimate: StopReport
    people: list[PersonReport]
    sources: list[StratumReport]
    kinds: list[StratumReport]
    roles: list[StratumReport]
    detectors: list[StratumReport]
    agreement: AgreementReport | None
    """None as long as no candidate has two verdicts."""
    rule: str
    """When a person is warned of."""
    disputed: int
    flagged: list[Flagged]


def owner_report(
    store: Store,
    round_id: int,
    share: ShareCorrect,
    strata: Mapping[Dimension, Mapping[str, ShareCorrect]],
    within: float,
) -> OwnerReport:
    """The report of one round.

    share: as `Queue.progress` gives it; strata: as `Strata.shares`; within: half of the interval that is enough.
    """
    with store.reading() as session:
        row = session.get_one(RoundRow, round_id)
        tallies = session.scalars(select(TallyRow).where(TallyRow.round_id == round_id, TallyRow.count > 0)).all()
        double = _double_verdicts(session, round_id)
        flagged = _flagged(session, round_id)
        disputed = session.scalar(
            select(func.count())
            .select_from(ItemRow)
            .join(CandidateRow, CandidateRow.id == ItemRow.candidate_id)
            .where(CandidateRow.outcome == Outcome.DISPUTED, ItemRow.round_id == round_id)
        )
    plain = [t for t in tallies if not t.gold]
    random_share = 1.0 if row.settings.get("order") == "random" else float(row.settings.get("random_share", 1.0))
    return OwnerReport(
        verdicts=min(sum(t.count for t in plain), row.passes),
        wanted=row.passes,
        estimate=stop_report(share, within, random_share),
        people=people_reports(tallies),
        sources=_parts(plain, lambda t: t.source, strata["source"]),
        kinds=_parts(plain, lambda t: t.kind, strata["kind"]),
        roles=_parts(plain, lambda t: t.role, strata["role"]),
        detectors=_parts(plain, lambda t: t.detector, strata["detector"]),
        agreement=_agreement(double),
        rule=RULE,
        disputed=disputed or 0,
        flagged=flagged,
    )


def stop_report(share: ShareCorrect, within: float, random_share: float) -> StopReport:
    """Whether the review may stop; random_share: of the handed-out items, those drawn at random."""
    reached = share.share is not None and share.half_width <= within
    needed = verdicts_needed(share, within, random_share)
    outlook = [(w, verdicts_needed(share, w, random_share)) for w in (0.05, 0.03, 0.02, 0.01)]
    wanted = f"You wanted ±{within:.1%}"
    progress = f"{share.judged:,} of {share.size:,} candidates"
    if share.share is None and not random_share:
        sentence = f"{wanted}. Nothing is drawn at random in this round: the share is known when all are judged."
    elif share.share is None:
        sentence = f"{wanted}. Too few verdicts at random yet: an estimate needs {FEWEST_AT_RANDOM} of them, or all."
    elif reached:
        sentence = f"{wanted}; it is ±{share.half_width:.1%} after {progress}. Reviewing may stop."
    else:
        sentence = f"{wanted}; it is ±{share.half_width:.1%} after {progress}. About {needed:,} more verdicts reach it."
    return StopReport(
        share=share.share,
        low=share.low,
        high=share.high,
        within=within,
        reached=reached,
        judged=share.judged,
        size=share.size,
        needed=needed,
        outlook=[(w, n) for w, n in outlook if n],
        sentence=sentence,
    )


def people_reports(tallies: Sequence[TallyRow]) -> list[PersonReport]:
    """How each person works, with warnings by `RULE`."""
    by_person: dict[str, list[TallyRow]] = defaultdict(list)
    for tally in tallies:
        by_person[tally.person].append(tally)
    found = []
    for person, own in sorted(by_person.items()):
        count = _count(person, [t for t in own if not t.gold])
        gold = [t for t in own if t.gold]
        right = _share(sum(t.count for t in gold if t.choice == t.gold), sum(t.count for t in gold))
        others = [t for t in tallies if t.person != person]
        given = sum(t.count for t in own)
        found.append(
            PersonReport(
                **count.model_dump(exclude={"accepted"}),
                accepted=count.accepted,
                seconds=sum(t.seconds for t in own) / given if given else None,
                gold=right,
                warnings=list(_warnings(own, others, right)),
            )
        )
    return found


def _warnings(own: Sequence[TallyRow], others: Sequence[TallyRow], gold: ShareOf) -> Iterable[str]:
    if gold.value is not None and gold.n >= 10 and gold.value < 0.7:
        yield f"is right on {gold.value:.0%} of {gold.n} gold candidates"
    given, theirs = sum(t.count for t in own), sum(t.count for t in others)
    if min(given, theirs) < FEWEST:
        return
    mine, rest = _count("", [t for t in own if not t.gold]), _count("", [t for t in others if not t.gold])
    if mine.accepted.value is not None and rest.accepted.value is not None:
        accepted = mine.accept + rest.accept
        both = mine.accepted.n + rest.accepted.n
        spread = sqrt(accepted / both * (1 - accepted / both) * (1 / mine.accepted.n + 1 / rest.accepted.n))
        if abs(mine.accepted.value - rest.accepted.value) > max(0.1, 3 * spread):
            yield f"accepts {mine.accepted.value:.0%}, the others {rest.accepted.value:.0%}"
    seconds, usual = sum(t.seconds for t in own) / given, sum(t.seconds for t in others) / theirs
    if usual > 0 and not usual / 3 <= seconds <= usual * 3:
        yield f"takes {seconds:.1f} s a verdict, the others {usual:.1f} s"


def _parts(
    tallies: Iterable[TallyRow], key: Callable[[TallyRow], str], shares: Mapping[str, ShareCorrect]
) -> list[StratumReport]:
    """By a field of the tallies, the most frequent first. shares: the estimates, by the same names."""
    groups: dict[str, list[TallyRow]] = defaultdict(list)
    for tally in tallies:
        groups[key(tally)].append(tally)
    parts = []
    for name, group in groups.items():
        count, found = _count(name, group), shares.get(name, ShareCorrect(None, 0.0, 1.0, 0, 0))
        known = found.share is not None
        correct = ShareOf(
            value=found.share, low=found.low if known else None, high=found.high if known else None, n=found.judged
        )
        more = {"accepted": count.accepted, "correct": correct, "size": found.size}
        parts.append(StratumReport(**{**count.model_dump(), **more}))
    return sorted(parts, key=lambda c: (-(c.accept + c.reject + c.unsure), c.name))


def _count(name: str, tallies: Sequence[TallyRow]) -> ChoiceCount:
    accept, reject, unsure = (sum(t.count for t in tallies if t.choice == choice) for choice in OUTCOMES)
    return ChoiceCount(name=name, accept=accept, reject=reject, unsure=unsure, accepted=_share(accept, accept + reject))


def _share(part: int, n: int) -> ShareOf:
    """With Wilson's interval."""
    if not n:
        return ShareOf(value=None, low=None, high=None, n=0)
    low, high = wilson(part / n, n)
    return ShareOf(value=part / n, low=low, high=high, n=n)


def _double_verdicts(session: Session, round_id: int) -> list[Verdict]:
    """The verdicts that count on candidates that two people are to judge."""
    undo = aliased(VerdictRow)
    undone = select(undo.id).where(undo.undoes == VerdictRow.id).exists()
    query = (
        select(VerdictRow.candidate_id, VerdictRow.person, VerdictRow.choice)
        .join(ItemRow, (ItemRow.candidate_id == VerdictRow.candidate_id) & (ItemRow.round_id == VerdictRow.round))
        .where(
            VerdictRow.round == round_id,
            ItemRow.passes > 1,
            VerdictRow.choice.in_(OUTCOMES),
            VerdictRow.final.is_(False),
            ~undone,
        )
        .order_by(VerdictRow.id)
    )
    last = {(candidate, person): choice for candidate, person, choice in session.execute(query)}
    return [Verdict(str(candidate), person, choice) for (candidate, person), choice in last.items()]


def _agreement(verdicts: Sequence[Verdict]) -> AgreementReport | None:
    if len({v.item for v in verdicts}) == len(verdicts):
        return None
    found = agreement(verdicts, np.random.default_rng(0), tuple(OUTCOMES))
    return AgreementReport(
        items=found.items - found.judged_once,
        agree=_estimated(found.raw),
        krippendorff_alpha=_estimated(found.krippendorff_alpha),
        gwet_ac1=_estimated(found.gwet_ac1),
        pairs=[
            PairReport(one=p.one, other=p.other, agree=_estimated(p.raw), cohen_kappa=_estimated(p.cohen_kappa))
            for p in found.pairs
        ],
    )


def _estimated(one: Estimate) -> ShareOf:
    low, high = one.interval or (None, None)
    return ShareOf(value=one.value, low=low, high=high, n=one.n)


def _flagged(session: Session, round_id: int) -> list[Flagged]:
    """The latest flags that nobody took back."""
    undo = aliased(VerdictRow)
    undone = select(undo.id).where(undo.undoes == VerdictRow.id).exists()
    query = (
        select(CandidateRow.id, CandidateRow.image_id, CandidateRow.name, VerdictRow.person, VerdictRow.reason)
        .join_from(VerdictRow, CandidateRow, CandidateRow.id == VerdictRow.candidate_id)
        .where(VerdictRow.round == round_id, VerdictRow.choice == "flag", ~undone)
        .order_by(VerdictRow.id.desc())
        .limit(SHOWN)
    )
    return [
        Flagged(candidate=candidate, image=image, name=name, person=person, reason=reason)
        for candidate, image, name, person, reason in session.execute(query)
    ]
