"""Replies as a careful reader of real pictures gave them, kept as text: what real replies look like must be read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from anomreason.agent import replies
from anomreason.agent.boxes import BoxReader

KEPT = Path(__file__).parents[1] / "data" / "replies.jsonl"


def read(kept: dict[str, Any]) -> Any:
    step, text = kept["step"], kept["reply"]
    if step.startswith("objects"):
        return replies.read_objects(text)
    readers = {
        "single": lambda text: replies.read_single(text, boxes=BoxReader((1024, 1024), "sim:kept")),
        "inspect": replies.inspection_reader(kept["asked"]),
        "look-again": replies.checked_report_reader(kept["ids"]),
        "format": replies.report_reader(kept["ids"]),
        "review-2": replies.reviewed_reader(kept["ids"]),
        "attributes-2": replies.read_attributes,
        "relations-2": replies.read_proposals,
    }
    return readers.get(step, replies.read_prose)(text)


def test_every_kept_reply_is_read_and_every_asked_step_is_among_them() -> None:
    kept = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    steps = Counter(k["step"] for k in kept)
    assert steps["single"] >= 12
    assert steps["look-again"] >= 12
    assert steps["format"] >= 2
    for k in kept:
        value = read(k)
        if k["step"] == "single":
            assert len(value) == len(json.loads(k["reply"])["anomalies"])
            assert all(a.region for a in value if any(i["box"] for i in json.loads(k["reply"])["anomalies"]))
