"""A small dataset in work with real image files: sources, verdicts, edits, splits."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import (
    CandidateRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    Origin,
    PromptRow,
    SourceRow,
    SplitRow,
)
from anomreason.dataset.verdicts import record_verdicts

AT = datetime(2026, 1, 1, tzinfo=UTC)
HAND = {
    "name": "Six fingers",
    "phenomenon": "The left hand has six fingers.",
    "reasoning": "A hand has five fingers.",
    "severity": 12.5,
    "kind": "anatomy",
    "objects": ["hand", "woman"],
    "region": {"x0": 0.25, "y0": 0.5, "x1": 0.75, "y1": 1.0},
}
SIGN = {
    "name": '=HYPERLINK("x")',
    "phenomenon": "Das Schild zeigt „Кофе“,\nverkehrt herum.",
    "reasoning": 'Signs are <b>read</b>, | and | "not" mirrored.',
    "severity": 40.0,
    "kind": "lettering",
    "region": {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 0.5, "polygon": [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]},
}
SHADOW = {"name": "No shadow", "phenomenon": "The cup has none.", "reasoning": "Light casts one.", "severity": 70.0}


def picture(number: int, form: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    """Bytes of an image like no other."""
    out = BytesIO()
    comment = {"comment": str(number)} if form == "JPEG" else {}
    Image.new("RGB", size, (number % 256, number // 256 % 256, 128)).save(out, form, **comment)
    return out.getvalue()


class Filler:
    """Adds rows to a store, each with its file."""

    def __init__(self, store: Store, session: Session, command: int) -> None:
        self.store, self.session, self.by = store, session, {"command_id": command}
        self._count = 1000 * command

    def source(self, name: str, **more: Any) -> int:
        row = SourceRow(name=name, **{"kind": "ai", "generator": name, "licence": "CC0-1.0", **more}, **self.by)
        self.session.add(row)
        self.session.flush()
        return row.id

    def image(self, source: int, name: str, path: Path | None = None, split: str | None = None, **more: Any) -> int:
        """path: where its bytes lie already; None: a new file in the dataset's folder."""
        self._count += 1
        data = more.pop("data", None) or picture(self._count, more.get("format", "PNG"))
        if path is None:
            path = self.store.folder / "files" / f"{self._count:04}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        sha = hashlib.sha256(data).hexdigest()
        values = {"width": 24, "height": 16, "format": "PNG", "facts": {}, "status": "kept", **more}
        row = ImageRow(
            sha256=sha, path=self.store.place(path), name=name, source_id=source, bytes=len(data), **values, **self.by
        )
        self.session.add(row)
        self.session.flush()
        if split:
            add_new(self.session, SplitRow, [{"scheme": "default", "image_id": row.id, "split": split, **self.by}])
        return row.id

    def candidate(self, image: int, values: Mapping[str, Any], number: int = 0, **more: Any) -> int:
        given = {"detector": "reader lean", "origin": Origin.DETECTOR, "role": "RelationReasoner", "step": "inspect"}
        row = CandidateRow(image_id=image, number=number, **{**given, "score": 80.0, **values, **more}, **self.by)
        self.session.add(row)
        self.session.flush()
        return row.id

    def judge(self, candidate: int, choice: str, person: str = "ada", edit: dict[str, Any] | None = None) -> None:
        verdict = {"key": f"{candidate} {person}", "candidate_id": candidate, "person": person, "choice": choice}
        record_verdicts(self.session, [{**verdict, "edit": edit, "at": AT, **self.by}])

    def searched(self, image: int, status: str = "ok", detector: str = "reader lean", **record: Any) -> None:
        shared = {"detector": detector, "calls": 3, "tokens": 3000, "cost": 0.01, "record": record, **self.by}
        self.session.add(DetectionRow(image_id=image, status=status, **shared))

    def described(self, image: int, text: str) -> None:
        self.session.add(DescriptionRow(image_id=image, author="reader", text=text, **self.by))

    def prompt(self, text: str) -> int:
        sha = hashlib.sha256(text.encode()).hexdigest()
        add_new(self.session, PromptRow, [{"sha256": sha, "text": text, **self.by}])
        return self.session.scalars(select(PromptRow.id).where(PromptRow.sha256 == sha)).one()


def fill(store: Store) -> None:
    """Seven images that can be exported, in two splits, and some that cannot."""
    with (
        store.command(
            "collect", {"inputs": ["/home/ada/images/", "own=/home/ada/a b.json"], "terms": "https://x.org/a"}
        ) as command,
        store.writing() as session,
    ):
        make = Filler(store, session, command.id)
        flux = make.source("flux", licence="Apache-2.0", terms="See <https://example.org/flux>")
        sd = make.source("sd | 3.5")
        photographs = make.source("photographs", kind="photograph", generator=None, licence=None)
        one = make.image(flux, "cats/one.png", split="train", prompt_id=make.prompt("A cat, photograph"), seed=7)
        make.searched(one, objects=[{"name": "hand", "region": [0.25, 0.5, 0.75, 1.0], "person": True}])
        make.judge(make.candidate(one, HAND), "accept", edit={"severity": 5, "name": "A sixth finger"})
        make.judge(make.candidate(one, SHADOW, 1), "reject")
        make.candidate(one, {**SHADOW, "severity": None, "kind": None}, 2, dropped="score under 50", score=20.0)
        two = make.image(flux, "two.jpg", split="train", format="JPEG")
        sign, shadow = make.candidate(two, SIGN), make.candidate(two, SHADOW, 1)
        for person, choice in (("ada", "accept"), ("bob", "accept"), ("cleo", "reject")):
            make.judge(sign, choice, person)
            make.judge(shadow, "accept", person)
        archive = store.folder / "more.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("deep/two.jpg", inside := picture(1, "JPEG"))
        packed = make.image(sd, "two.jpg", archive / "deep/two.jpg", "test", data=inside, format="JPEG")
        make.judge(make.candidate(packed, SHADOW), "accept")
        make.candidate(packed, HAND, 1)
        hostile = make.image(sd, "../../etc/<script>alert('x')</script>\n\"q\".png", split="test")
        make.candidate(hostile, SIGN, origin=Origin.PUBLISHED, detector="authors")
        clean = make.image(flux, "clean.webp", split="test", format="WEBP")
        make.searched(clean)
        scene = make.image(sd, "scene.png", split="train")
        make.candidate(scene, HAND, origin=Origin.SCENE, detector="scenes", role=None, step=None, score=None)
        make.described(make.image(photographs, "0_real/park.png", split="train"), "A park\nwith a bench.")
        undecided = make.image(flux, "undecided.png", split="train")
        make.candidate(undecided, HAND)
        make.searched(make.image(flux, "failed.png", split="train"), "failed", reason="refused")
        make.image(flux, "nobody.png", split="test")
        dropped = make.image(flux, "dropped.png", split="train", status="dropped", reason="blurry")
        make.judge(make.candidate(dropped, HAND), "accept")
