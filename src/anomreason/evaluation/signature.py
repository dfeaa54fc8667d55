"""What a number depends on, in a few words, and which of the paper's tables it may stand beside.

Two results with the same signature may be compared; the parts in which they differ say why they may not. Knows nothing
of files' places: a backbone is known by its weights, a truth by its texts. Try it:

    >>> line({"backbone": "distilbert-base-uncased", "layer": 5, "thresholds": [0.7, 0.8]})
    'backbone:distilbert-base-uncased|layer:5|thresholds:0.7,0.8'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from anomreason.metrics.image_scores import SemanticSettings
from anomreason.sources.annotations import ImageAnnotation

Signature = Mapping[str, Any]
TABLES = {("distilbert-base-uncased", 5): 1, ("roberta-large-mnli", 19): 4, ("mt5-large", 19): 5}
"""Table of the paper by backbone and layer."""
HUB = {
    "distilbert-base-uncased": ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
    "roberta-large-mnli": ("roberta-large-mnli", "FacebookAI/roberta-large-mnli"),
    "mt5-large": ("google/mt5-large",),
}
"""Hub ids whose weights the paper used."""
_NOT_DECIDING = frozenset({"profiles", "alphas", "images", "hub"})
"""Parts that say what else was computed, or where from; they change no number."""


def semantic_signature(
    backbone: Mapping[str, str | int], settings: SemanticSettings, truth: Mapping[str, ImageAnnotation]
) -> dict[str, Any]:
    """Of an `eval`: backbone (and its hub id, when it came from there) and layer, hash of its weights, precision,
    settings, hash of the scored truth, version.
    """
    return {
        **backbone,
        "profiles": list(settings.profiles),
        "alphas": list(settings.alphas),
        "thresholds": list(settings.thresholds),
        "rank_by": settings.rank_by,
        "truth": truth_hash(truth),
        "images": len(truth),
        "anomreason": version("anomreason"),
    }


def truth_hash(truth: Mapping[str, ImageAnnotation]) -> str:
    """Sixteen hex digits over images and texts, whatever their order and the file's form."""
    digest = hashlib.sha256()
    for name in sorted(truth):
        said = truth[name]
        texts = [(f.phenomenon, f.reasoning) for f in said.anomalies]
        line = json.dumps([name, sorted(texts), said.description, said.generated])
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:16]


def line(signature: Signature, profile: str | None = None) -> str:
    """One line; with a profile, that one alone."""
    parts = {k: v for k, v in signature.items() if profile is None or k != "profiles"}
    parts |= {"profile": profile} if profile else {}
    return "|".join(f"{key}:{_short(value)}" for key, value in parts.items())


def differences(one: Signature, other: Signature) -> list[str]:
    """Parts in which two signatures differ in a way that forbids a comparison, e.g. `layer 5 and 6`.

    Backbones with the same weights are the same, whatever they are called.
    """
    same_weights = "weights" in one and one["weights"] == other.get("weights")
    keys = [key for key in {**one, **other} if key not in _NOT_DECIDING and not (key == "backbone" and same_weights)]
    return [
        f"{key} {_short(one.get(key))} and {_short(other.get(key))}" for key in keys if one.get(key) != other.get(key)
    ]


def published_table(signature: Signature, profile: str) -> int | None:
    """Table of the paper whose numbers are made alike, if there is one: same weights, layer, thresholds, precision.

    Weights are known to be the same only when they came from the hub: a folder can have any name.
    """
    known = signature.get("hub") in HUB.get(str(signature.get("backbone")), ())
    return table_by_name(signature, profile) if known else None


def table_by_name(signature: Signature, profile: str) -> int | None:
    """The same, if the weights are what the backbone's name says."""
    alike = signature.get("thresholds") == [0.7, 0.8, 0.9] and signature.get("precision") == "fp32"
    key = (str(signature.get("backbone")), int(signature.get("layer", 0)))
    return TABLES.get(key) if alike and profile == "release" else None


def comparable(signature: Signature, profile: str) -> str:
    """In words: which published numbers the results may be compared with."""
    table = table_by_name(signature, profile)
    if table:
        backbone = HUB[str(signature["backbone"])][-1]
        sure = published_table(signature, profile) == table
        weights = "" if sure else f"the weights are those of the hub's {backbone} and "
        return (
            f"with Table {table} of the paper (arXiv 2510.10231), if {weights}the truth is its AnomReason test split; "
            "with no other published number"
        )
    if profile == "paper":
        return (
            "with no published number: the paper's tables evidently hold the profile release (run with --profile both)"
        )
    return "with no published number: the paper's tables were made with another backbone, layer or threshold"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_short, value)) or "-"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
