"""Makes a dataset folder of scenes: images, twins, the ground truth in four forms, a contact sheet and a card.

A scene is drawn, written and recorded in one step, so a killed command continues where it was. The files written at
the end follow from the records alone; `metadata.jsonl` is the last of them: where it exists, the dataset is complete.

    make_scenes(Path("scenes"), SceneSettings(world="sprites", n=12, seed=7))
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomreason.anomaly import KINDS, Anomaly, Kind, Region
from anomreason.errors import UsageError
from anomreason.files import Appender, read_lines, write_atomically
from anomreason.runs import FolderKind, ResumableFolder, settings_difference
from anomreason.scenes.scene import Scene, VisibleObject, World, check_arguments, without
from anomreason.sources.formats.published import PublishedImage, write_published

WORLDS = {"sprites": "anomreason.scenes.sprites.world:SpriteWorld", "rooms": "anomreason.scenes.rooms.world:RoomWorld"}
"""Class of each world; its module is imported when the world is opened."""
LEAST_SIDE, MOST_SIDE = 64, 2048
_SHARES = (0.6, 0.3, 0.1)
"""Of the scenes with violations: those with one, two and three."""
FOLDER = FolderKind("scenes", "scenes.json", "scenes.lock", "another --out")
RECORDS = "scenes.jsonl"
_PACK = 8
"""Scenes a process gets at a time."""

Progress = Callable[[int, int], None]
"""Called with the number of scenes done and of all scenes."""
Row = Mapping[str, Any]
"""A line of metadata.jsonl."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What to make. The command line has the same names and defaults."""

    world: str = "sprites"
    n: int = 100
    """Scenes; twins come on top."""
    seed: int = 0
    size: int = 512
    """Edge of an image in pixels."""
    violation_rate: float = 2 / 3
    """Share of scenes with at least one violation."""
    max_violations: int = 3
    """In one scene."""
    kinds: tuple[Kind, ...] = ()
    """Only violations of these kinds, written with underscores or spaces; empty: all kinds of the world."""
    twins: bool = True
    """Whether the mended twins are written too; not wanted where the scenes stand for a generator's output."""

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise UsageError(f"there is no world {self.world!r}; choose {' or '.join(WORLDS)}")
        if self.n < 1:
            raise UsageError(f"n is {self.n}; choose at least 1 scene")
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}; choose 0 or more")
        if not LEAST_SIDE <= self.size <= MOST_SIDE:
            raise UsageError(f"the size is {self.size}; choose {LEAST_SIDE} to {MOST_SIDE} pixels")
        if not 0 <= self.violation_rate <= 1:
            raise UsageError(f"the violation rate is {self.violation_rate}; it is a share of scenes, 0 to 1")
        if not 1 <= self.max_violations <= len(_SHARES):
            raise UsageError(f"max-violations is {self.max_violations}; choose 1 to {len(_SHARES)}")
        object.__setattr__(self, "kinds", tuple(_kind(text) for text in self.kinds))


def _kind(text: str) -> Kind:
    by_name = {kind.replace("_", " "): kind for kind in KINDS}
    name = text.replace("_", " ").strip().lower()
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"there is no kind {text!r}{hint}; the kinds are {', '.join(by_name)}")


@dataclass(frozen=True, slots=True)
class SceneDataset:
    """What a dataset folder holds."""

    folder: Path
    scenes: int
    clean: int
    images: int
    """Scenes and twins."""
    planted: dict[str, int]
    """Violations by kind, commonest first."""


def open_world(name: str) -> World:
    """The world of this name. UsageError for another name, MissingExtra for one whose libraries are missing."""
    if name not in WORLDS:
        raise UsageError(f"there is no world {name!r}; choose {' or '.join(WORLDS)}")
    module, _, attribute = WORLDS[name].partition(":")
    world: World = getattr(import_module(module), attribute)()
    return world


def make_scenes(
    out: Path, make: SceneSettings = SceneSettings(), jobs: int | None = None, progress: Progress = lambda *_: None
) -> SceneDataset:
    """Make a dataset, or continue one that was begun with the same settings (a larger `n` adds scenes).

    jobs: processes; None: one a core for sprites, one for rooms, whose renderer uses all cores. Raises UsageError and
    RunConflict for settings that cannot be used, StorageError when the disk is full: the scenes made so far stay.
    """
    world = open_world(make.world)
    check_arguments(world, make.seed, make.size, 0, make.kinds)
    with _open(out, make, world.version) as records:
        done = {record["scene"] for _, record in read_lines(out / RECORDS, appended=True) if _has_files(out, record)}
        left = [scene for scene in range(make.n) if scene not in done]
        progress(make.n - len(left), make.n)
        for count, record in enumerate(_draw_all(out, make, left, jobs), make.n - len(left) + 1):
            records.append(json.dumps(record))
            progress(count, make.n)
        last = {record["scene"]: record for _, record in read_lines(out / RECORDS, appended=True)}
        return _finish(out, make, world, [last[scene] for scene in sorted(last)])


