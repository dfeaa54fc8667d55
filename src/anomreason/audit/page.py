"""The page of an audit: the answer in sentences, its numbers, and the images of each prompt side by side.

    write_audit_page(analyse(study), study, Path("audit/report.html"))

Beside the page, `report/` holds previews by the hash of the image, and a script a prompt that the page loads when the
prompt comes into view, since a page opened from the file system may load scripts but not read files. Whatever comes
from a model, a prompt or a file name is escaped, or set as text by the script.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from anomreason.anomaly import Detection
from anomreason.audit.rates import fails_at
from anomreason.audit.results import AssessorResult, AuditResult, GeneratorResult, KindRate, PairResult
from anomreason.audit.sentences import (
    MAIN,
    NAMES,
    agreeing,
    answer,
    failing,
    places_text,
    plain,
    shared_places,
    significant,
)
from anomreason.audit.study import AuditImage, Study
from anomreason.errors import UnreadableImage
from anomreason.files import remove_drafts, write_atomically
from anomreason.images import browser_can_show
from anomreason.metrics.plausibility import METRICS, Metric, image_plausibility
from anomreason.metrics.published import SOURCE, published
from anomreason.report.figures import interval_strip
from anomreason.report.html import COPY_SIDE, PREVIEW_SIDE, json_script, keep_scaled, link, scaled_name, templates

LONGEST_TEXT = 1_000
"""Characters of a text of an anomaly that are shown; the rest stays in the assessor's run."""
MOST_SHOWN = 30
"""Anomalies of one image that are shown."""
MOST_OPEN = 40
"""Rows of the table of pairs that are not told apart."""
_ASSETS = ("report.css", "scores.css", "audit.css", "audit.js")
_FOLDER = "report/audit"


class AuditPreview(NamedTuple):
    """How one image appears; addresses are relative to the page."""

    preview: str | None
    """File name in `report/thumbs`."""
    source: str | None
    """What is shown large."""
    note: str | None
    """Why nothing can be shown; None where something can."""


def write_audit_page(result: AuditResult, study: Study, path: Path) -> Path:
    """Write the page and what stands beside it; gives its path. The page is replaced last, so it is never half of one.

    result: of `analyse(study)`. Previews that an earlier page made are used again.
    """
    path = Path(os.path.abspath(path))
    report = path.parent / "report"
    for part in ("thumbs", "pictures", "audit"):
        (report / part).mkdir(parents=True, exist_ok=True)
        remove_drafts(report / part)
    for name in _ASSETS:
        write_atomically(report / name, (files("anomreason.report") / "templates" / name).read_text(encoding="utf-8"))
    write_atomically(report / "audit-views.css", _views_css(len(result.assessors)))
    images = {(i.generator, i.prompt, i.seed): i for i in study.images}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, prompt in enumerate(study.prompts):
            wanted = [(g, prompt.id, s) for g in study.generators for s in study.seeds]
            of_prompt = [images.get(key) or AuditImage(*key, missing="not given") for key in wanted]
            shown = list(pool.map(lambda image: _shown(image, study, path.parent), of_prompt))
            rows = [_image(*both, study) for both in zip(of_prompt, shown, strict=True)]
            call = f"anomreasonAudit.prompt({number},{json.dumps(rows, separators=(',', ':'))});\n"
            write_atomically(report / "audit" / f"{number}.js", call, sync=False)
    for old in (report / "audit").glob("*.js"):
        if old.stem.isdecimal() and int(old.stem) >= len(study.prompts):
            old.unlink()
    write_atomically(path, _page(result, study, path.parent.name))
    return path


def _shown(image: AuditImage, study: Study, folder: Path) -> AuditPreview:
    if image.path is None or image.missing is not None:
        return AuditPreview(None, None, image.missing or "not given")
    path = Path(os.path.abspath(image.path))
    try:
        name = scaled_name(_hash(image, study, path))
        if name is None:
            return AuditPreview(None, None, "the image has no hash")
        keep_scaled(folder / "report" / "thumbs" / name, path, PREVIEW_SIDE)
        if path.is_file() and browser_can_show(path):
            return AuditPreview(name, link(path, folder), None)
        keep_scaled(folder / "report" / "pictures" / name, path, COPY_SIDE)
        return AuditPreview(name, f"report/pictures/{name}", None)
    except (UnreadableImage, OSError) as error:
        return AuditPreview(None, None, f"the image cannot be opened: {error}")


