"""The folder of an audit: all that it paid for, in places from which the same command continues.

plan.json       which prompts, generators and assessors it compares
prompts.jsonl   the prompts, one a line
data/           the dataset that holds the images of recipes
images/         a link to each image, by generator, prompt and seed
assessors/NAME  the run folder of each assessor
audit.json      the results, and report.html, the page

print(read_study(Path("audit")).generators)
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from anomreason.anomaly import Detection, Record
from anomreason.audit.given import Place, read_given, share_no_files
from anomreason.audit.plan import Audit, GivenGenerator
from anomreason.audit.study import AuditImage, AuditPrompt, Study
from anomreason.detection import remaining
from anomreason.english import counted
from anomreason.errors import UsageError
from anomreason.files import read_object, read_record, write_atomically
from anomreason.runs import FolderKind, ImageStatus, ResumableFolder, is_run, read_results, simulator_answered
from anomreason.sources.inputs import Image

AUDIT = FolderKind("audit", "plan.json", "audit.lock", "another out")
PROMPTS, DATA, IMAGES, ASSESSORS = "prompts.jsonl", "data", "images", "assessors"
RESULT, PAGE = "audit.json", "report.html"
NOT_GIVEN, NOT_MADE = "not given", "not made"


class GeneratorRecord(Record):
    """One generator of an audit."""

    name: str
    images: dict[str, str] | None = None
    """Of given ones the files by key, from the audit's folder; None: a recipe makes them."""


class AssessorRecord(Record):
    """One assessor of an audit."""

    name: str
    model: str


class AuditRecord(Record):
    """What `plan.json` holds: everything that a report needs beside images and assessments."""

    prompts: tuple[AuditPrompt, ...]
    seeds: tuple[int, ...]
    generators: tuple[GeneratorRecord, ...]
    assessors: tuple[AssessorRecord, ...]
    notes: tuple[str, ...] = ()


class AuditFolder(ResumableFolder):
    """The folder of one audit, open for work by this process alone. Use as a context manager."""

    def __init__(self, audit: Audit, record: AuditRecord) -> None:
        """Create the folder or continue it, whatever it compared before. record: what `record_of` gives for the audit.

        Raises RunConflict when another process works in it.
        """
        super().__init__(audit.out, AUDIT)
        self.audit, self.contents = audit, record
        try:
            lines = (prompt.model_dump_json(exclude_defaults=True) for prompt in audit.prompts)
            text = "".join(f"{line}\n" for line in lines)
            if not (file := self.path / PROMPTS).is_file() or file.read_text(encoding="utf-8") != text:
                write_atomically(file, text)
            self.record(record.model_dump(mode="json", exclude_defaults=True))
        except BaseException:
            self.close()
            raise


def record_of(audit: Audit) -> AuditRecord:
    """What an audit compares; given images are looked for. Raises UsageError for those that cannot be used."""
    notes, found = list[str](), dict[str, Mapping[Place, Path]]()
    for one in audit.generators:
        if isinstance(one, GivenGenerator):
            given = read_given(one, audit.prompts, audit.seeds)
            found[one.name] = given.paths
            notes += given.notes
    share_no_files(found)
    generators = []
    for one in audit.generators:
        images = None
        if one.name in found:
            paths = found[one.name].items()
            images = {AuditImage(one.name, *place).key: _from(audit.out, path) for place, path in sorted(paths)}
        generators.append(GeneratorRecord(name=one.name, images=images))
    assessors = tuple(AssessorRecord(name=one.name, model=one.setup.written) for one in audit.assessors)
    return AuditRecord(
        prompts=audit.prompts,
        seeds=audit.seeds,
        generators=tuple(generators),
        assessors=assessors,
        notes=tuple(notes),
    )


def _from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def read_audit_record(out: Path) -> AuditRecord:
    """What an audit compares. Raises UsageError for a folder that holds none, and for a damaged file."""
    file = out / AUDIT.settings
    if not file.is_file():
        raise UsageError(f"{str(out)!r} is not the folder of an audit (it has no {AUDIT.settings}); give its out")
    known = AuditRecord.model_fields
    return read_record(
        read_object(file), AuditRecord.model_validate, lambda _: known, str(file), "the plan of an audit"
    )


def read_study(out: Path) -> Study:
    """The images and assessments of an audit as far as they are. Raises UsageError, naming file and place."""
    record = read_audit_record(out)
    images = tuple(all_images(out, record))
    assessments = {one.name: _assessments(out / ASSESSORS / one.name, images) for one in record.assessors}
    notes = [*record.notes, *_equal(images, assessments)]
    return Study(
        prompts=record.prompts,
        generators=tuple(one.name for one in record.generators),
        seeds=record.seeds,
        images=images,
        assessments=assessments,
        simulated=any(
            one.model.startswith("sim:") or simulator_answered(out / ASSESSORS / one.name) for one in record.assessors
        ),
        notes=tuple(notes),
    )


