"""Small audits for tests: generators behind a local images endpoint, given images, and the simulator as assessor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.dataset.generators.images_server import drawn

PROMPTS = ("a cup", "a dog", "a lamp")
SEEDS = (0, 1)


def anomaly(number: int, severity: int) -> dict[str, object]:
    """One for a truth file."""
    words = {"name": f"Error {number}", "phenomenon": "It is seen.", "reasoning": "It cannot be."}
    return words | {"severity": severity, "objects": []}


def write_truth(folder: Path, styles: Mapping[str, int], prompts: Iterable[str] = PROMPTS) -> Path:
    """A truth file for `sim:` that knows what the endpoint draws. styles: anomalies in each image of a model."""
    (folder / "known").mkdir(exist_ok=True)
    truth = {}
    for style, count in styles.items():
        for prompt in prompts:
            for seed in SEEDS:
                name = f"known/{style}-{prompt}-{seed}.png".replace(" ", "-")
                drawn(f"style {style} {prompt} {seed}").save(folder / name)
                truth[name] = {"objects": [], "anomalies": [anomaly(n, 20 + n) for n in range(count)]}
    file = folder / "truth.json"
    file.write_text(json.dumps(truth))
    return file


def write_prompts(folder: Path, prompts: Sequence[str] = PROMPTS) -> None:
    rows = ({"id": f"p{n}", "text": text, "tags": ["objects"]} for n, text in enumerate(prompts, 1))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(folder: Path, style: str, url: str, price: float | None = None, more: str = "") -> Path:
    """A recipe of a model behind the endpoint."""
    file = folder / f"{style}.toml"
    cost = "" if price is None else f"price_per_image = {price}\n"
    part = f'base_url = "{url}"\nmodel = "style {style}"\nsend_seed = true\nin_flight = 1\nfirst_wait = 0.001\n'
    file.write_text(f'name = "{style}"\n[endpoint]\n{part}{cost}{more}')
    return file


def write_given(folder: Path, style: str, prompts: Sequence[str] = PROMPTS, seeds: Sequence[int] = SEEDS) -> Path:
    """A folder of images with its manifest."""
    images = folder / style
    images.mkdir()
    rows = ["file_name,prompt,seed"]
    for prompt in prompts:
        for seed in seeds:
            name = f"{prompt}-{seed}.png".replace(" ", "-")
            drawn(f"style {style} {prompt} {seed}").save(images / name)
            rows.append(f"{name},{prompt},{seed}")
    (images / "manifest.csv").write_text("\n".join(rows) + "\n")
    return images


def write_audit(
    folder: Path,
    generators: Sequence[str],
    head: str = "",
    assessor: str = 'name = "sim"\nmodel = "sim:truth.json"\nschedule = "single"\nin_flight = 1\n',
) -> Path:
    """An audit of recipes (`style.toml`) and folders of images, and one assessor."""
    parts = [f'prompts = "prompts.jsonl"\n{head}']
    for one in generators:
        parts.append(f'[[generators]]\n{"recipe" if one.endswith(".toml") else "images"} = "{one}"\n')
    parts.append(f"[[assessors]]\n{assessor}")
    file = folder / "audit.toml"
    file.write_text("\n".join(parts))
    return file
