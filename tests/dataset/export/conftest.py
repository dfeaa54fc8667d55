"""A filled dataset in work for the exports, and `datasets` without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dataset.export.filling import fill

from anomreason.dataset.store import Store, open_store


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Store]:
    """See `filling.fill`."""
    with open_store(tmp_path / "data", create=True) as store:
        fill(store)
        yield store


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`datasets.load_dataset`, offline and with a cache of the test's own."""
    datasets = pytest.importorskip("datasets", exc_type=ImportError)

    def loaded(*arguments: Any, **options: Any) -> Any:
        return datasets.load_dataset(*map(str, arguments), cache_dir=str(tmp_path / "cache"), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_HUB_OFFLINE", True, raising=False)
        patch.setattr("datasets.config.HF_DATASETS_OFFLINE", True, raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        yield loaded
