"""A whole audit: images, assessments, report. The same call again continues, and pays for nothing twice.

result = run_audit(Path("audit.toml"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from anomreason.audit.analysis import analyse
from anomreason.audit.assessing import assess, assessments_cost, assessor_work
from anomreason.audit.folder import PAGE, RESULT, AuditFolder, all_images, link_images, present, read_study, record_of
from anomreason.audit.making import make_images
from anomreason.audit.page import write_audit_page
from anomreason.audit.plan import read_audit
from anomreason.audit.results import AuditResult
from anomreason.errors import UsageError
from anomreason.evaluation.writing import write_record
from anomreason.spread.cluster import SpreadOptions


def run_audit(
    file: str | Path,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    spread: SpreadOptions | None = None,
) -> AuditResult:
    """Run the audit of a TOML file to its end. There is no question before money is spent: set max_cost in the file.

    progress: called with the step (`images`, or the name of an assessor), and the numbers of images done and of all
    that were left. spread: where the workers that assess are; None for this process.
    Raises UsageError for a file that cannot be used and inside an event loop, RunConflict where images or assessments
    were made with other settings.
    """
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use await asyncio.to_thread(run_audit, ...)")
    audit = read_audit(Path(file))
    if spread is not None:
        for assessor in audit.assessors:
            spread.check(assessor.setup)
    with AuditFolder(audit, record_of(audit)) as folder:
        make_images(folder, assessments_cost(audit), lambda done, total: progress("images", done, total))
        images = present(tuple(all_images(folder.path, folder.contents)))
        link_images(folder.path, images)
        for assessor in audit.assessors:
            name = assessor.name
            work = assessor_work(audit, assessor, images)
            with work.open_run() as run:
                step = partial(progress, name)
                asyncio.run(assess(work, run, step, spread))
        return write_report(folder.path)


def write_report(out: Path) -> AuditResult:
    """Write results and page anew from what an audit's folder holds. Raises UsageError for a folder without one."""
    study = read_study(out)
    result = analyse(study)
    write_record(out / RESULT, result)
    write_audit_page(result, study, out / PAGE)
    return result
