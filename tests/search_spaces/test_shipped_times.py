"""The step times that come with the package cover the studies that come with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfm_tune import run
from search_spaces.table1 import Method
from tests.benchmarks.shipped_times import embedded_configs, estimated_seconds, gpu_seconds, rounded
from trainables.program import Segmentation

COMMAND = "python -m tests.benchmarks.shipped_times"


def test_every_config_that_needs_no_data_has_a_step_time() -> None:
    """Else the first line of a fresh clone says that the time is unknown; the command measures what is new."""
    (_, _, cpu), (_, _, gpu), (_, _, estimated) = Segmentation().step_times()
    missing = embedded_configs().keys() - cpu.keys()
    assert not missing, f"{COMMAND} measures {missing}"
    assert gpu == {name: rounded(seconds) for name, seconds in gpu_seconds()}, f"{COMMAND} takes over the tables"
    assert estimated == {name: rounded(seconds) for name, seconds in estimated_seconds()}, f"{COMMAND} estimates anew"
    assert not estimated.keys() & gpu.keys()
    assert all(0 < seconds < 10 for seconds in [*cpu.values(), *gpu.values(), *estimated.values()])


def test_a_fresh_clone_knows_how_long_table_2_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On two cores, from another machine's times; at the paper's scale GPU-hours of each row that was measured."""
    mini = ["table2", "--plan", "--slots", "2", "--storage", str(tmp_path)]
    assert run.main(mini) == 0
    assert "time     about " in (said := capsys.readouterr().out)
    assert "2 trials side by side (measured on one core of an " in said
    assert run.main([*mini, "--profile", "paper"]) == 0
    said = capsys.readouterr().out
    assert "GPU-hours on an NVIDIA H100" in said
    assert "  a trial  0.76 GPU-hours: DACS\n" in said


def test_every_row_of_table_1_has_its_gpu_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the paper's scale; those that no GPU has run as estimates, which the study's least cost leaves out."""
    assert run.main(["table1", "--plan", "--profile", "paper", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    hours = said[said.index("  a trial") :].splitlines()
    assert sum(line.count(", ") + 1 for line in hours) >= 2 * len(Method)
    estimated = {line for line in hours if "about " in line}
    assert all("GPU-hours by the ratio of a step on a CPU: " in line for line in estimated)
    assert {name for name in ("PiPa", "SePiCo", "QuadMix") if any(f"gta {name}" in line for line in estimated)} == {
        "PiPa", "SePiCo", "QuadMix"
    }  # fmt: skip
    assert "not measured" not in said
    assert "the others unknown" in said
