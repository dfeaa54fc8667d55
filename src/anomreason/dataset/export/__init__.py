"""`dataset export`: the kept images and their verified anomalies as a folder to give away.

with anomreason.dataset.open("data") as store:
    report = export(store, Path("out"), ExportOptions(format="parquet"))
    print(report.images, report.anomalies)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from anomreason.dataset.export.card import ExportSummary, card_text, commands_of, manifest
from anomreason.dataset.export.folder import CARD, MANIFEST, Draft, check_place, storing
from anomreason.dataset.export.formats import FORMATS, format_of
from anomreason.dataset.export.options import ExportOptions, ExportReport
from anomreason.dataset.export.planning import plan_images
from anomreason.dataset.export.records import ExportedImage, exported_images
from anomreason.dataset.export.tally import ExportTally
from anomreason.dataset.export.verifying import Difference, Verification, verify
from anomreason.dataset.export.writing import Writer
from anomreason.dataset.store import Store
from anomreason.errors import UnreadableImage
from anomreason.images import file_bytes
from anomreason.runs import provenance

__all__ = ["FORMATS", "Difference", "ExportOptions", "ExportReport", "Verification", "export", "verify"]
_SHOWN = 20
"""Problems that a report holds."""


def export(
    store: Store,
    out: Path,
    options: ExportOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Write kept images and the anomalies asked for into the new folder `out`.

    The same call after `kill -9` gives the same bytes; an export with the same settings is replaced. An image whose
    file is missing or changed is left out and counted. Raises UsageError for options that cannot be met, for a folder
    that holds anything else, and when there is nothing to export; StorageError when it cannot be written.
    """
    options = options or ExportOptions()
    options.check()
    form = format_of(options)
    settings = options.settings()
    check_place(out, settings)
    with storing(out), store.reading() as session:
        plan = plan_images(session, options)
        commands = commands_of(session)
        with store.command("export", {**settings, "out": str(out)}) as command:
            draft = Draft(out, settings)
            writer = form.writer(draft, plan, options)
            tally, left_out = ExportTally(), Counter(plan.left_out)
            problems: list[str] = []
            for done, image in enumerate(exported_images(session, store, plan, options), 1):
                lost = _put(writer, image)
                if lost is None:
                    tally.add(image)
                else:
                    left_out[lost[0]] += 1
                    problems += [f"{image.name}: {lost[1]}"] if len(problems) < _SHOWN and lost[1] else []
                progress(done, len(plan.images))
            summary = ExportSummary(
                title=f"Semantic anomalies: {store.folder.absolute().name}",
                options=options,
                plan=plan,
                tally=tally,
                left_out=left_out,
                layout=writer.finish(),
                code=provenance(),
                commands=commands,
            )
            draft.write(CARD, [card_text(summary).encode("utf-8", "replace")])
            draft.write(MANIFEST, [json.dumps(manifest(summary), indent=2).encode() + b"\n"])
            files, size = draft.finish()
            report = ExportReport(
                out=str(out),
                format=options.format,
                splits=tally.splits,
                files=files,
                bytes=size,
                left_out=dict(left_out),
                unverified=plan.unverified,
                beside_known=plan.beside_known,
                without_region=tally.anomalies - tally.regions,
                problems=tuple(problems),
                split_by=plan.scheme,
            )
            command.report.update(report.model_dump(mode="json"))
    return report


def _put(writer: Writer, image: ExportedImage) -> tuple[str, str] | None:
    """Write one image; else why it is left out, in a word and for people."""
    reason = writer.refuse(image)
    if reason:
        return reason, ""
    data = None
    if writer.embeds or writer.options.images != "none":
        try:
            data = file_bytes(image.path)
        except UnreadableImage as error:
            return "missing", str(error)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            return "changed", f"{str(image.path)!r} is not the file that was collected; collect it again"
        if not writer.embeds:
            link = writer.options.images == "link"
            writer.draft.image(writer.place(image), image.sha256, data, image.path, link)
    writer.add(image, data if writer.embeds else None)
    return None
