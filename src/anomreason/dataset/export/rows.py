"""Images as typed rows: one declaration of the columns for Arrow and for `datasets`.

schema({"file_name": STRING, **columns(with_steps=False)})
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from anomreason.anomaly import Anomaly, Region
from anomreason.dataset.export.records import ExportedCandidate, ExportedImage

Feature = dict[str, Any]
"""As `datasets` writes the type of a column: a value, an image, a list, or an object of columns."""
Row = dict[str, Any]


def _value(dtype: str) -> Feature:
    return {"dtype": dtype, "_type": "Value"}


def list_of(feature: Feature) -> Feature:
    return {"feature": feature, "_type": "List"}


STRING, INTEGER, NUMBER, BOOLEAN = _value("string"), _value("int64"), _value("float64"), _value("bool")
IMAGE: Feature = {"_type": "Image"}
_REGION: Feature = {"x0": NUMBER, "y0": NUMBER, "x1": NUMBER, "y1": NUMBER, "polygon": list_of(list_of(NUMBER))}
_ANOMALY: Feature = {
    "name": STRING,
    "phenomenon": STRING,
    "reasoning": STRING,
    "severity": NUMBER,
    "kind": STRING,
    "objects": list_of(STRING),
    "region": _REGION,
}
_STEPS: Feature = {"role": STRING, "step": STRING, "score": NUMBER}
_SELECTED: Feature = {
    **_ANOMALY,
    "candidate": INTEGER,
    "origin": STRING,
    "detector": STRING,
    "outcome": STRING,
    "agreement": NUMBER,
}
_CANDIDATE: Feature = {**_SELECTED, **_STEPS, "reason": STRING, "accept": INTEGER, "reject": INTEGER, "unsure": INTEGER}
_OBJECT: Feature = {
    "name": STRING,
    "description": STRING,
    "region": _REGION,
    "person": BOOLEAN,
    "agreement": NUMBER,
    "detector": STRING,
}


def columns(with_steps: bool) -> dict[str, Feature]:
    """The columns of an image, less the one that holds or names its file."""
    texts = ("name", "source", "source_kind", "generator", "licence", "sha256", "prompt")
    found: dict[str, Feature] = {
        **dict.fromkeys(texts, STRING),
        **dict.fromkeys(("seed", "width", "height"), INTEGER),
        "description": STRING,
        "anomalies": list_of({**_SELECTED, **_STEPS, "original": _ANOMALY} if with_steps else _SELECTED),
        "undecided": INTEGER,
    }
    if with_steps:
        found |= {"candidates": list_of(_CANDIDATE), "objects": list_of(_OBJECT)}
    return found


def schema(features: dict[str, Feature]) -> pa.Schema:
    """The Arrow schema, with what makes `datasets` see the same features."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, _arrow(feature)) for name, feature in features.items()], metadata=metadata)


def _arrow(feature: Feature) -> pa.DataType:
    kind = feature.get("_type")
    if kind == "Image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind == "List":
        return pa.list_(_arrow(feature["feature"]))
    if kind == "Value":
        return pa.type_for_alias(feature["dtype"])
    return pa.struct([(name, _arrow(of)) for name, of in feature.items()])


def row_of(image: ExportedImage, with_steps: bool) -> Row:
    """The values of `columns`."""
    row: Row = {
        "name": image.name,
        "source": image.source,
        "source_kind": image.source_kind,
        "generator": image.generator,
        "licence": image.licence,
        "sha256": image.sha256,
        "prompt": image.prompt,
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "description": image.description,
        "anomalies": [_selected(one, with_steps) for one in image.anomalies],
        "undecided": image.undecided,
    }
    if with_steps:
        row["candidates"] = [_candidate(one) for one in image.candidates]
        row["objects"] = [
            {
                **one.model_dump(exclude={"region", "counts", "parts"}),
                "region": _region(one.region),
                "detector": detector,
            }
            for detector, one in image.objects
        ]
    return row


def _selected(one: ExportedCandidate, with_steps: bool) -> Row:
    found = _plain(one, one.anomaly)
    if with_steps:
        original = one.original and _anomaly(one.original)
        found |= {"role": one.role, "step": one.step, "score": one.score, "original": original}
    return found


def _candidate(one: ExportedCandidate) -> Row:
    """As it was proposed."""
    said = {choice: one.choices.get(choice, 0) for choice in ("accept", "reject", "unsure")}
    return {
        **_plain(one, one.original or one.anomaly),
        "role": one.role,
        "step": one.step,
        "score": one.score,
        "reason": one.dropped,
        **said,
    }


def _plain(one: ExportedCandidate, anomaly: Anomaly | None) -> Row:
    name, phenomenon, reasoning = one.texts
    texts = {"name": name, "phenomenon": phenomenon, "reasoning": reasoning, "severity": None, "kind": None}
    return {
        **(_anomaly(anomaly) if anomaly else {**texts, "objects": [], "region": None}),
        "candidate": one.id,
        "origin": one.origin,
        "detector": one.detector,
        "outcome": one.outcome,
        "agreement": one.agreement,
    }


def _anomaly(anomaly: Anomaly) -> Row:
    values = anomaly.model_dump(exclude={"objects", "region", "basis"})
    return {**values, "objects": list(anomaly.objects), "region": _region(anomaly.region)}


def _region(region: Region | None) -> Row | None:
    if region is None:
        return None
    polygon = [list(point) for point in region.polygon] if region.polygon else None
    return {"x0": region.x0, "y0": region.y0, "x1": region.x1, "y1": region.y1, "polygon": polygon}
