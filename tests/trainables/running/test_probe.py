"""What a probe of real training measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainables.config import PatchContrast, WarmStart
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs_mfm, pipa
from trainables.running.probe import shortened


def test_a_probe_counts_a_whole_trials_evaluations_and_trains_the_costly_step(tmp_path: Path) -> None:
    """A task that begins later is measured from the first step on, and no warm start is trained."""
    config = dacs_mfm(replace(SMOKE, schedule=replace(SMOKE.schedule, steps=1000)))
    late = replace(
        config, initial=WarmStart(), auxiliary=tuple(replace(task, start_step=900) for task in config.auxiliary)
    )
    short = shortened(late)
    assert [task.start_step for task in short.auxiliary] == [0] * len(config.auxiliary)
    assert short.initial is None
    assert short.schedule.steps > 2 * short.evaluation.interval  # it never comes to the end
    measured = Segmentation().probe(late, folder=str(tmp_path), data={})
    assert measured["evaluations"] == -(-1000 // config.evaluation.interval)
    assert measured["step_s"] > 0
    assert measured["evaluation_s"] > 0
    assert measured["memory_mib"] > 0
    assert measured["machine"]["device"] in ("cpu", "cuda")
    assert not (tmp_path / "final.safetensors").exists()


def test_a_term_that_begins_at_a_share_of_the_run_is_measured_too() -> None:
    """PiPa's patch contrast, after a sixth of the run as a rule."""
    (patch,) = (task for task in shortened(pipa(SMOKE)).auxiliary if isinstance(task, PatchContrast))
    assert patch.start == 0
