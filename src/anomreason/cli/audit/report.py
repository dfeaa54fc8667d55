"""`anomreason audit report`: the report of an audit, built anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.audit.run import JsonOption


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the audit, or its AUDIT.TOML.")],
    as_json: JsonOption = False,
) -> None:
    """Build the report of an audit anew from what its folder holds.

    Nothing is asked, made or paid; images and assessments that are missing are told.
    """
    from anomreason.audit.plan import read_audit
    from anomreason.cli.audit.run import show_report

    show_report(read_audit(out).out if out.is_file() else out, as_json)
