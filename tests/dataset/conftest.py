"""Tiny pipelines of diffusers, made once."""

from pathlib import Path

import pytest
from tests.dataset.generators.tiny_pipelines import make_tiny_flux, make_tiny_sd3


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Stable Diffusion 3. Copy it before you change it."""
    return make_tiny_sd3(tmp_path_factory.mktemp("models") / "tiny-sd3")


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random FLUX. Copy it before you change it."""
    return make_tiny_flux(tmp_path_factory.mktemp("models") / "tiny-flux")
