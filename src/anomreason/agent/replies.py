"""The strict reading of the reply to each step, in the forms of `forms.py`.

A reply that is not in the form asked for is a ParseError whose message can be shown to the model; nothing is filled in.

    >>> read_proposals('{"findings": [], "nothing_found": true}')
    ()
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from anomreason.agent.boxes import BoxReader
from anomreason.agent.forms import (
    Anomalies,
    AttributeFindings,
    Check,
    CheckedReport,
    Checks,
    Findings,
    Form,
    Inspected,
    Inspection,
    MergedAnomaly,
    Notes,
    ObjectItem,
    Objects,
    ProposedAnomaly,
    Reading,
    Report,
    Reviewed,
    SourcedAnomaly,
    plain_key,
    repeated,
)
from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError, first_error, shown
from anomreason.textform import (
    answer_in,
    find_json,
    read_anomalies,
    read_severity,
    says_no_anomalies,
    stands_in_json,
    without_thinking,
)

KEEP = 50.0
"""A candidate with a lower score is dropped."""

F = TypeVar("F", bound=Form)
T = TypeVar("T")
Reader = Callable[[str, Notes], T]
"""Reads a reply and appends to the notes. Raises ParseError."""


def read_form(form: type[F], text: str, notes: Notes | None = None) -> F:
    """The reply as this form. Raises ParseError with what is missing, and where."""
    found = answer_in(without_thinking(text), lambda value: _shaped(form, value) is not None)
    if found is None:
        raise ParseError(f"there is no JSON object with {' and '.join(map(repr, _keys(form)))} in the answer")
    reading = Reading([])
    shaped = _shaped(form, found.value) or {}
    plain = {plain_key(key): entry for key, entry in shaped.items()}
    missing = [key for key, inner in _keys(form).items() if inner and key not in plain]
    strange = [key for key, entry in plain.items() if key not in _keys(form) and isinstance(entry, list | dict)]
    if missing and strange:
        raise ParseError(f"{missing[0]!r} is missing; there is {strange[0]!r} instead")
    try:
        value = form.model_validate(shaped, context=reading)
    except ValidationError as e:
        raise _complaint(e) from e
    severities = reading.numbers.get("severity", [])
    _on_the_scale("severity", severities)
    _note_low(severities, reading.notes)
    try:
        _on_the_scale("score", reading.numbers.get("score", []))
    except ParseError as e:
        raise _OtherScores(e, value) from e
    if found.repairs:
        reading.notes.append(
            f"a reply was not JSON to the letter and was read all the same: {', '.join(found.repairs)}"
        )
    if notes is not None:
        notes += reading.notes
    return value


def _complaint(error: ValidationError) -> ParseError:
    """What the first error of a form says; a ParseError that a validator wrapped keeps its two parts apart."""
    message = first_error(error, "the answer")
    cause = error.errors()[0].get("ctx", {}).get("error")
    write = next((e.write for e in getattr(cause, "args", ()) if isinstance(e, ParseError)), "")
    return ParseError(message.removesuffix(f"; {write}"), write=write)


class _OtherScores(ParseError):
    """Scores on another scale than the one asked for, in a form that is right apart from that."""

    def __init__(self, complaint: ParseError, form: Form) -> None:
        super().__init__(complaint.wrong, write=complaint.write)
        self.form = form


@cache
def _keys(form: type[Form]) -> dict[str, frozenset[str]]:
    """The keys of a form; for those that hold a list of forms, the keys of these."""
    found = {}
    for name, info in form.model_fields.items():
        inner = next(iter(get_args(info.annotation)), None)
        is_form = isinstance(inner, type) and issubclass(inner, Form)
        found[info.alias or name] = frozenset(_keys(inner)) if is_form else frozenset()
    return found


def _shaped(form: type[Form], value: object, wrapped: bool = False) -> dict[str, Any] | None:
    """A JSON value as an object of the form, from a bare list or entry of its list too; None when it is neither."""
    keys = _keys(form)
    if isinstance(value, dict):
        plain = {plain_key(key) for key in value}
        if plain & keys.keys():
            return value
        if len(value) == 1 and not wrapped:  # {"answer": {...}}
            inner = next(iter(value.values()))
            return _shaped(form, inner, wrapped=True) if isinstance(inner, dict) else None
        value = [value]
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    if not entries:
        return None
    first = {plain_key(key) for key in entries[0]}
    key = max(keys, key=lambda key: len(first & keys[key]))
    return {key: value} if len(first & keys[key]) > 1 else None


def _on_the_scale(key: str, numbers: Sequence[object]) -> None:
    """Raises ParseError for numbers that are plainly on another scale than 0 to 100, such as fractions."""
    small = all(read_severity(n) <= 10 for n in numbers)
    for number in numbers:
        value = read_severity(number)
        pointed = isinstance(number, float) or (isinstance(number, str) and "." in number.strip(". "))
        if 0 < value < 1 or (small and (not value.is_integer() or (pointed and value == 1))):
            wrong = f"{key!r} is {shown(number)}, as on a scale other than 0 to 100"
            raise ParseError(wrong, write="write whole numbers from 0 to 100, on no other scale")


def _note_low(severities: Sequence[object], notes: Notes) -> None:
    """Note severities as on a scale of 1 to 10. They may be meant so on ours, so that they are taken as they are."""
    values = {read_severity(s) for s in severities}
    if len(values) >= 3 and min(values) >= 1 and max(values) <= 10:
        notes.append(
            "all severities of a reply are between 1 and 10: the model may have used a scale of 1 to 10, not 0 to 100"
        )


def read_prose(text: str, notes: Notes | None = None) -> str:
    """Free text without the model's thinking, not blank. Raises ParseError."""
    prose = without_thinking(text)
    if not prose:
        raise ParseError("the answer is empty")
    return prose[:8000]


