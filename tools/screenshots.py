"""Takes the screenshots of docs/: runs commands of the docs on scenes, and opens what they made in Chromium.

    python -m tools.screenshots docs/pages --only report --only audit

What needs a model asks the bundled one, or the simulator where that cannot answer; the docs say which.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from anomreason.audit.prompts.packs import read_pack
from anomreason.cli.demo import demo_scenes
from anomreason.scenes.make import make_scenes

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOADED = """() => Promise.all([...document.images]
  .filter((image) => image.getBoundingClientRect().top < innerHeight)
  .map((image) => image.complete || new Promise((done) => (image.onload = image.onerror = done))))"""
"""Waits for the images in view; those below may never be loaded."""
MOST_BYTES = 120_000
"""Of one screenshot."""


@dataclass(frozen=True)
class Work:
    """What a page is made with."""

    folder: Path
    """Empty at first."""
    page: Page
    """Shows in the end what is taken."""
    servers: ExitStack
    """Those that run until it is taken."""


@dataclass(frozen=True)
class Screenshot:
    """One page, and what of it is shown."""

    make: Callable[[Work], Path | None]
    """Makes the page and gives its file; None when the browser shows it already."""
    height: int
    """Pixels shown, from the top of the page."""
    width: int = 1200


def anomreason(folder: Path, *arguments: str) -> None:
    """Runs one command in the folder. Raises what it printed when it fails."""
    ran = subprocess.run([sys.executable, "-m", "anomreason", *arguments], cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"anomreason {' '.join(arguments)}: {ran.stderr.strip() or ran.stdout.strip()}")


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[str]:
    """The URL that a command prints, while it serves there."""
    command = [sys.executable, "-m", "anomreason", *arguments, "--port", "0"]
    quick = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=quick, text=True) as serving:
        try:
            lines = serving.stdout or ()
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.:]+(/v1)?", line)))
        finally:
            serving.terminate()


def scenes(folder: Path, name: str, *options: str) -> None:
    anomreason(folder, "scenes", "make", "--out", name, "--size", "256", "--no-twins", *options)


def report(work: Work) -> Path:
    """The bundled model's detections in the scenes of the demo."""
    folder = work.folder
    make_scenes(folder / "scenes", demo_scenes(), jobs=1)
    anomreason(folder, "detect", "scenes", "--model", "tiny", "--run", "run")
    return folder / "run" / "report.html"


def one_image(work: Work) -> Path:
    """The page of one image in the report of simulated agents."""
    folder = work.folder
    make_scenes(folder / "scenes", demo_scenes(), jobs=1)
    model = ("--model", "sim:scenes/simulator.json", "--crops", "always")
    anomreason(folder, "detect", "scenes/images/000000.png", *model, "--run", "run", "--yes")
    (page,) = (folder / "run" / "report" / "pages").glob("*.html")
    return page


def dataset(work: Work) -> Path:
    """Statistics of a dataset of two sources of scenes, whose anomalies are known from the start."""
    folder = work.folder
    for seed, (name, rate) in enumerate({"careful": "0.3", "careless": "0.9"}.items(), 1):
        scenes(folder, name, "--n", "60", "--seed", str(seed), "--violation-rate", rate)
        anomreason(folder, "dataset", "collect", "data", name, "--source", name, "--kind", "ai")
    anomreason(folder, "dataset", "filter", "data")
    anomreason(folder, "dataset", "split", "data")
    anomreason(folder, "dataset", "stats", "data", "--html", "stats.html")
    return folder / "stats.html"


def audit(work: Work) -> Path:
    """Three generators, for which scenes with ever more anomalies stand, assessed by the bundled model."""
    folder = work.folder
    prompts = read_pack("photo-246")[:20]
    for seed, (name, rate) in enumerate({"careful": "0.1", "average": "0.5", "careless": "1.0"}.items(), 1):
        scenes(folder, name, "--n", "40", "--seed", str(seed), "--violation-rate", rate)
        with (folder / name / "manifest.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file_name", "prompt"])
            rows.writerows([f"images/{n:06}.png", prompt.id] for n, prompt in enumerate([*prompts, *prompts]))
    generators = "".join(f'[[generators]]\nimages = "{name}"\n' for name in ("careful", "average", "careless"))
    (folder / "audit.toml").write_text(
        f'prompts = "photo-246"\nlimit = 20\n{generators}[[assessors]]\nmodel = "tiny"\n', encoding="utf-8"
    )
    anomreason(folder, "audit", "audit.toml", "--yes")
    return folder / "audit" / "report.html"


