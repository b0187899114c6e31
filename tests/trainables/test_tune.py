"""Trials on Ray's workers: what one trial leaves behind does not reach the next; a killed worker costs no digit."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.program import Outcome
from trainables.recipes import SMOKE
from trainables.tune import ProgramTrial, SegmentationTrial, begin_as_fresh_process

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRESS = struct.Struct("<qq")  # steps executed ever, current step


# --------------------------------------------------------------------------------------------------------------------
# One worker, without Ray around it
# --------------------------------------------------------------------------------------------------------------------


class Counting:
    """Counts to three; leaves global state in disorder, and cannot be closed."""

    def __init__(self, name: str) -> None:
        self.name, self.step = name, 0

    def advance(self) -> Mapping[str, Any]:
        self.step += 1
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        if self.name == "raises":
            raise RuntimeError("no further")
        if self.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "/runs/checkpoint")
        outcome = "finished" if self.step == 3 else None
        return {"step": self.step, "metrics": {"drawn": torch.rand(()), "numpy": np.float32(0.5)}, "outcome": outcome}

    def close(self) -> None:
        raise OSError("cannot be closed")


class CountingTrial(ProgramTrial):
    """A worker of such trials."""

    trial_resources = None  # those that Tune gives

    def open_running(self, config: Any, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> Counting:
        if config == "refused":
            raise ValueError("The folder has no images; give another.")
        return Counting(config)


def trial(name: str) -> dict[str, Any]:
    """What Tune hands over of a trial."""
    return {"trial": name, "arguments": {"config": name, "seed": 7, "folder": ".", "shared": "", "data": {}}}


@pytest.fixture
def worker() -> Iterator[CountingTrial]:
    worker = CountingTrial.__new__(CountingTrial)  # Tune's own constructor makes a folder in the home directory
    worker.setup(trial("first"))
    yield worker
    worker.cleanup()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


def results_of(worker: CountingTrial) -> list[dict[str, Any]]:
    """What a worker returns up to its trial's end."""
    results = [worker.step()]
    while not results[-1]["done"]:
        results.append(worker.step())
    return results


def test_each_trial_begins_as_in_a_fresh_process(worker: CountingTrial) -> None:
    """The same draws, default dtype and gradient mode as the trial before had, which left them otherwise."""
    first = [json.loads(result["report"]) for result in results_of(worker)]
    assert worker.reset_config(trial("second"))
    assert [json.loads(result["report"]) for result in results_of(worker)] == first
    assert [report["step"] for report in first] == [1, 2, 3]
    assert first[0]["metrics"]["numpy"] == 0.5


def test_a_trial_that_raises_or_is_refused_ends_with_an_outcome_and_the_worker_goes_on(worker: CountingTrial) -> None:
    """A worker that refuses a trial would cost the next one, too; only what no other trial could do either is
    `refused`: what cannot be opened, and writing on a full disk."""
    assert worker.reset_config(trial("refused"))
    (refused,) = results_of(worker)
    assert refused["refused"] == "The folder has no images; give another."
    assert worker.reset_config(trial("raises"))
    (raised,) = results_of(worker)
    report = json.loads(raised["report"])
    assert (report["outcome"], report["step"], raised["refused"]) == ("failed", 0, "")
    assert "RuntimeError: no further" in report["error"]
    assert worker.reset_config(trial("full"))
    (full,) = results_of(worker)
    assert full["refused"].startswith("The disk is full, /runs/checkpoint cannot be written: No space left on device;")
    assert worker.reset_config(trial("first"))
    assert results_of(worker)[-1]["trial_step"] == 3


def test_a_fraction_of_a_gpu_limits_its_memory_before_anything_is_put_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening holds images in the GPU's memory, which would be that of the trials beside it. (CUDA is made up here.)"""
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr("trainables.running.trial.Trial", lambda config, **_: calls.append("opened"))
    half = SimpleNamespace(required_resources={"CPU": 1.0, "GPU": 0.5})
    monkeypatch.setattr(SegmentationTrial, "trial_resources", half, raising=False)
    worker = SegmentationTrial.__new__(SegmentationTrial)
    worker.setup(trial("one"))
    worker._opened()
    assert calls == [0.5, "opened", 0.5]


def test_global_generators_are_seeded() -> None:
    """Of Python, NumPy and torch, for libraries that draw from them."""

    def draws(seed: int) -> list[float]:
        begin_as_fresh_process(seed, gpus=0)
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    assert draws(3) == draws(3)
    assert not set(draws(3)) & set(draws(4))


# --------------------------------------------------------------------------------------------------------------------
# Real training, a real kill
# --------------------------------------------------------------------------------------------------------------------


def run_blocks(storage: Path, *more: str) -> subprocess.Popen[str]:
    """Table 2(b) at the smoke scale, one seed: five configs that really train."""
    options = ["--profile", "smoke", "--seeds", "0", "--only", "blocks", "--no-tracking", "--storage", str(storage)]
    command = [sys.executable, "-m", "mfm_tune.run", "search_spaces/table2.py", *options, *more]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def worker_in_mid_block(storage: Path, driver: subprocess.Popen[str]) -> tuple[Path, int]:
    """A trial's folder that has a checkpoint and is some steps further, and the process that has its file open."""
    while driver.poll() is None:
        for progress in storage.glob("trials/*/*/progress"):
            content = progress.read_bytes()
            if len(content) == PROGRESS.size and SMOKE.evaluation.interval < PROGRESS.unpack(content)[1] < 9:
                for pid in holders(progress):
                    return progress.parent, pid
        time.sleep(0.002)
    raise AssertionError(f"the run ended before a worker could be killed: {driver.stdout and driver.stdout.read()}")


def holders(path: Path) -> list[int]:
    """Ids of the processes that have a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # closed meanwhile, or somebody else's
            if link.readlink() == path:
                found.append(int(link.parts[2]))
    return found


def final_scores(state: LedgerState) -> dict[str, dict[str, float]]:
    """The last metrics of each config, without times and memory."""
    return {
        record.config_id: {
            name: value for name, value in record.metrics.items() if not name.startswith(("time/", "memory/"))
        }
        for record in state.trials.values()
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_costs_one_checkpoint_interval_and_no_digit(tmp_path: Path) -> None:
    """Kill -9 of a worker in real training: the same command ends, with the bits of a run that nothing disturbed."""
    storage = tmp_path / "killed"
    driver = run_blocks(storage)
    folder, pid = worker_in_mid_block(storage, driver)
    os.kill(pid, signal.SIGKILL)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert "ray" not in output.replace("starting Ray", "").lower()  # no word of what was lost
    undisturbed = run_blocks(tmp_path / "undisturbed", "--inline")
    output, _ = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, output

    after = read_ledger(storage / "ledger.jsonl")
    assert {record.outcome for record in after.trials.values()} == {Outcome.FINISHED}
    lost = [record for record in after.trials.values() if record.attempts > 1]
    assert [storage / record.folder for record in lost] == [folder]
    assert final_scores(after) == final_scores(read_ledger(tmp_path / "undisturbed" / "ledger.jsonl"))
    executed, step = PROGRESS.unpack((folder / "progress").read_bytes())
    assert step == SMOKE.schedule.steps
    assert step < executed <= step + SMOKE.evaluation.interval
