"""`anomreason merge`: a base and its adapter as one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    base: Annotated[str, typer.Argument(help="The model that the adapter was trained on: a folder or a hub id.")],
    adapter: Annotated[str, typer.Argument(help="The adapter: a folder or a hub id.")],
    out: Annotated[Path, typer.Option(help="Where the merged checkpoint goes: a new or empty folder.")],
    dtype: Annotated[
        str | None, typer.Option(help="Of the merged weights: float32, bfloat16 or float16. [default: the base's]")
    ] = None,
) -> None:
    """Write a base and its adapter as one checkpoint, and prove that it says what the two said.

    For servers that take no adapters. Needs: pip install 'anomreason[train]'.
    """
    from anomreason.training.merging import merge

    proof = merge(base, adapter, out, dtype)
    typer.echo(f"{out}: {proof.name}: {proof.found}")
    typer.echo(f"Use it: anomreason detect photo.jpg --schedule single --model local:{out}")
