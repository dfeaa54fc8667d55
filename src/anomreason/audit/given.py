"""Images that exist already, as a generator of an audit: a manifest says of which prompt and seed each one is.

read_given(GivenGenerator("midjourney", Path("mj"), Path("mj.csv")), prompts, seeds=(0, 1)).paths[("p001", 0)]
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from anomreason.audit.plan import GivenGenerator
from anomreason.audit.study import AuditPrompt
from anomreason.english import counted
from anomreason.errors import UsageError, shown
from anomreason.sources.manifests import as_path, manifest_rows

USUAL = ("manifest.jsonl", "manifest.csv", "metadata.jsonl", "metadata.csv")
"""Manifests that a folder may hold itself."""
PROMPT_KEYS = ("prompt", "prompt_id", "id", "text")
"""Columns of the prompt, by its id or its text; the first that is there counts."""

SHOWN = 5
"""Files that a note names."""
Place = tuple[str, int]
"""Id of the prompt, and seed."""


@dataclass(frozen=True, slots=True)
class FolderImages:
    """What a folder has of an audit."""

    paths: Mapping[Place, Path]
    notes: tuple[str, ...]
    """What of the manifest is not used, or lacks its file, in sentences."""


class _GivenRow(NamedTuple):
    where: str
    path: Path
    prompt: str
    """As it is written."""
    seed: int | None
    """None: the manifest has no seeds."""


def read_given(generator: GivenGenerator, prompts: Sequence[AuditPrompt], seeds: Sequence[int]) -> FolderImages:
    """The images of a folder by prompt and seed. Where the manifest has no seeds, the n-th image of a prompt counts
    for the n-th seed of the audit.

    Raises UsageError, naming file and line, for rows that cannot be read or contradict each other, and where not one
    image, prompt or seed of the audit is there.
    """
    manifest = _manifest(generator)
    ids = {prompt.id: prompt.id for prompt in prompts}
    ids |= {prompt.text.strip(): prompt.id for prompt in prompts if prompt.text.strip() not in ids}
    unused: Counter[str] = Counter()
    lost: list[Path] = []
    found: dict[Place, tuple[str, Path]] = {}
    next_seed: dict[str, Iterator[int]] = defaultdict(lambda: iter(seeds))
    foreign: dict[str, None] = {}
    lines: dict[str, str] = {}
    for row in _rows(manifest, generator.folder):
        real = os.path.realpath(row.path)
        if other := lines.get(real):
            raise UsageError(f"{row.where}: {str(row.path)!r} is listed at {other} already; list each image once")
        lines[real] = row.where
        if (id := ids.get(row.prompt)) is None:
            unused["a prompt that the audit does not have"] += 1
            continue
        seed = next(next_seed[id], None) if row.seed is None else row.seed
        if seed is None or seed not in seeds:
            foreign.setdefault(str(row.seed))
            unused["further seeds"] += 1
            continue
        if not row.path.is_file():
            lost.append(row.path)
            continue
        if (id, seed) in found:
            raise UsageError(
                f"{row.where}: prompt {id!r} has an image of seed {seed} at {found[id, seed][0]} already; give each "
                "image its own seed, or leave the column out"
            )
        found[id, seed] = row.where, row.path
    if not found:
        raise UsageError(f"{manifest}: {_nothing(lost, foreign, unused, seeds)}")
    notes = [f"{generator.name}: {counted(n, 'image', 'images')} of {why} left out" for why, n in unused.items()]
    if lost:
        first = (
            f"{counted(len(lost), 'image', 'images')} of the manifest {'does' if len(lost) == 1 else 'do'} not exist"
        )
        names = [repr(str(path)) for path in lost[:SHOWN]]
        names += [f"{len(lost) - SHOWN:,} more"] if len(lost) > SHOWN else []
        notes.append(f"{generator.name}: {first}: {', '.join(names)}")
    return FolderImages({place: path for place, (_, path) in found.items()}, tuple(notes))


def _nothing(lost: Sequence[Path], foreign: Mapping[str, None], unused: Mapping[str, int], seeds: Sequence[int]) -> str:
    """Why there is no image at all."""
    if lost:
        return f"none of its images exists, e.g. {str(lost[0])!r}; check the folder that images names"
    if foreign and list(foreign) != ["None"]:
        there, ours = ", ".join(list(foreign)[:5]), ", ".join(map(str, seeds))
        return (
            f"its seeds ({there}) are none of the audit's ({ours}); write those, or leave the column out to count the "
            "images of each prompt in their order"
        )
    if unused:
        return "none of its prompts is one of the audit's; write their ids, or their texts as they stand there"
    return "it lists no images; write one row an image"


def _manifest(generator: GivenGenerator) -> Path:
    if not generator.folder.is_dir():
        raise UsageError(
            f"generator {generator.name!r}: there is no folder {str(generator.folder)!r}; name the one that holds its "
            "images"
        )
    if generator.manifest is not None:
        if not generator.manifest.is_file():
            raise UsageError(
                f"generator {generator.name!r}: there is no manifest {str(generator.manifest)!r}; check the path"
            )
        return generator.manifest
    for name in USUAL:
        if (generator.folder / name).is_file():
            return generator.folder / name
    raise UsageError(
        f"generator {generator.name!r}: {str(generator.folder)!r} says nowhere of which prompt and seed its images "
        "are; name a manifest (.csv or .jsonl, one row an image with file_name, prompt and seed), or put it there as "
        f"{USUAL[0]}"
    )


def _rows(manifest: Path, folder: Path) -> Iterator[_GivenRow]:
    """The rows of a manifest; its paths are relative to the folder of the images."""
    for row in manifest_rows(manifest):
        where = f"{manifest}, line {row.line}"
        plain = {key.strip().lower(): value for key, value in row.values.items() if isinstance(key, str)}
        key = next((key for key in PROMPT_KEYS if plain.get(key) is not None), None)
        if key is None:
            raise UsageError(f"{where}: write the prompt's id or its text under {PROMPT_KEYS[0]}")
        prompt = plain[key]
        if not isinstance(prompt, str | int) or isinstance(prompt, bool) or not str(prompt).strip():
            raise UsageError(f"{where}: write the prompt's id or its text under {key}, not {shown(prompt)}")
        yield _GivenRow(where, as_path(folder, row.image), str(prompt).strip(), _seed(plain.get("seed"), where))


def _seed(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"{where}: the seed is {shown(value)}; write a whole number, or leave the column out"
        ) from None


def share_no_files(images: Mapping[str, Mapping[Place, Path]]) -> None:
    """Raises UsageError where two generators have one image file. images: by name of the generator."""
    owners: dict[str, str] = {}
    for name, paths in images.items():
        for path in paths.values():
            if (other := owners.setdefault(os.path.realpath(path), name)) != name:
                raise UsageError(
                    f"the generators {other!r} and {name!r} share the image {str(path)!r}; each needs images of its own"
                )
