"""The script of a GPU's checks, in its own manner: what is done is done, what is cut off is begun again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import gpu_checks
from tests.benchmarks.gpu_checks import Check, main

WORKS = Check("works", "-c 'print(6 * 7)'", "-c 'print(6 + 7)'", 1)
FAILS = Check("fails", "-c 'raise SystemExit(3)'", "-c ''", 1)
SLOW = Check("slow", "-c 'import time; print(1, flush=True); time.sleep(60)'", "-c ''", 1)


def test_several_short_visits_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check that was cut off keeps what it printed and is run again; one that ended, well or not, is not."""
    monkeypatch.setattr(gpu_checks, "CHECKS", (WORKS, FAILS, SLOW))
    monkeypatch.setattr(gpu_checks, "LEAST_S", 0.0)
    assert main(["--out", str(tmp_path), "--minutes", "0.05"]) == 1
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "works: ok",
        "fails: exit code 3",
        "slow: cut off after 3 s",
    ]
    assert "\n42\n" in (tmp_path / "works.md").read_text()
    assert (tmp_path / "slow.md").read_text().endswith("\n1\n")
    assert main(["--out", str(tmp_path), "--dry"]) == 0
    assert capsys.readouterr().out.startswith("slow: ok")
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
