"""The data card of an export, and its manifest.

draft.write("README.md", [card_text(summary).encode()])
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.dataset.export.options import ExportOptions
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.tally import ExportTally
from anomreason.dataset.export.writing import FileLayout
from anomreason.dataset.tables import CommandRow
from anomreason.english import counted
from anomreason.runs import Provenance

_OWN = "export"
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/]*/)*(?=[^/])")
"""The folders of an absolute path, also in NAME=PATH; not those of an address."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """All that card and manifest say."""

    title: str
    options: ExportOptions
    plan: Plan
    tally: ExportTally
    left_out: Mapping[str, int]
    layout: FileLayout
    code: Provenance
    commands: list[dict[str, Any]]


def commands_of(session: Session) -> list[dict[str, Any]]:
    """The commands that made the dataset, each once, without times; of a path outside only its last part."""
    found: dict[str, dict[str, Any]] = {}
    for row in session.scalars(select(CommandRow).where(CommandRow.name != _OWN).order_by(CommandRow.id)):
        one = {
            "command": row.name,
            "settings": _without_places(row.settings),
            "version": row.version,
            "git_commit": row.git_commit,
            "dirty": row.dirty,
        }
        found.setdefault(json.dumps(one, sort_keys=True), one)
    return list(found.values())


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(of) for key, of in value.items()}
    if isinstance(value, list):
        return [_without_places(of) for of in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def manifest(summary: ExportSummary) -> dict[str, Any]:
    """The counts and settings of an export, as JSON holds them."""
    tally, code = summary.tally, summary.code
    return {
        "format": summary.options.format,
        "settings": summary.options.settings(),
        "splits": {split: count.model_dump() for split, count in tally.splits.items()},
        "sources": {
            name: {
                "kind": source.kind,
                "generator": source.generator,
                "licence": source.licence,
                "terms": source.terms,
                "images": dict(sorted(source.images.items())),
                "anomalies": dict(sorted(source.anomalies.items())),
            }
            for name, source in sorted(tally.sources.items())
        },
        "kinds": dict(tally.kinds.most_common()),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "undecided_images": tally.undecided,
        "beside_known": summary.plan.beside_known,
        "left_out": dict(sorted(summary.left_out.items())),
        "version": code.version,
        "git_commit": code.git_commit,
        "dirty": code.dirty,
        "commands": summary.commands,
    }


def card_text(summary: ExportSummary) -> str:
    """The card: front matter for `datasets` and the hub, then what a reader must know."""
    tally, plan = summary.tally, summary.plan
    return "\n".join(
        [
            *_front_matter(summary),
            f"# {_plain(summary.title)}",
            "",
            f"{_images(tally.images)}, {counted(tally.anomalies, 'semantic anomaly', 'semantic anomalies')}: what is "
            "wrong (name), where and how it shows\n(phenomenon), why it cannot be so (reasoning) and how bad it is "
            "(severity).",
            "",
            "**Severity: 0 = completely implausible, 100 = fully realistic.** Low numbers are the bad ones.",
            "",
            "## Files",
            "",
            summary.layout.text,
            "`MANIFEST` holds counts and settings (JSON), `SHA256SUMS` the sums of all files: check them with",
            "`sha256sum -c SHA256SUMS` or `anomreason dataset verify .`.",
            "",
            "## Images and anomalies",
            "",
            *_sources(tally),
            "",
            _split(plan),
            "",
            *_verification(summary),
            *_severities(tally),
            *_kinds(tally),
            *_limits(summary),
            *_provenance(summary),
            "",
        ]
    )


def _front_matter(summary: ExportSummary) -> list[str]:
    licences = sorted({source.licence or "unknown" for source in summary.tally.sources.values()})
    known = len(licences) == 1 and re.fullmatch(r"[A-Za-z0-9][\w.+-]*", licences[0])
    lines = ["---", f"license: {licences[0].lower() if known else 'other'}"]
    if not known:
        lines.append("license_name: by-source")
    lines += ["tags: [semantic-anomalies, image-text]", f"size_categories: [{_size(summary.tally.images)}]"]
    if summary.layout.configs:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split, patterns in summary.layout.configs:
            lines += [f"  - split: {json.dumps(split)}", f"    path: {json.dumps(list(patterns))}"]
    return [*lines, "---"]


def _size(images: int) -> str:
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for most, name in steps if images < most), "n>1M")


def _sources(tally: ExportTally) -> list[str]:
    splits = sorted(tally.splits)
    heads = ["source", "kind", "generator", "licence", "terms", *(f"{split}: images / anomalies" for split in splits)]
    rows = [heads, ["---"] * len(heads)]
    for name, source in sorted(tally.sources.items()):
        about = [name, source.kind, source.generator or "", source.licence or "unknown", source.terms or ""]
        counts = [f"{source.images[split]:,} / {source.anomalies[split]:,}" for split in splits]
        rows.append([*about, *counts])
    totals = [f"{count.images:,} / {count.anomalies:,}" for count in tally.splits.values()]
    rows.append(["all", "", "", "", "", *totals])
    return [f"| {' | '.join(map(_plain, row))} |" for row in rows]


def _split(plan: Plan) -> str:
    if plan.scheme is None:
        return "The dataset is not split: all images are in one split."
    return (
        f"Splits are those of the scheme `{_plain(plan.scheme)}`: images of one prompt, of one cluster of "
        "near-duplicates, and of one scene\nwith its twins are meant to be in one split; see the commands below."
    )


def _verification(summary: ExportSummary) -> list[str]:
    tally, judging, options = summary.tally, summary.plan.judging, summary.options
    asked = ", ".join(options.verdicts)
    lines = ["## Verification", "", f"In this export are candidates with the outcome {asked}:", ""]
    meaning = {
        "accepted": "accepted by people",
        "rejected": "rejected by people",
        "unsure": "people were unsure",
        "disputed": "people disagreed",
        "unverified": "proposed by a detector, seen by nobody",
        "published": "from a published dataset, as its verified annotations",
        "scene": "planted in a scene, so known",
        "person": "annotated freely by a person",
    }
    lines += [f"- {count:,} {meaning.get(name, name)}" for name, count in sorted(tally.outcomes.items())] or ["- none"]
    lines += [
        "",
        f"Images with neither anomaly nor description: {tally.clean:,}. Images with further candidates that nobody "
        f"decided: {tally.undecided:,};\ntheir list of anomalies may be incomplete (column `undecided`).",
        "",
    ]
    if judging.candidates:
        said = ", ".join(f"{count:,} {choice}" for choice, count in sorted(judging.choices.items()))
        lines += [
            f"{counted(judging.people, 'person', 'people')} judged "
            f"{counted(judging.candidates, 'candidate', 'candidates')} of the dataset ({said}).",
            f"Agreement: {judging.agreeing / judging.several:.1%} of the pairs of people who judged the same candidate "
            f"said the same, averaged over {counted(judging.several, 'candidate', 'candidates')}."
            if judging.several
            else "Agreement: unknown, since no candidate was judged by two people.",
            "",
        ]
    if options.min_agreement is not None:
        lines += [f"Candidates on which less than {options.min_agreement:.0%} of the people agree were left out.", ""]
    return lines


def _severities(tally: ExportTally) -> list[str]:
    if not tally.anomalies:
        return []
    counts = [f"{10 * tenth}-{10 * tenth + 10}: {tally.severities[tenth]:,}" for tenth in range(10)]
    return ["Severities (0 = completely implausible): " + ", ".join(counts) + ".", ""]


def _kinds(tally: ExportTally) -> list[str]:
    if not tally.kinds:
        return []
    rows = [
        f"| {_plain(kind)} | {count:,} |" for kind, count in sorted(tally.kinds.items(), key=lambda k: (-k[1], k[0]))
    ]
    return ["## Kinds", "", "| kind | anomalies |", "|---|---|", *rows, ""]


_WHY = {
    "unverified": "nobody decided on any candidate",
    "not_annotated": "nobody looked for anomalies, and no description is there",
    "detection_failed": "the detector failed",
    "out_of_domain": "the detector does not know such images",
    "no_split": "in no split",
    "missing": "the file could not be read",
    "changed": "the file is not the one that was collected",
}


def _limits(summary: ExportSummary) -> list[str]:
    tally = summary.tally
    lines = ["## Known limits", ""]
    lines += [
        f"- {_images(count)} left out, `{_plain(reason)}`: {_WHY.get(reason, 'this format has no place for them')}."
        for reason, count in sorted(summary.left_out.items())
    ]
    if beside := summary.plan.beside_known:
        lines.append(
            f"- {counted(beside, 'candidate', 'candidates')} of a detector left out, in images whose anomalies are "
            "known."
        )
    if tally.outcomes["unverified"]:
        lines.append(f"- Anomalies that are a model's word alone, seen by nobody: {tally.outcomes['unverified']:,}.")
    if 0 < tally.regions < tally.anomalies:
        lines.append(f"- Anomalies without a region: {tally.anomalies - tally.regions:,} of {tally.anomalies:,}.")
    if tally.regions:
        lines.append("- Regions are fractions of the image turned upright as its EXIF orientation says.")
    kinds = {source.kind for source in tally.sources.values()}
    if {"ai", "photograph"} <= kinds:
        lines.append(
            "- Photographs and generated images may differ in file format, size or compression, which gives them away: "
            "see\n  `anomreason dataset split` before a detector is trained on the difference."
        )
    if tally.formats["HEIF"]:
        lines.append(f"- Images in HEIF: {tally.formats['HEIF']:,}; `pip install pillow-heif` opens them.")
    lines.append("- Images are the files as collected: metadata in them was not removed.")
    return [*lines, ""]


def _provenance(summary: ExportSummary) -> list[str]:
    code = summary.code
    lines = [
        "## Provenance",
        "",
        f"Exported by anomreason {code.version} ({_commit(code.git_commit, code.dirty)}) with",
        "",
        f"    {_json(summary.options.settings())}",
        "",
    ]
    if summary.commands:
        lines += ["The dataset was made by these commands:", ""]
        for one in summary.commands:
            commit = _commit(one["git_commit"], one["dirty"])
            lines.append(f"    {_json(one['command'])} {_json(one['settings'])} anomreason {one['version']} ({commit})")
    return lines


def _images(count: int) -> str:
    return counted(count, "image", "images")


def _commit(commit: str | None, dirty: bool | None) -> str:
    return f"commit {commit[:12]}{', with changes' if dirty else ''}" if commit else "commit unknown"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


def _plain(text: str) -> str:
    """Text of others as Markdown shows it and nothing more: one line, no markup, no HTML."""
    flat = " ".join(text.split())
    flat = "".join(c if c.isprintable() else "?" for c in flat)
    return re.sub(r"([\\`*_\[\]<>|#!&])", r"\\\1", flat) if flat != "---" else flat