def _hash(image: AuditImage, study: Study, path: Path) -> str:
    """That of an assessor's detection, else of the file as it is."""
    for said in study.assessments.values():
        detection = said.get(image.key)
        if detection is not None and detection.sha256 is not None:
            return detection.sha256
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _image(image: AuditImage, shown: AuditPreview, study: Study) -> list[Any]:
    """[preview, source, why there is no image, one entry an assessor], lists only: no name becomes a key."""
    said = [_said(detections.get(image.key)) for detections in study.assessments.values()]
    return [shown.preview, shown.source, shown.note, said]


def _said(detection: Detection | None) -> list[list[Any]] | str | None:
    """Anomalies, worst first; a kind of failure; or None where nothing was assessed."""
    if detection is None:
        return None
    if detection.failure is not None:
        return f"{detection.failure.kind}"
    anomalies = sorted(detection.anomalies, key=lambda anomaly: anomaly.severity)[:MOST_SHOWN]
    return [[a.severity, *(text[:LONGEST_TEXT] for text in (a.name, a.phenomenon, a.reasoning))] for a in anomalies]


def _page(result: AuditResult, study: Study, title: str) -> str:
    return (
        templates()
        .get_template("audit.html")
        .render(
            title=title,
            simulated=result.simulated,
            result=result,
            study=study,
            metrics=NAMES,
            meanings=METRICS,
            main=MAIN,
            views={(a, metric): _view(found, metric) for a, found in enumerate(result.assessors) for metric in NAMES},
            kinds=[_kind_tables(found, result) for found in result.assessors],
            failing=[_failing(found) for found in result.assessors],
            agreeing=agreeing,
            plain=plain,
            significant=significant,
            reference=_reference(),
            source=SOURCE,
            setup=json_script(_setup(result, study)),
        )
    )


def _views_css(assessors: int) -> str:
    """Shows the parts of the assessor and the metric that are chosen; the others stand in the page too, unseen."""
    rules = [
        f"body:has(#a{a}:checked):has(#m-{metric}:checked) .cut.a{a}.m-{metric}"
        for a in range(assessors)
        for metric in NAMES
    ]
    rules += [f"body:has(#a{a}:checked) .cut.a{a}.any" for a in range(assessors)]
    return ",\n".join(rules) + " { display: block; }\n"


class MatrixCell(NamedTuple):
    """Row against column in the matrix of pairs."""

    text: str
    """The row's score minus the column's."""
    css: str
    """`ahead` or `behind` for a row that is more or less plausible, `turn` where failures could turn it, or `open`."""
    hint: str


class MetricView(NamedTuple):
    """What the page shows of one assessor by one metric."""

    answer: list[str]
    ordered: list[GeneratorResult]
    places: dict[str, str]
    starts: set[str]
    """Generators before which the order is cut."""
    strips: dict[str, str]
    matrix: list[list[MatrixCell | None]]
    open: list[PairResult]
    more_open: int


def _view(found: AssessorResult, metric: Metric) -> MetricView:
    ordered = found.ordered(metric)
    values = {g.generator: g.scores[metric] if g.unranked is None else g.own[metric] for g in ordered}
    ends = [e.interval.high if e.interval else e.value or 0.0 for e in values.values()]
    top = max([*ends, 1e-9])
    unclear = sorted(
        (p for p in found.pairs if p.metric == metric and p.better is None),
        key=lambda p: (p.why != "failures could turn it", p.needed is None, p.needed or 0),
    )
    return MetricView(
        answer=answer(found, metric),
        ordered=ordered,
        places={g.generator: places_text(g, metric) for g in ordered},
        starts={after[0].generator for _, after in pairwise(shared_places(found, metric))},
        strips={
            name: "" if e.value is None else interval_strip(e.value, e.interval, top) for name, e in values.items()
        },
        matrix=[[_cell(found, row, column, metric) for column in ordered] for row in ordered],
        open=unclear[:MOST_OPEN],
        more_open=max(0, len(unclear) - MOST_OPEN),
    )


