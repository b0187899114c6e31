"""A trial that was cut off and goes on from its checkpoint ends with the bits of one that was not."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from trainables import checkpoint
from trainables.config import Experiment, SmallDeepLab
from trainables.recipes import SMOKE, Scale, dacs, dacs_mfm, daformer, hrda, mfm, mic, oracle, source_only
from trainables.trial import CHECKPOINT, FINAL, BlockMeans, Trial

SCALE = replace(
    SMOKE,
    schedule=replace(SMOKE.schedule, steps=8),
    evaluation=replace(SMOKE.evaluation, interval=4, checkpoint_interval=2),
)


class CutOffError(Exception):
    """Plays the kill: the process is gone, what is on the disk is there."""


def trained(config: Experiment, folder: Path, shared: Path, cuts: tuple[int, ...] = ()) -> list[Mapping[str, Any]]:
    """Train to the end, cut off when these steps are about to be taken; returns the reports by step."""
    reports: dict[int, Mapping[str, Any]] = {}
    for cut in (*cuts, None):
        trial = Trial(config, seed=3, folder=str(folder), shared=str(shared), data={})
        take_step = trial._step

        def step(state: Any, cut: int | None = cut, take_step: Any = take_step) -> Any:
            if state.step == cut:
                raise CutOffError
            return take_step(state)

        trial._step = step  # type: ignore[method-assign]
        try:
            while True:
                report = trial.advance()
                reports[report["step"]] = report
                if report["outcome"] is not None:
                    break
        except CutOffError:
            continue
        finally:
            trial.close()
    return [reports[step] for step in sorted(reports)]


def numbers(report: Mapping[str, Any]) -> dict[str, str]:
    """A report's metrics in full, but for times and memory."""
    return {name: repr(value) for name, value in report["metrics"].items() if not name.startswith(("time/", "memory/"))}


def daformer_mfm(scale: Scale) -> Experiment:
    return daformer(scale, mfm(scale))


def hrda_mfm(scale: Scale) -> Experiment:
    return hrda(scale, mfm(scale))


def mic_mfm(scale: Scale) -> Experiment:
    return mic(scale, mfm(scale))


RARELY = (dacs, source_only, oracle, daformer, daformer_mfm, hrda, hrda_mfm, mic, mic_mfm)


@pytest.mark.parametrize("make", [dacs_mfm, *(pytest.param(one, marks=pytest.mark.slow) for one in RARELY)])
def test_a_resumed_trial_is_bitwise_an_uninterrupted_one(make: Any, tmp_path: Path) -> None:
    """Cut off within a block, at a block's end and before the first checkpoint; weights lie channels last."""
    config = make(SCALE)
    assert config.execution.channels_last
    whole = trained(config, tmp_path / "whole", tmp_path)
    cut = trained(config, tmp_path / "cut", tmp_path, cuts=(1, 3, 4, 7))
    assert [report["step"] for report in cut] == [4, 8]
    for one, other in zip(whole, cut, strict=True):
        assert numbers(one) == numbers(other)
        assert one["confusion"] == other["confusion"]
    assert (tmp_path / "whole" / FINAL).read_bytes() == (tmp_path / "cut" / FINAL).read_bytes()
    assert cut[-1]["executed_steps"] <= 8 + 4 * 2
    assert (tmp_path / "cut" / CHECKPOINT).exists()  # a driver that did not hear of the end asks for it again


@pytest.mark.parametrize("fault", ["was cut off", "is of another architecture"])
def test_a_checkpoint_that_cannot_be_continued_is_one_sentence(fault: str, tmp_path: Path) -> None:
    """Cut off behind its header, or of another network under this trial's name: the trial says so."""
    config = replace(dacs_mfm(SCALE), initial=None)
    saved = tmp_path / "t" / CHECKPOINT
    first = Trial(config, seed=3, folder=str(tmp_path / "t"), shared=str(tmp_path), data={})
    first.advance()
    first.close()
    assert saved.exists()
    if fault == "was cut off":
        saved.write_bytes(saved.read_bytes()[:-1000])
    else:
        config = replace(config, network=SmallDeepLab(widths=(8, 16, 32)))
    second = Trial(config, seed=3, folder=str(tmp_path / "t"), shared=str(tmp_path), data={})
    with pytest.raises(ValueError, match=fault):
        second.advance()


def test_a_full_disk_is_told_by_its_number_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space is seen beforehand, a quota only when it is hit; the checkpoint before stands, and no part."""
    saved = tmp_path / CHECKPOINT
    checkpoint.save(saved, {"weight": torch.zeros(4)}, {"step": 1})
    before = saved.read_bytes()

    def over_quota(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: Disk quota exceeded (os error 122)")

    usage = shutil._ntuple_diskusage(100, 99, 1)  # type: ignore[attr-defined]
    for number, module, name, fault in (
        (errno.ENOSPC, shutil, "disk_usage", lambda _: usage),
        (errno.EDQUOT, checkpoint, "save_file", over_quota),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fault)
            with pytest.raises(OSError, match=str(saved)) as full:
                checkpoint.save(saved, {"weight": torch.ones(4)}, {"step": 2})
        assert full.value.errno == number
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_what_is_restored_lies_in_memory_as_it_did(tmp_path: Path) -> None:
    """A fused optimiser walks through weights and moments in memory order: their strides must agree."""
    config = dacs_mfm(SCALE)
    first = Trial(config, seed=3, folder=str(tmp_path / "t"), shared=str(tmp_path), data={})
    first.advance()
    second = Trial(config, seed=3, folder=str(tmp_path / "t"), shared=str(tmp_path), data={})
    second.advance()
    one, other = first._state, second._state
    assert one is not None
    assert other is not None
    assert checkpoint.same_arrays(checkpoint.arrays_of(one), checkpoint.arrays_of(other))
    pairs = [(p, m) for p, ms in other.optimizer.state.items() for m in ms.values() if m.shape == p.shape]
    assert pairs
    assert all(parameter.stride() == moment.stride() for parameter, moment in pairs)


def test_a_logged_loss_is_the_mean_over_the_steps_that_had_it() -> None:
    """A term that begins within a block counts from there on, after a resume as well."""
    means = BlockMeans()
    means.add({"loss/source": torch.tensor(1.0)})
    means.add({"loss/source": torch.tensor(2.0), "loss/mfm": torch.tensor(5.0)})
    resumed = BlockMeans.from_arrays(means.arrays(), torch.device("cpu"))
    resumed.add({"loss/source": torch.tensor(6.0), "loss/mfm": torch.tensor(7.0)})
    assert resumed.read() == {"loss/source": 3.0, "loss/mfm": 6.0}
