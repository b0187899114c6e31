"""The notebook of the documentation runs from its first cell to its last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.docs.test_front_page import NEWCOMERS

NOTEBOOK = DOCS / "quickstart.ipynb"


def code_cells() -> list[str]:
    """The notebook's code, cell by cell. It is plain Python: no magic, so that no kernel is needed to run it."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands_and_has_no_stale_output(tmp_path: Path) -> None:
    """In an empty folder, in a process of its own, where figures are drawn and not shown."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    checks = "assert labels.shape == image.shape[:2] and len(by_seed) == 2 and axes.lines"
    (tmp_path / "cells.py").write_text("\n\n".join([*code_cells(), checks]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env=os.environ | NEWCOMERS | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "lambda 0.5 minus lambda 2.0: " in done.stdout