def _cell(found: AssessorResult, row: GeneratorResult, column: GeneratorResult, metric: Metric) -> MatrixCell | None:
    one, other = row.generator, column.generator
    pair = None if one == other else found.pair(one, other, metric)
    if pair is None or pair.difference.value is None:
        return None
    sign = 1.0 if pair.one == one else -1.0
    ends = pair.difference.interval
    span = "" if ends is None else f" ({' to '.join(plain(e) for e in sorted((sign * ends.low, sign * ends.high)))})"
    verdict = f"{pair.better} is more plausible" if pair.better else f"not told apart: {pair.why}"
    p = "" if pair.p_holm is None else f", p {pair.p_holm:.4f} (Holm)"
    hint = (
        f"{one} minus {other}: {plain(sign * pair.difference.value)}{span}{p}, {pair.difference.n:,} prompts; {verdict}"
    )
    css = "ahead" if pair.better == one else "behind" if pair.better else "open"
    if pair.why == "failures could turn it":
        css = "turn"
    return MatrixCell(plain(sign * pair.difference.value), css, hint)


class KindTable(NamedTuple):
    """Rates of kinds in images of one tag."""

    tag: str | None
    prompts: int
    kinds: list[str | None]
    rows: list[tuple[str, int, list[KindRate]]]
    """Generator, its assessed images, and one rate a kind."""


def _kind_tables(found: AssessorResult, result: AuditResult) -> list[KindTable]:
    rates: dict[str | None, dict[str, dict[str | None, KindRate]]] = {}
    for rate in found.kinds:
        rates.setdefault(rate.tag, {}).setdefault(rate.generator, {})[rate.kind] = rate
    return [
        KindTable(
            tag=tag,
            prompts=result.prompts if tag is None else result.tags[tag],
            kinds=kinds,
            rows=[
                (g.generator, by[g.generator][None].images, [by[g.generator][k] for k in kinds])
                for g in found.generators
            ],
        )
        for tag, by in rates.items()
        if (kinds := _kinds_found(by))
    ]


def _kinds_found(by: Mapping[str, Mapping[str | None, KindRate]]) -> list[str | None]:
    """Any anomaly, then the kinds that occur."""
    return [kind for kind in next(iter(by.values())) if kind is None or any(rates[kind].found for rates in by.values())]


def _failing(found: AssessorResult) -> list[tuple[str, list[str]]]:
    lines = [(g.generator, [failing(rate) for rate in fails_at(found.kinds, g.generator)]) for g in found.generators]
    return [line for line in lines if line[1]]


class PublishedGenerator(NamedTuple):
    """One generator of the paper's Table 3."""

    generator: str
    values: list[float | None]
    """By assessor of the paper: MAI, AF, CAP."""


def _reference() -> tuple[list[str], list[PublishedGenerator]]:
    figures = published(table=3)
    assessors = list(dict.fromkeys(f.assessor or "" for f in figures))
    known = {(f.model, f.assessor, f.metric): f.value for f in figures}
    rows = [
        PublishedGenerator(model, [known.get((model, a, m)) for a in assessors for m in ("MAI", "AF", "CAP")])
        for model in dict.fromkeys(f.model for f in figures)
    ]
    return assessors, rows


def _setup(result: AuditResult, study: Study) -> dict[str, Any]:
    """What the script needs of all images at once: prompts, and which to show first."""
    place = {
        AuditImage(g, p.id, s).key: [n, k * len(study.seeds) + j]
        for k, g in enumerate(study.generators)
        for n, p in enumerate(study.prompts)
        for j, s in enumerate(study.seeds)
    }
    return {
        "generators": list(study.generators),
        "seeds": list(study.seeds),
        "assessors": [found.name for found in result.assessors],
        "prompts": [[p.id, p.text, list(p.tags)] for p in study.prompts],
        "folder": _FOLDER,
        "apart": [list(_by_prompt(study, said)) for said in study.assessments.values()],
        "worst": [[[place[key] for key in g.worst] for g in found.generators] for found in result.assessors],
        "best": [[[place[key] for key in g.best] for g in found.generators] for found in result.assessors],
    }


def _by_prompt(study: Study, said: Mapping[str, Detection]) -> Iterator[list[float]]:
    """Of each prompt: mean CAP over generators, and the largest difference between two of them."""
    for prompt in study.prompts:
        means = []
        for generator in study.generators:
            caps = [
                image_plausibility([a.severity for a in detection.anomalies]).cap
                for seed in study.seeds
                if (detection := said.get(AuditImage(generator, prompt.id, seed).key)) and detection.searched
            ]
            means += [sum(caps) / len(caps)] if caps else []
        yield [round(_mean(means), 4), round(max(means) - min(means), 4) if means else 0.0]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
