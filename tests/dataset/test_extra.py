"""Without the optional part, every command says how to install it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["sqlalchemy", "faiss"])
def test_a_missing_library_is_named_with_the_line_that_installs_it(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['anomreason', 'dataset', 'filter', 'data']; "
        "from anomreason.__main__ import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    assert "pip install '.[dataset]'" in ran.stderr
    assert "Traceback" not in ran.stderr