@contextmanager
def _open(out: Path, make: SceneSettings, version: str) -> Iterator[Appender]:
    """Opens the records of the folder, locked for this process."""
    settings = json.loads(json.dumps({**asdict(make), "world_version": version}))
    with ResumableFolder(out, FOLDER) as folder:
        before = folder.settings()
        if before is not None:
            differences = settings_difference({**before, "n": 0}, {**settings, "n": 0})
            there = before.get("n")
            if not isinstance(there, int) or there > settings["n"]:
                differences.append(f"n: {there} there, {settings['n']} now; scenes can be added, not removed")
            folder.refuse(differences)
        folder.record(settings)
        (out / "images").mkdir(exist_ok=True)
        records = Appender(out / RECORDS)
        try:
            yield records
        finally:
            records.close()


def _has_files(out: Path, record: Mapping[str, Any]) -> bool:
    return all((out / row["file_name"]).is_file() for row in record["rows"])


def scene_seed(make: SceneSettings, scene: int) -> tuple[int, int]:
    """Seed of the scene's drawing, and how many violations are planted."""
    rng = np.random.default_rng([make.seed, scene])
    seed, anomalous, number = int(rng.integers(2**32)), rng.random(), rng.random()
    if anomalous >= make.violation_rate:
        return seed, 0
    shares = np.cumsum(_SHARES[: make.max_violations])
    return seed, 1 + int(np.searchsorted(shares / shares[-1], number, side="right"))