def read_objects(text: str, notes: Notes | None = None, form: type[Objects] = Objects) -> tuple[ObjectItem, ...]:
    """Objects in the order given, names made unique. Raises ParseError."""
    found = read_form(form, text, notes).objects
    names = unique_names(o.name for o in found)
    return tuple(o.model_copy(update={"name": name}) for name, o in zip(names, found, strict=True))


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, with ` #2`, ` #3` ... behind repeated ones."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        key = name.casefold()
        seen[key] = seen.get(key, 0) + 1
        unique.append(name if seen[key] == 1 else f"{name} #{seen[key]}")
    return unique


def read_proposals(text: str, notes: Notes | None = None) -> tuple[ProposedAnomaly, ...]:
    """Proposed anomalies; none only when the reply says so. Raises ParseError."""
    if says_no_anomalies(text):
        return ()
    notes = [] if notes is None else notes
    reply = read_form(Findings, text, notes)
    found = tuple(reply.findings)
    _explicit(found, reply.nothing_found, ("findings", "nothing_found"), found, notes)
    return found


def read_attributes(text: str, notes: Notes | None = None) -> AttributeFindings:
    """What is wrong with one object, and its counts; nothing only when the reply says so. Raises ParseError."""
    if says_no_anomalies(text):
        return AttributeFindings(nothing_found=True)
    notes = [] if notes is None else notes
    reply = read_form(AttributeFindings, text, notes)
    _explicit(reply.findings, reply.nothing_found, ("findings", "nothing_found"), reply, notes)
    return reply


def inspection_reader(asked: Sequence[str]) -> Reader[tuple[Inspection, ...]]:
    """Reader of an inspection that must have an entry for each object, in any order."""

    def read(text: str, notes: Notes | None = None) -> tuple[Inspection, ...]:
        inspections = read_form(Inspected, text, notes).objects
        inspections = [i.model_copy(update={"object": _meant(i.object, asked)}) for i in inspections]
        answered = {i.object for i in inspections}
        missing = [name for name in asked if name not in answered]
        if missing:
            wrong = f"there is no entry for {', '.join(map(repr, missing))}"
            raise ParseError(wrong, write="give one for each object, by its exact name")
        return tuple(inspections)

    return read


