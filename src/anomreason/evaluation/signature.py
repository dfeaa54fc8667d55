"""What a number depends on, in a few words, and which of the paper's tables it may stand beside.

Two results may be compared when their signatures are equal: the same backbone, settings, truth and code. A backbone is
identified by its weights and a truth by its texts, wherever their files are.

    >>> Signature(backbone="distilbert-base-uncased", layer=5, thresholds=(0.7, 0.8)).line()
    'backbone:distilbert-base-uncased|layer:5|thresholds:0.7,0.8'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

from anomreason.anomaly import Result
from anomreason.metrics.image_scores import SemanticSettings
from anomreason.runs import provenance
from anomreason.sources.annotations import ImageAnnotation

TABLES = {("distilbert-base-uncased", 5): 1, ("roberta-large-mnli", 19): 4, ("mt5-large", 19): 5}
"""Table of the paper by backbone and layer."""
HUB = {
    "distilbert-base-uncased": ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
    "roberta-large-mnli": ("roberta-large-mnli", "FacebookAI/roberta-large-mnli"),
    "mt5-large": ("google/mt5-large",),
}
"""Hub ids whose weights the paper used."""
_NOT_DECIDING = frozenset({"profiles", "alphas", "images", "hub", "model_type"})
"""Parts that describe what else was computed, or where from; they change no number."""


class Signature(Result):
    """Everything that decides a number; a part that has no meaning for a result is None. Other parts are kept too."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    backbone: str | None = None
    """Name of the model that compares texts: the last part of its hub id or folder."""
    model_type: str | None = None
    """Of the backbone's weights, e.g. `bert`."""
    layer: int | None = None
    hub: str | None = None
    """The backbone's hub id, when it came from the hub."""
    weights: str | None = None
    """Hash of the backbone's weights."""
    precision: str | None = None
    profiles: tuple[str, ...] | None = None
    alphas: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    rank_by: str | None = None
    truth: str | None = None
    """Hash of what predictions are scored against."""
    images: int | None = None
    cues: str | None = None
    """Hash of the word lists that `eval --exact` finds kinds with."""
    failures: str | None = None
    """How `eval --exact` counts failed scenes."""
    assessor: tuple[str, ...] | None = None
    """Detectors whose anomalies rate the generators."""
    prompts: str | None = None
    """Hash of the prompts that the images were made from."""
    anomreason: str | None = None
    """Version of the package."""
    commit: str | None = None
    """Git commit of the package's checkout; None when it was installed without one."""
    source: str | None = None
    """Hash of the package's files, when the checkout had uncommitted changes (`dirty`)."""
    dirty: bool | None = None
    """Whether the checkout had uncommitted changes."""

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}

    def parts(self) -> Iterator[tuple[str, str]]:
        """Name and short text of each part."""
        return ((name, _short(value)) for name, value in self if value is not None)

    def line(self, profile: str | None = None) -> str:
        """One line; with a profile, that one alone."""
        parts = [(name, text) for name, text in self.parts() if profile is None or name != "profiles"]
        return "|".join(f"{name}:{text}" for name, text in [*parts, *([("profile", profile)] if profile else [])])

    def differences(self, other: Signature) -> list[str]:
        """Parts that forbid a comparison, e.g. `layer 5 and 6`. Backbones with the same weights are the same."""
        one, two = dict(self.parts()), dict(other.parts())
        ignored = {*_NOT_DECIDING, *(["backbone"] if self.weights and self.weights == other.weights else [])}
        return [
            f"{name} {one.get(name, 'unknown')} and {two.get(name, 'unknown')}"
            for name in {**one, **two}
            if name not in ignored and one.get(name) != two.get(name)
        ]

    def published_table(self, profile: str) -> int | None:
        """Table of the paper whose numbers are computed alike, if any: same weights, layer, thresholds, precision.

        Weights are known to be the same only when they came from the hub: a folder can have any name.
        """
        known = self.hub in HUB.get(self.backbone or "", ())
        return self.table_by_name(profile) if known else None

    def table_by_name(self, profile: str) -> int | None:
        """The same, if the weights are what the backbone's name says."""
        alike = self.thresholds == (0.7, 0.8, 0.9) and self.precision == "fp32" and profile == "release"
        return TABLES.get((self.backbone or "", self.layer or 0)) if alike else None

    def comparable(self, profile: str) -> str:
        """Which published numbers the results may be compared with; completes "may be compared ..."."""
        table = self.table_by_name(profile)
        if table:
            sure = self.published_table(profile) == table
            weights = "" if sure else f"the weights are those of the hub's {HUB[self.backbone or ''][-1]} and "
            return (
                f"with Table {table} of the paper (arXiv 2510.10231), if {weights}the truth is its AnomReason test "
                "split; with no other published number"
            )
        if profile == "paper":
            both = self.profiles is not None and "release" in self.profiles
            hint = "" if both else " (use --profile table1)"
            return f"with no published number: the paper's tables were evidently computed with profile release{hint}"
        return "with no published number: the paper's tables were made with another backbone, layer or threshold"


@cache
def code_signature() -> Signature:
    """Version, git commit and, of a checkout with uncommitted changes, a hash of the package's files."""
    made = provenance()
    return Signature(
        anomreason=made.version,
        commit=made.git_commit[:12] if made.git_commit else None,
        dirty=made.dirty,
        source=_source_hash() if made.dirty else None,
    )


def semantic_signature(
    backbone: Mapping[str, str | int], settings: SemanticSettings, truth: Mapping[str, ImageAnnotation]
) -> Signature:
    """Of an `eval`: backbone, settings, hash of the scored truth, code."""
    return code_signature().model_copy(
        update={
            **backbone,
            "profiles": settings.profiles,
            "alphas": settings.alphas,
            "thresholds": settings.thresholds,
            "rank_by": settings.rank_by,
            "truth": truth_hash(truth),
            "images": len(truth),
        }
    )


def truth_hash(truth: Mapping[str, ImageAnnotation]) -> str:
    """Sixteen hex digits over images and texts, whatever their order and the file's form."""
    lines = []
    for name in sorted(truth):
        one = truth[name]
        texts = [(f.phenomenon, f.reasoning) for f in one.anomalies]
        lines.append(json.dumps([name, sorted(texts), one.description, one.generated]) + "\n")
    return short_hash("".join(lines))


def short_hash(text: str) -> str:
    """Sixteen hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _source_hash() -> str:
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".toml", ".tsv", ".csv", ".md"):
            digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_short, value)) or "-"
    return f"{value:.10g}" if isinstance(value, float) else str(value).lower() if value in (True, False) else str(value)
