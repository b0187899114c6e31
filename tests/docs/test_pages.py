"""The documentation builds as pages with an index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """With mkdocs --strict: a link or a heading that is not there fails."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "quickstart.html").is_file()


def test_every_page_is_in_the_index() -> None:
    """A page that nobody finds is none."""

    def listed(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []
        return [page for part in parts for page in listed(part)]

    index = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(index) == sorted(path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb"))
