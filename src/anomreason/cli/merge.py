"""`anomreason merge`: write a base and its adapter as one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    base: Annotated[str, typer.Argument(help="Model that the adapter was trained on: a folder or hub id.")],
    adapter: Annotated[str, typer.Argument(help="Adapter: a folder or hub id.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the merged checkpoint.")],
    dtype: Annotated[
        str | None, typer.Option(help="Type of the merged weights: float32, bfloat16 or float16. [default: the base's]")
    ] = None,
) -> None:
    """Write a base and its adapter as one checkpoint, and prove that both give the same logits.

    For servers that cannot load adapters. Needs: pip install 'anomreason[train]', or from a clone
    pip install -e '.[train]'.
    """
    from anomreason.training.merging import merge

    proof = merge(base, adapter, out, dtype)
    typer.echo(f"Merged into {out}: {proof.found}")
    typer.echo(f"Use it: anomreason detect photo.jpg --schedule single --model local:{out}")
