"""What a dataset of scenes holds beside its pictures: the truth in three more forms, a contact sheet, a card.

Knows rows of metadata.jsonl only, not how a scene is drawn. `metadata.jsonl` is written last: where it stands, the
dataset is whole.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from anomreason.anomaly import Anomaly, Region
from anomreason.runs import write_atomically
from anomreason.sources.formats import Published, write_published

SHEET = "contact-sheet.png"
LICENCES = {
    "sprites": ("mit", "The sprites are Microsoft's Fluent 3D emoji (MIT licence, notice in the package)."),
    "rooms": ("cc0-1.0", "The models are CC0; their authors are named in the package."),
}
"""Of what the pictures are made of: as a hub names it, and in a sentence."""
_CELL, _LABEL, _COLUMNS, _ROWS = 224, 34, 6, 8

Row = Mapping[str, Any]


def box(region: Region | None) -> list[float]:
    """As files have it: x0, y0, x1, y1 in fractions of the picture, to a ten-thousandth of a pixel of 1,000."""
    return [] if region is None else [round(v, 6) for v in (region.x0, region.y0, region.x1, region.y1)]


def write_truth(out: Path, rows: Sequence[Row]) -> None:
    """published.json, simulator.json, then metadata.jsonl."""
    write_published(out / "published.json", {r["file_name"]: Published(anomalies=_anomalies(r)) for r in rows})
    known = {row["file_name"]: _known(row) for row in rows}
    write_atomically(out / "simulator.json", json.dumps(known, indent=1) + "\n")
    write_atomically(out / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _anomalies(row: Row) -> tuple[Anomaly, ...]:
    keys = ("name", "phenomenon", "reasoning", "severity")
    return tuple(Anomaly(**{key: anomaly[key] for key in keys}) for anomaly in row["anomalies"])


def _known(row: Row) -> dict[str, Any]:
    """One picture as the simulator knows it, where no two objects have one name."""
    names = list(_unique(o["name"] for o in row["objects"]))
    objects = [
        {"name": name, "description": f"{o['name'].capitalize()} in the picture.", "box": o["box"]}
        for name, o in zip(names, row["objects"], strict=True)
    ]
    anomalies = []
    for anomaly in row["anomalies"]:
        known = {key: anomaly[key] for key in ("name", "phenomenon", "reasoning", "severity", "region")}
        anomalies.append(known | {"objects": [_meant(name, anomaly["region"], objects) for name in anomaly["objects"]]})
    return {"objects": objects, "anomalies": anomalies}


def _unique(names: Iterator[str] | Sequence[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}"


def _meant(name: str, region: Sequence[float], objects: Sequence[Row]) -> str:
    """Of the objects of this name, the one that the region covers best."""
    alike = [o for o in objects if o["name"] == name or o["name"].startswith(f"{name} ")]
    if not alike:
        return name
    where = _region(region)
    return str(max(alike, key=lambda o: _region(o["box"]).iou(where))["name"])


def _region(values: Sequence[float]) -> Region:
    return Region(x0=values[0], y0=values[1], x1=values[2], y1=values[3])


def write_sheet(out: Path, scenes: Sequence[Row]) -> None:
    """The first scenes, small, each planted region framed."""
    shown = scenes[: _COLUMNS * _ROWS]
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (min(len(shown), _COLUMNS) * _CELL, rows * (_CELL + _LABEL)), "white")
    for place, row in enumerate(shown):
        y, x = divmod(place, _COLUMNS)
        sheet.paste(_cell(out, row), (x * _CELL, y * (_CELL + _LABEL)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    part = out / f"{SHEET}.part"
    part.write_bytes(buffer.getvalue())
    os.replace(part, out / SHEET)


def _cell(out: Path, row: Row) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL + _LABEL), "white")
    with Image.open(out / row["file_name"]) as picture:
        cell.paste(picture.resize((_CELL - 4, _CELL - 4), Image.Resampling.LANCZOS), (2, 2))
    draw = ImageDraw.Draw(cell)
    for anomaly in row["anomalies"]:
        x0, y0, x1, y1 = (2 + v * (_CELL - 4) for v in anomaly["region"])
        draw.rectangle((x0, y0, x1, y1), outline="#d00000", width=2)
    said = [f"{a['kind']}: {a['objects'][0] if a['objects'] else 'scene'}" for a in row["anomalies"]] or ["clean"]
    draw.text((4, _CELL), "\n".join([", ".join(said[:1]), ", ".join(said[1:])]), "black", ImageFont.load_default(12))
    return cell


def write_card(out: Path, make: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """README.md, as a hub shows it."""
    kinds = "\n".join(f"| {kind} | {count} |" for kind, count in made["planted"].items())
    figures = {key: value for key, value in made.items() if key not in ("planted", "folder")}
    licence, told = LICENCES[make["world"]]
    card = files("anomreason.scenes").joinpath("card.md").read_text(encoding="utf-8")
    said = card.format(**{**make, **figures}, table=kinds, licence=licence, told=told)
    write_atomically(out / "README.md", said)
