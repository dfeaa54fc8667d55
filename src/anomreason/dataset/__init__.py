"""Datasets of semantic anomalies: from raw prompts and images to a published benchmark.

    import anomreason.dataset

    with anomreason.dataset.open("data") as data:
        print(data.database)

A dataset in work is one folder with one store; each command is a module of this room and works on an open store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anomreason.errors import require

if TYPE_CHECKING:
    from anomreason.dataset.store import Store

# The modules of this room import these at their tops.
require("datasets in work", "dataset", "sqlalchemy", "alembic", "pyarrow", "imagehash", "scipy", "faiss")


def open(folder: str | Path, database: str | None = None, *, create: bool = False) -> Store:
    """The store of a dataset in work. Use it as a context manager.

    database: the address of a PostgreSQL database, when the dataset is not to lie in a SQLite file; needed once only.
    create: make the dataset where there is none. Raises UsageError when there is none.
    """
    from anomreason.dataset.store import open_store

    return open_store(Path(folder), database, create=create)
