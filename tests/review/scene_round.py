"""A dataset of scenes to review: half of the candidates are right, the others tell of what a mended twin no longer has.

truth = add_scenes(store, tmp_path / "scenes", 4)    # {candidate id: whether it is correct}
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from PIL import Image
from sqlalchemy import select

from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import CandidateRow, ImageRow, ImageState, Origin, Outcome, SourceRow
from anomreason.scenes.make import SceneSettings, make_scenes

QUADRUPLE = ("name", "phenomenon", "reasoning", "severity", "kind", "objects")


def add_scenes(store: Store, folder: Path, scenes: int, size: int = 512, seed: int = 7) -> dict[int, bool]:
    """Draw scenes into a folder and fill an empty store with them; gives which candidates are correct."""
    made = make_scenes(folder, SceneSettings(world="sprites", n=scenes, seed=seed, size=size), jobs=1)
    rows = [json.loads(line) for line in (made.folder / "metadata.jsonl").read_text().splitlines()]
    planted = {row["file_name"]: row["anomalies"] for row in rows}
    truth: list[bool] = []
    with store.command("plant", {}) as command, store.writing() as session:
        by = {"command_id": command.id}
        source = SourceRow(name="sprites", kind="ai", generator="sprites", licence="CC0-1.0", **by)
        session.add(source)
        session.flush()
        images, candidates = [], []
        for number, row in enumerate(rows, 1):
            path = (made.folder / row["file_name"]).resolve()
            said = planted[row["twin_of"] or row["file_name"]]
            with Image.open(path) as image:
                width, height = image.size
            images.append(
                {
                    "id": number,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "path": str(path),
                    "name": path.name,
                    "source_id": source.id,
                    "width": width,
                    "height": height,
                    "format": "PNG",
                    "bytes": path.stat().st_size,
                    "facts": {},
                    "status": ImageState.KEPT,
                    **by,
                }
            )
            for place, anomaly in enumerate(said):
                truth.append(place != row["mended"])
                x0, y0, x1, y1 = anomaly["region"]
                candidates.append(
                    {
                        "image_id": number,
                        "number": place,
                        "region": {"x0": x0, "y0": y0, "x1": x1, "y1": y1},
                        "origin": Origin.DETECTOR,
                        "detector": "planted",
                        "outcome": Outcome.UNVERIFIED,
                        **{name: anomaly[name] for name in QUADRUPLE},
                        **by,
                    }
                )
        add_new(session, ImageRow, images)
        add_new(session, CandidateRow, candidates)
        ids = session.scalars(select(CandidateRow.id).order_by(CandidateRow.image_id, CandidateRow.number)).all()
    return dict(zip(ids, truth, strict=True))