def _meant(name: str, asked: Sequence[str]) -> str:
    """The asked name that a name is but for case, numbering, quotes and an article; else the name itself."""
    for plain in (str.casefold, _plain_name):
        same = [a for a in asked if plain(a) == plain(name)]
        if len(same) == 1:
            return same[0]
    return name


_NUMBERING = re.compile(r"^\W*(?:(?:object|item|no\.?)?\s*[(#]?\d{1,3}[.):]\s*)?(?:\W*(?:the|an?)\s+)?", re.I)


def _plain_name(name: str) -> str:
    bare = _NUMBERING.sub("", name.casefold().replace("_", " "))
    return " ".join(bare.split()).strip(" .,:;\"'`*")


def checks_reader(ids: Sequence[int]) -> Reader[tuple[Check, ...]]:
    """Reader of checks that must judge each id once."""

    def read(text: str, notes: Notes | None = None) -> tuple[Check, ...]:
        checks = read_form(Checks, text, notes).checks if ids else []
        _judged(checks, ids)
        if checks and max(c.score for c in checks) <= 10 and any(c.score in (6, 7, 8, 9) for c in checks):
            scores = [c.score for c in checks]
            wrong = f"the scores {scores} look like ones from 0 to 10"
            raise ParseError(wrong, write="say from 0 to 100 how sure you are")
        return tuple(checks)

    return read


def reviewed_reader(ids: Sequence[int]) -> Reader[Reviewed]:
    """Reader of a review: every id judged, every anomaly based on known ids."""

    def read(text: str, notes: Notes | None = None) -> Reviewed:
        notes = [] if notes is None else notes
        reply = _checked(Reviewed, text, ids, notes)
        _explicit(reply.findings, reply.nothing_found, ("findings", "nothing_found"), reply, notes)
        return reply

    return read


def report_reader(ids: Sequence[int]) -> Reader[Report]:
    """Reader of a final report over candidates with these ids."""

    def read(text: str, notes: Notes | None = None) -> Report:
        if not ids and says_no_anomalies(text):
            return Report(anomalies=[], no_anomalies=True)
        notes = [] if notes is None else notes
        reply = read_form(Report, text, notes)
        for anomaly in reply.anomalies:
            _known(anomaly, ids, notes)
        _explicit(reply.anomalies, reply.no_anomalies, ("anomalies", "no_anomalies"), reply, notes)
        return reply

    return read


def checked_report_reader(ids: Sequence[int], form: type[CheckedReport] = CheckedReport) -> Reader[CheckedReport]:
    """Reader of a final report that also judges each candidate."""

    def read(text: str, notes: Notes | None = None) -> CheckedReport:
        if not ids and says_no_anomalies(text):
            return form(checks=[], anomalies=[], no_anomalies=True)
        notes = [] if notes is None else notes
        reply = _checked(form, text, ids, notes)
        _explicit(reply.anomalies, reply.no_anomalies, ("anomalies", "no_anomalies"), reply, notes)
        return reply

    return read


C = TypeVar("C", Reviewed, CheckedReport)


def _checked(form: type[C], text: str, ids: Sequence[int], notes: Notes) -> C:
    """A reply with scores and a final list that agree with each other."""
    try:
        reply = read_form(form, text, notes)
    except _OtherScores as e:
        if not isinstance(e.form, form) or max(c.score for c in e.form.checks) > 1:
            raise
        for check in e.form.checks:
            check.score *= 100
        _agree(e.form, ids, notes)
        notes.append("scores from 0 to 1 were taken as shares of 1, also when asked again; the final list agrees")
        raise ParseError(e.wrong, e.form, write=e.write) from e
    _agree(reply, ids, notes)
    return reply


