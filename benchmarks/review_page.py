"""Claim: in the review page, 95 % of key presses have the next candidate painted within 100 ms.

Serves a dataset of 1024x1024 images with `anomreason review` in a process of its own, opens the page in headless
Chromium over loopback, and judges by key. A press counts from the keyboard event to the first frame after the next
candidate with its image is all there.

    python benchmarks/review_page.py --candidates 500
"""

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from anomreason.dataset.store import add_new, open_store
from anomreason.dataset.tables import CandidateRow, ImageRow, ImageState, Origin, Outcome, SourceRow

WATCH = """
(() => {
  window.waits = [];
  let pressed = null;
  addEventListener("keydown", (event) => (pressed = event.timeStamp), true);
  const painted = (then) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = then;
    channel.port2.postMessage(null);
  });
  let last = null;
  new MutationObserver(() => {
    const card = document.querySelector('article[aria-busy="false"][data-candidate]');
    if (!card || card.dataset.candidate === last) return;
    last = card.dataset.candidate;
    const from = pressed;
    pressed = null;
    painted(() => from === null || window.waits.push(performance.now() - from));
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-busy"] });
})();
"""


def png(seed: int, side: int) -> bytes:
    """A photograph-like image: smooth shapes under fine noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((side, side))
    pixels = np.clip(np.asarray(coarse, np.float32) + rng.normal(0, 12, (side, side, 1)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def fill(folder: Path, candidates: int, side: int) -> None:
    """A dataset with two candidates an image."""
    rng = np.random.default_rng(0)
    with open_store(folder, create=True) as store, store.command("plant", {}) as command:
        (folder / "images").mkdir()
        by, images = {"command_id": command.id}, []
        for n in range(1, (candidates + 1) // 2 + 1):
            data = png(n, side)
            (folder / "images" / f"{n}.png").write_bytes(data)
            place = {"path": f"images/{n}.png", "name": f"{n}.png", "width": side, "height": side, "format": "PNG"}
            sha256 = hashlib.sha256(data).hexdigest()
            known = {"sha256": sha256, "bytes": len(data), "facts": {}, "status": ImageState.KEPT, "source_id": 1}
            images.append({"id": n, **place, **known, **by})
        found = []
        for n in range(candidates):
            x, y = rng.uniform(0, 0.7, 2).tolist()
            said = {
                "name": f"Object {n} is where it cannot be",
                "phenomenon": "It hangs in the air beside the table, and nothing that is seen carries it or could. "
                * 2,
                "reasoning": "Things without support fall; no string, hand or shelf is in the image. " * 3,
            }
            more = {"severity": 7 * n % 101, "kind": "floating", "objects": ["table", "cup"], "detector": "planted"}
            region = {"x0": x, "y0": y, "x1": x + 0.2, "y1": y + 0.3}
            state = {"origin": Origin.DETECTOR, "outcome": Outcome.UNVERIFIED}
            found.append({"image_id": n // 2 + 1, "number": n % 2, "region": region, **said, **more, **state, **by})
        with store.writing() as session:
            add_new(session, SourceRow, [{"id": 1, "name": "noise", "kind": "ai", **by}])
            add_new(session, ImageRow, images)
            add_new(session, CandidateRow, found)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Ada's link to the real server."""
    command = [sys.executable, "-m", "anomreason", "review", str(folder), "--person", "ada", "--port", "0"]
    server = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True, bufsize=1)
    assert server.stdout
    try:
        yield next(found[1] for line in server.stdout if (found := re.search(r"ada +(http\S+)", line)))
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--pause", type=int, default=300, help="milliseconds between the next candidate and the key")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "data")
        fill(folder, args.candidates, args.side)
        with served(folder) as link, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None),
                args=["--no-sandbox"],
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(WATCH)
            page.goto(link)
            page.wait_for_selector('article[aria-busy="false"]')
            for n in range(args.candidates - 1):
                page.wait_for_timeout(args.pause)
                page.keyboard.press("ax"[n % 2])
                page.wait_for_function("n => window.waits.length > n", arg=n)
            waits = np.array(page.evaluate("window.waits"))
            browser.close()
    p50, p95, p99 = np.percentile(waits, [50, 95, 99])
    load = os.getloadavg()[0]
    print(
        f"{len(waits)} presses, load average {load:.1f}: p50 {p50:.0f} ms, p95 {p95:.0f} ms (bar 100), p99 {p99:.0f} ms"
    )


if __name__ == "__main__":
    main()
