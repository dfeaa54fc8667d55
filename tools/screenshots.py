"""Takes the screenshots of docs/: runs commands of the docs on scenes, and opens what they made in Chromium.

    python -m tools.screenshots docs/pages --only report --only audit

What needs a model asks the bundled one, or the simulator where that cannot answer; the docs say which.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

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
class Screenshot:
    """One page, and what of it is shown."""

    make: Callable[[Path], Path]
    """Makes the page in an empty folder, and gives its file."""
    height: int
    """Pixels shown, from the top or from `at`."""
    width: int = 1200
    at: str | None = None
    """What is scrolled to the top, as a CSS selector; None: the top of the page."""


def anomreason(folder: Path, *arguments: str) -> None:
    """Runs one command in the folder. Raises what it printed when it fails."""
    ran = subprocess.run([sys.executable, "-m", "anomreason", *arguments], cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"anomreason {' '.join(arguments)}: {ran.stderr.strip() or ran.stdout.strip()}")


@contextmanager
def simulated(folder: Path, truth: str, *rates: str) -> Iterator[str]:
    """The URL of a simulator that errs at these rates, while it is open."""
    command = [sys.executable, "-m", "anomreason", "simulate", truth, "--port", "0", *rates]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        line = server.stdout.readline() if server.stdout else ""
        found = re.search(r"http://\S+", line)
        try:
            if not found:
                raise SystemExit(f"the simulator did not start: {line}")
            yield found[0]
        finally:
            server.terminate()


def scenes(folder: Path, name: str, *options: str) -> None:
    anomreason(folder, "scenes", "make", "--out", name, "--size", "256", "--no-twins", *options)


def report(folder: Path) -> Path:
    """The bundled model's detections in the scenes of the demo."""
    make_scenes(folder / "scenes", demo_scenes(), jobs=1)
    anomreason(folder, "detect", "scenes", "--model", "tiny", "--run", "run")
    return folder / "run" / "report.html"


def one_image(folder: Path) -> Path:
    """The page of one image in the report of simulated agents."""
    make_scenes(folder / "scenes", demo_scenes(), jobs=1)
    model = ("--model", "sim:scenes/simulator.json", "--crops", "always")
    anomreason(folder, "detect", "scenes/images/000000.png", *model, "--run", "run", "--yes")
    (page,) = (folder / "run" / "report" / "pages").glob("*.html")
    return page


def dataset(folder: Path) -> Path:
    """Statistics of a dataset of two sources of scenes, whose anomalies are known from the start."""
    for seed, (name, rate) in enumerate({"careful": "0.3", "careless": "0.9"}.items(), 1):
        scenes(folder, name, "--n", "60", "--seed", str(seed), "--violation-rate", rate)
        anomreason(folder, "dataset", "collect", "data", name, "--source", name, "--kind", "ai")
    anomreason(folder, "dataset", "filter", "data")
    anomreason(folder, "dataset", "split", "data")
    anomreason(folder, "dataset", "stats", "data", "--html", "stats.html")
    return folder / "stats.html"


def audit(folder: Path) -> Path:
    """Three generators, for which scenes with ever more anomalies stand, assessed by the bundled model."""
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


def deepfake(folder: Path) -> Path:
    """The card of a simulated detector that errs; scenes without anomalies stand for photographs."""
    known: dict[str, object] = {}
    for seed, (name, rate, generated) in enumerate((("clean", "0", False), ("wrong", "1", True)), 1):
        scenes(folder, name, "--n", "100", "--seed", str(seed), "--violation-rate", rate)
        truth = json.loads((folder / name / "simulator.json").read_text(encoding="utf-8"))
        known |= {f"{name}/{image}": {**one, "generated": generated} for image, one in truth.items()}
    (folder / "both.json").write_text(json.dumps(known), encoding="utf-8")
    with simulated(folder, "both.json", "--source-recall", "0.85", "--false-alarms", "0.08") as url:
        model = ("--model", "simulated", "--base-url", url, "--max-tokens", "90000000", "--yes")
        anomreason(folder, "deepfake", "make", "set", "--real", "photos=clean", "--fake", "scenes=wrong", *model)
        anomreason(folder, "deepfake", "run", "set", *model, "--name", "try")
    return next((folder / "set" / "runs" / "try" / "card").glob("*.html"))


SCREENSHOTS = {
    "report": Screenshot(report, height=900),
    "image": Screenshot(one_image, height=1000),
    "dataset": Screenshot(dataset, height=900),
    "audit": Screenshot(audit, height=900),
    "deepfake": Screenshot(deepfake, height=900),
}


def taken(browser: Browser, shot: Screenshot, page_file: Path) -> Image.Image:
    """The page as it looks. Whatever it complains of is an error."""
    page = browser.new_page(viewport={"width": shot.width, "height": shot.height}, color_scheme="light")
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(page_file.as_uri(), wait_until="load")
    if shot.at:
        page.locator(shot.at).first.evaluate("(element) => element.scrollIntoView()")
    page.evaluate(LOADED)
    pixels = page.screenshot()
    page.close()
    if wrong:
        raise SystemExit(f"{page_file}: {wrong}")
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
                shot = SCREENSHOTS[name]
                save(taken(browser, shot, shot.make(Path(folder))), given.out / f"{name}.webp")
        browser.close()


if __name__ == "__main__":
    main()
