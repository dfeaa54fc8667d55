"""Writes the card of one detector: `deepfake.json`, `judgements.jsonl` and the page `report.html`.

write_card(score("runs/judged", "truth.json", None), Path("card"))
"""

from __future__ import annotations

import json
from pathlib import Path

from anomreason.deepfake.judge import ScoredRun
from anomreason.evaluation.records import JudgedImage
from anomreason.evaluation.writing import make_folder, write_record
from anomreason.files import write_atomically
from anomreason.report.deepfake import CardImage, write_card_page

JUDGEMENTS = "judgements.jsonl"


def write_card(run: ScoredRun, out: Path, report: bool = True) -> Path | None:
    """Write all files; gives the path of the page, None without one. The numbers are written before the page.

    Raises UsageError for a folder that cannot be made, StorageError where nothing can be written.
    """
    make_folder(out)
    records = list(run.records())
    write_atomically(
        out / JUDGEMENTS,
        (
            f"{json.dumps(one.model_dump(mode='json'), ensure_ascii=False)}\n".encode("utf-8", "backslashreplace")
            for one in records
        ),
    )
    write_record(out / "deepfake.json", run.result)
    if not report:
        (out / "report.html").unlink(missing_ok=True)  # it would be of other numbers
        return None

    def image_of(record: JudgedImage) -> CardImage:
        answer = run.entry.answers.get(record.image)
        seen = tuple(rated.seen for rated in run.ratings.get(record.image, ()))
        if answer is None or answer.failure is not None:
            return CardImage(record, run.path(record.image))
        return CardImage(record, run.path(record.image), answer.anomalies, answer.description, seen)

    return write_card_page(run.result, records, image_of, out)