def _draw_all(out: Path, make: SceneSettings, left: Sequence[int], jobs: int | None) -> Iterator[dict[str, Any]]:
    """Records as scenes are done, in no fixed order."""
    jobs = jobs or ((os.cpu_count() or 1) if make.world == "sprites" else 1)
    packs = [left[start : start + _PACK] for start in range(0, len(left), _PACK)]
    if jobs == 1 or len(packs) <= 1:
        world = open_world(make.world)
        yield from (_draw_one(world, out, make, scene) for scene in left)
        return
    # Not forked: a renderer's threads do not survive that.
    pool = ProcessPoolExecutor(min(jobs, len(packs)), multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        waiting = {pool.submit(_draw_pack, out, make, pack) for pack in packs}
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Makes a process of the pool end when the command does, however that ends: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's, which ends this process

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _draw_pack(out: Path, make: SceneSettings, scenes: Sequence[int]) -> list[dict[str, Any]]:
    world = open_world(make.world)
    return [_draw_one(world, out, make, scene) for scene in scenes]


def _draw_one(world: World, out: Path, make: SceneSettings, scene: int) -> dict[str, Any]:
    seed, count = scene_seed(make, scene)
    drawn = world.draw(seed, size=make.size, count=count, kinds=make.kinds if count else ())
    name = f"images/{scene:06}.png"
    twins = [f"images/{scene:06}-t{k}.png" for k in range(1, len(drawn.twins) + 1)] if make.twins else []
    for file, image in zip([name, *twins], [one.image for one in (drawn, *drawn.twins)], strict=False):
        _save(image, out / file, level=4)
    common = {"scene": scene, "world": make.world, "world_version": world.version, "seed": seed, "size": make.size}
    common["place"] = drawn.place
    return {"scene": scene, "rows": _rows(drawn, common, name, twins)}


def _rows(scene: Scene, common: Mapping[str, Any], name: str, twins: Sequence[str]) -> list[dict[str, Any]]:
    """Lines of metadata.jsonl: of the scene, then of its twins."""
    anomalies = [
        {"kind": p.kind, "level": p.level, **p.anomaly.model_dump(exclude={"objects", "region", "basis"})}
        | {"objects": list(p.anomaly.objects), "region": _box(p.anomaly.region)}
        for p in scene.planted
    ]
    rows = [_row(name, common, anomalies, scene.objects) | {"twins": [*twins], "twin_of": "", "mended": -1}]
    for k, (twin, version) in enumerate(zip(twins, scene.twins, strict=False)):
        row = _row(twin, common, without(anomalies, k), version.objects)
        rows.append(row | {"twins": [], "twin_of": name, "mended": k})
    return rows


def _row(
    name: str, common: Mapping[str, Any], anomalies: Sequence[Row], objects: Sequence[VisibleObject]
) -> dict[str, Any]:
    boxes = [{"name": o.name, "synonyms": list(o.synonyms), "box": _box(o.region)} for o in objects]
    return {"file_name": name, **common, "anomalies": [*anomalies], "objects": boxes}


def _save(image: Image.Image, path: Path, level: int) -> None:
    """As PNG of this compression level. Not synced: an image that is lost is drawn again."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    write_atomically(path, buffer.getvalue(), sync=False)


def _finish(out: Path, make: SceneSettings, world: World, records: Sequence[Mapping[str, Any]]) -> SceneDataset:
    rows = [row for record in records for row in record["rows"]]
    scenes = [record["rows"][0] for record in records]
    planted: dict[str, int] = {}
    for row in scenes:
        for anomaly in row["anomalies"]:
            planted[anomaly["kind"]] = planted.get(anomaly["kind"], 0) + 1
    planted = dict(sorted(planted.items(), key=lambda kind: (-kind[1], kind[0])))
    made = SceneDataset(out, len(scenes), sum(not row["anomalies"] for row in scenes), len(rows), planted)
    _write_truth(out, rows)
    _write_sheet(out, scenes)
    _write_card(out, asdict(make) | {"world_version": world.version}, asdict(made))
    return made


SHEET = "contact-sheet.png"
LICENCES = {
    "sprites": ("mit", "The sprites are Microsoft's Fluent 3D emoji (MIT licence, notice in the package)."),
    "rooms": ("cc0-1.0", "The models are CC0; their authors are named in the package."),
}
"""Licence of the material of each world: its identifier on the hub, and a sentence."""
_CELL, _LABEL, _COLUMNS, _ROWS = 224, 34, 6, 8


def _box(region: Region | None) -> list[float]:
    """As files have it: x0, y0, x1, y1 in fractions of the image."""
    return [] if region is None else [round(v, 6) for v in region.box]


def _write_truth(out: Path, rows: Sequence[Row]) -> None:
    """published.json, simulator.json, then metadata.jsonl."""
    write_published(out / "published.json", {r["file_name"]: PublishedImage(anomalies=_anomalies(r)) for r in rows})
    known = {row["file_name"]: _known(row) for row in rows}
    write_atomically(out / "simulator.json", json.dumps(known, indent=1) + "\n")
    write_atomically(out / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _anomalies(row: Row) -> tuple[Anomaly, ...]:
    keys = ("name", "phenomenon", "reasoning", "severity")
    return tuple(Anomaly(**{key: anomaly[key] for key in keys}) for anomaly in row["anomalies"])


def _known(row: Row) -> dict[str, Any]:
    """One image in the form of the simulator, in which names of objects are unique."""
    names = list(_unique(o["name"] for o in row["objects"]))
    objects = [
        {"name": name, "description": f"{o['name'].capitalize()} in the picture.", "box": o["box"]}
        for name, o in zip(names, row["objects"], strict=True)
    ]
    anomalies = []
    for anomaly in row["anomalies"]:
        known = {key: anomaly[key] for key in ("name", "phenomenon", "reasoning", "severity", "region")}
        anomalies.append(
            known | {"objects": [_concerned(name, anomaly["region"], objects) for name in anomaly["objects"]]}
        )
    return {"objects": objects, "anomalies": anomalies}


def _unique(names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}"


def _concerned(name: str, region: Sequence[float], objects: Sequence[Row]) -> str:
    """The object of this name that overlaps the region most."""
    alike = [o for o in objects if o["name"] == name or o["name"].startswith(f"{name} ")]
    if not alike:
        return name
    where = Region.model_validate(region)
    return str(max(alike, key=lambda o: Region.model_validate(o["box"]).iou(where))["name"])


def _write_sheet(out: Path, scenes: Sequence[Row]) -> None:
    """Thumbnails of the first scenes, with a frame around each planted region."""
    shown = scenes[: _COLUMNS * _ROWS]
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (min(len(shown), _COLUMNS) * _CELL, rows * (_CELL + _LABEL)), "white")
    for place, row in enumerate(shown):
        y, x = divmod(place, _COLUMNS)
        sheet.paste(_cell(out, row), (x * _CELL, y * (_CELL + _LABEL)))
    _save(sheet, out / SHEET, level=6)


def _cell(out: Path, row: Row) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL + _LABEL), "white")
    with Image.open(out / row["file_name"]) as image:
        cell.paste(image.resize((_CELL - 4, _CELL - 4), Image.Resampling.LANCZOS), (2, 2))
    draw = ImageDraw.Draw(cell)
    for anomaly in row["anomalies"]:
        x0, y0, x1, y1 = (2 + v * (_CELL - 4) for v in anomaly["region"])
        draw.rectangle((x0, y0, x1, y1), outline="#d00000", width=2)
    labels = [f"{a['kind']}: {a['objects'][0] if a['objects'] else 'scene'}" for a in row["anomalies"]] or ["clean"]
    draw.text(
        (4, _CELL), "\n".join([", ".join(labels[:1]), ", ".join(labels[1:])]), "black", ImageFont.load_default(12)
    )
    return cell


def _write_card(out: Path, make: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """README.md, as a hub shows it."""
    kinds = "\n".join(f"| {kind} | {count} |" for kind, count in made["planted"].items())
    figures = {key: value for key, value in made.items() if key not in ("planted", "folder")}
    licence, notice = LICENCES[make["world"]]
    card = files("anomreason.scenes").joinpath("card.md").read_text(encoding="utf-8")
    text = card.format(**{**make, **figures}, table=kinds, licence=licence, notice=notice)
    write_atomically(out / "README.md", text)