def _agree(reply: Reviewed | CheckedReport, ids: Sequence[int], notes: Notes) -> None:
    """Raises ParseError when scores and final list contradict each other: one of the two is not meant."""
    final = reply.findings if isinstance(reply, Reviewed) else reply.anomalies
    if not ids and reply.checks:
        notes.append("scores were left out that a reply gave to candidates that nobody had proposed")
        reply.checks = []
    _judged(reply.checks, ids)
    scores = {c.id: c.score for c in reply.checks}
    for item in final:
        _known(item, ids, notes)
        below = {n: scores[n] for n in item.sources}
        if below and max(below.values()) < KEEP:
            raise ParseError(
                f"{item.name!r} is in the final list, but 'checks' gives its ids only {below}",
                write=f"a score runs from 0 to 100, and what is under {KEEP:g} is left out",
            )
    if not final and max(scores.values(), default=0) >= KEEP:
        raise ParseError(
            f"'checks' gives scores of {KEEP:g} and more ({scores}), but the final list is empty: one must be wrong"
        )


def read_single(text: str, notes: Notes | None = None, boxes: BoxReader | None = None) -> tuple[Anomaly, ...]:
    """Anomalies as JSON in our form, in the text form, or as the published data write them. Raises ParseError.

    boxes: places the boxes of JSON in our form; None leaves them out.
    """
    if stands_in_json(without_thinking(text)) and _is_ours(find_json(text)):
        notes = [] if notes is None else notes
        reply = read_form(Anomalies, text, notes)
        regions = boxes.place([a.box for a in reply.anomalies]) if boxes else [None] * len(reply.anomalies)
        found = tuple(a.anomaly(region) for a, region in zip(reply.anomalies, regions, strict=True))
        _explicit(found, reply.no_anomalies, ("anomalies", "no_anomalies"), found, notes)
        return found
    anomalies = read_anomalies(text)
    _on_the_scale("severity", [a.severity for a in anomalies if not a.severity.is_integer()])
    once = {(a.name.casefold(), a.phenomenon.casefold()): a for a in reversed(anomalies)}
    if notes is not None:
        if len(once) < len(anomalies):
            notes.append(repeated([a.name for a in anomalies]))
        _note_low([a.severity for a in anomalies], notes)
    return tuple(reversed(once.values()))


def _is_ours(value: object) -> bool:
    """Whether a JSON value is in our form, and not as published data write anomalies."""
    shaped = _shaped(Anomalies, value) or {}
    plain = {plain_key(key): entry for key, entry in shaped.items()}
    entries = plain.get("anomalies")
    first = entries[0] if isinstance(entries, list) and entries else entries
    return "no_anomalies" in plain or (isinstance(first, dict) and {plain_key(key) for key in first} >= _FIELDS)


_FIELDS = {"name", "phenomenon", "reasoning", "severity"}


def _explicit(items: Sequence[object], flag: bool | None, names: tuple[str, str], read: object, notes: Notes) -> None:
    """Raises ParseError when a list and the word that it is empty contradict each other.

    read: what the list says, which counts when the model repeats it: a listed anomaly is spelt out, the word is not.
    """
    key, word = names
    if items and flag:
        notes.append(f"anomalies count that a reply listed beside {word!r}: true, also when asked again")
        raise ParseError(f"{key!r} has {len(items)} entries but {word!r} is true: one must be wrong", read)
    if not items and not flag:
        state = "missing" if flag is None else "false"
        raise ParseError(f"{key!r} has no entries but {word!r} is {state}: one must be wrong")


def _judged(checks: Sequence[Check], ids: Sequence[int]) -> None:
    judged = [c.id for c in checks]
    missing = sorted(set(ids) - set(judged))
    strange = sorted(set(judged) - set(ids))
    if missing or strange or len(judged) != len(set(judged)):
        raise ParseError(f"'checks' must judge each of the ids {list(ids)} exactly once; it judges {judged}")


def _known(item: MergedAnomaly | SourcedAnomaly, ids: Sequence[int], notes: Notes) -> None:
    strange = sorted(set(item.sources) - set(ids))
    if strange and not ids:
        notes.append(
            f"{shown(item.name)} names candidates although nobody had proposed any; it counts as the report's own"
        )
        item.sources = []
    elif strange:
        raise ParseError(f"{item.name!r} rests on ids {strange}, which were not proposed")