def all_images(out: Path, record: AuditRecord) -> Iterator[AuditImage]:
    """All images that there should be: by generator, prompt and seed."""
    made = _made(out, [one.name for one in record.generators if one.images is None], record)
    for generator in record.generators:
        for prompt in record.prompts:
            for seed in record.seeds:
                image = AuditImage(generator.name, prompt.id, seed)
                if generator.images is None:
                    yield made.get(image.key) or AuditImage(generator.name, prompt.id, seed, missing=NOT_MADE)
                elif path := generator.images.get(image.key):
                    yield AuditImage(generator.name, prompt.id, seed, Path(os.path.normpath(out / path)))
                else:
                    yield AuditImage(generator.name, prompt.id, seed, missing=NOT_GIVEN)


def _made(out: Path, generators: Sequence[str], record: AuditRecord) -> dict[str, AuditImage]:
    """By key, what recipes brought so far."""
    data = out / DATA
    if not generators or not data.is_dir():
        return {}
    from sqlalchemy import select

    import anomreason.dataset
    from anomreason.dataset.store import storable
    from anomreason.dataset.tables import GenerationRow, ImageRow, PromptRow

    ids = {storable(prompt.text): prompt.id for prompt in record.prompts}
    query = (
        select(GenerationRow.generator, PromptRow.text, GenerationRow.seed, GenerationRow.status, ImageRow.path)
        .join(PromptRow, GenerationRow.prompt_id == PromptRow.id)
        .outerjoin(ImageRow, GenerationRow.image_id == ImageRow.id)
        .where(GenerationRow.generator.in_(generators), GenerationRow.seed.in_(record.seeds))
    )
    found: dict[str, AuditImage] = {}
    with anomreason.dataset.open(data) as store, store.reading() as session:
        for generator, text, seed, status, path in session.execute(query):
            if text not in ids or status == "asked":
                continue
            where, missing = (store.path(path), None) if path is not None else (None, status)
            image = AuditImage(generator, ids[text], seed, where, missing)
            found[image.key] = image
    return found


def present(images: Sequence[AuditImage]) -> list[Image]:
    """The images that there are, as a run names them: by prompt first, so that a run that stops early compares the
    generators on the same prompts.
    """
    there = [image for image in images if image.path is not None]
    order = {prompt: n for n, prompt in enumerate(dict.fromkeys(image.prompt for image in images))}
    there.sort(key=lambda image: (order[image.prompt], image.seed))
    return [Image(image.key, image.path) for image in there if image.path is not None]


def link_images(out: Path, images: Sequence[Image]) -> None:
    """Let `images/GENERATOR/PROMPT-SEED` lead to each file: for people, and for the reports of the assessors' runs.

    Some disks have no links; nothing else needs them.
    """
    for image in images:
        link = out / IMAGES / image.name
        with suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            target = os.path.relpath(os.path.realpath(image.path), os.path.realpath(link.parent))
            if not os.path.islink(link) or os.readlink(link) != target:
                link.unlink(missing_ok=True)
                link.symlink_to(target)


def _assessments(run: Path, images: Sequence[AuditImage]) -> dict[str, Detection]:
    """By key; results of a file that has changed since are left out."""
    if not is_run(run):
        return {}
    results, listed = read_results(run), present(images)
    open_ones = {image.name for image in remaining(listed, {n: ImageStatus.of(d) for n, d in results.items()})}
    kept = [i.name for i in listed if i.name in results and (i.name not in open_ones or results[i.name].failure)]
    return {name: results[name] for name in kept}


def _equal(images: Sequence[AuditImage], assessments: Mapping[str, Mapping[str, Detection]]) -> list[str]:
    """Notes of images that are byte for byte the same."""
    by_key = {image.key: image for image in images}
    same: dict[str, dict[str, AuditImage]] = defaultdict(dict)
    for detections in assessments.values():
        for key, detection in detections.items():
            if detection.sha256:
                same[detection.sha256][key] = by_key[key]
    groups = [list(group.values()) for group in same.values() if len(group) > 1]
    notes = []
    across = [group for group in groups if len({image.generator for image in group}) > 1]
    if across:
        first = " and ".join(image.key for image in across[0][:2])
        files = counted(len(across), "image is", "images are")
        notes.append(f"{files} the same, byte for byte, in several generators: {first}")
    for generator in dict.fromkeys(image.generator for image in images):
        alike = [[image for image in group if image.generator == generator] for group in groups]
        if repeated := sum(len(group) - 1 for group in alike if group):
            notes.append(
                f"{generator}: {counted(repeated, 'image repeats', 'images repeat')} another of its own, byte for "
                "byte, so its spread between seeds is too small"
            )
    return notes