def deepfake(work: Work) -> Path:
    """The card of a simulated detector that errs; scenes without anomalies stand for photographs."""
    folder = work.folder
    known: dict[str, object] = {}
    for seed, (name, rate, generated) in enumerate((("clean", "0", False), ("wrong", "1", True)), 1):
        scenes(folder, name, "--n", "100", "--seed", str(seed), "--violation-rate", rate)
        truth = json.loads((folder / name / "simulator.json").read_text(encoding="utf-8"))
        known |= {f"{name}/{image}": {**one, "generated": generated} for image, one in truth.items()}
    (folder / "both.json").write_text(json.dumps(known), encoding="utf-8")
    rates = ("--source-recall", "0.85", "--false-alarms", "0.08")
    url = work.servers.enter_context(server(folder, "simulate", "both.json", *rates))
    model = ("--model", "simulated", "--base-url", url, "--max-tokens", "90000000", "--yes")
    anomreason(folder, "deepfake", "make", "set", "--real", "photos=clean", "--fake", "scenes=wrong", *model)
    anomreason(folder, "deepfake", "run", "set", *model, "--name", "try")
    return next((folder / "set" / "runs" / "try" / "card").glob("*.html"))


def service(work: Work) -> None:
    """The page of the service, with an image dropped on it that the simulator knows."""
    make_scenes(work.folder / "scenes", demo_scenes(), jobs=1)
    arguments = ("serve", "--model", "sim:scenes/simulator.json", "--no-browser")
    work.page.goto(work.servers.enter_context(server(work.folder, *arguments)))
    work.page.set_input_files("input[type=file]", work.folder / "scenes" / "images" / "000000.png")
    work.page.get_by_role("heading", name="2 anomalies").wait_for()


SCREENSHOTS = {
    "report": Screenshot(report, height=900),
    "image": Screenshot(one_image, height=1000),
    "dataset": Screenshot(dataset, height=900),
    "audit": Screenshot(audit, height=900),
    "deepfake": Screenshot(deepfake, height=900),
    "serve": Screenshot(service, height=1030),
    "serve-phone": Screenshot(service, height=844, width=390),
}


def taken(browser: Browser, shot: Screenshot, folder: Path) -> Image.Image:
    """The page as it looks. Whatever it complains of is an error."""
    page = browser.new_page(viewport={"width": shot.width, "height": shot.height}, color_scheme="light")
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    with ExitStack() as servers:
        if file := shot.make(Work(folder, page, servers)):
            page.goto(file.as_uri(), wait_until="load")
        page.evaluate(LOADED)
        pixels = page.screenshot()
        page.close()
    if wrong:
        raise SystemExit(f"{shot}: {wrong}")
    return Image.open(io.BytesIO(pixels)).convert("RGB")


def save(image: Image.Image, file: Path) -> None:
    """As WebP of the best quality that keeps it small enough to be in a repository."""
    for quality in range(88, 30, -6):
        data = io.BytesIO()
        image.save(data, "WEBP", quality=quality, method=6)
        if data.tell() <= MOST_BYTES:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.getvalue())
            print(f"{file}: {image.width}x{image.height}, {data.tell():,} bytes")
            return
    raise SystemExit(f"{file}: more than {MOST_BYTES:,} bytes; show less of the page")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the screenshots")
    parser.add_argument("--only", action="append", choices=sorted(SCREENSHOTS), help="repeatable; default: all")
    given = parser.parse_args(arguments)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in given.only or SCREENSHOTS:
            with tempfile.TemporaryDirectory() as folder:
                save(taken(browser, SCREENSHOTS[name], Path(folder)), given.out / f"{name}.webp")
        browser.close()


if __name__ == "__main__":
    main()
