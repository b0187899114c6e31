"""A trial that was cut off and goes on from its checkpoint ends with the bits of one that was not."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mfm_tune.identity import config_id
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.config import Experiment, TeacherScored, WarmStart
from trainables.recipes import SMOKE, Scale, dacs_mfm, daformer, mfm, mic, oracle, source_only
from trainables.running import checkpoint
from trainables.running.progress import BlockMeans
from trainables.running.trial import CHECKPOINT, FINAL, PREVIOUS, Trial

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


def mic_mfm(scale: Scale) -> Experiment:
    return mic(scale, mfm(scale))


RARELY = (source_only, oracle, daformer_mfm, mic_mfm)  # MIC has all that DACS, DAFormer and HRDA have


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


def flip(path: Path, share: float) -> None:
    """Turn one bit over, so far into the file."""
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x40
    path.write_bytes(content)


def one_step_on(path: Path) -> None:
    """The same tensors under a header that tells another step."""
    content = path.read_bytes()
    assert content.count(b'\\"step\\": 4') == 2  # the trial's, and the exported model's
    path.write_bytes(content.replace(b'\\"step\\": 4', b'\\"step\\": 3', 1))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("hello"),
    "a bit in the header": lambda path: flip(path, 0.001),
    "a bit in the middle": lambda path: flip(path, 0.5),
    "a bit near the end": lambda path: flip(path, 0.97),
    "another step": one_step_on,
    "without a checksum": lambda path: save_file(load_file(path), path, metadata={"numbers": '{"step": 4}'}),
    "a folder": a_folder,
}


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole trial (`whole`), and one (`cut`) that was cut off after its first block."""
    folder = tmp_path_factory.mktemp("half_way")
    trained(dacs_mfm(SCALE), folder / "whole", folder)
    first = Trial(dacs_mfm(SCALE), seed=3, folder=str(folder / "cut"), shared=str(folder), data={})
    assert "notice" not in first.advance()
    first.close()
    return folder


def assert_as_undisturbed(half_way: Path, damaged: Path, notice: str) -> None:
    """Training goes on to the bits of a trial that nothing disturbed, and its first report says what was the matter."""
    reports = trained(dacs_mfm(SCALE), damaged / "cut", damaged)
    assert [found for report in reports if (found := report.get("notice"))] == [reports[0]["notice"]]
    assert re.fullmatch(notice, reports[0]["notice"]), reports[0]["notice"]
    assert (damaged / "cut" / FINAL).read_bytes() == (half_way / "whole" / FINAL).read_bytes()


@pytest.mark.slow
def test_checkpoints_by_the_clock_are_written_beside_training_and_hold_the_step_they_were_begun_at(
    half_way: Path, tmp_path: Path
) -> None:
    """One after each step here: a trial that is cut off takes no step twice, and ends with the same bits."""
    evaluation = replace(SCALE.evaluation, checkpoint_minutes=1e-9, checkpoint_interval=None)
    config = dacs_mfm(replace(SCALE, evaluation=evaluation))
    reports = trained(config, tmp_path / "cut", half_way, cuts=(1, 3, 6))
    assert reports[-1]["executed_steps"] == 8
    assert (tmp_path / "cut" / FINAL).read_bytes() == (half_way / "whole" / FINAL).read_bytes()


def test_a_teacher_that_is_scored_at_the_end_alone_changes_no_result(half_way: Path, tmp_path: Path) -> None:
    """The same student, and the same teacher at the last step."""
    evaluation = replace(SCALE.evaluation, teacher=TeacherScored.LAST)
    config = dacs_mfm(replace(SCALE, evaluation=evaluation))
    assert config_id(config) == config_id(dacs_mfm(SCALE))
    first, last = trained(config, tmp_path / "last", half_way)
    assert not any(name.startswith("teacher/") for name in first["metrics"])
    assert last["metrics"]["teacher/miou"] >= 0
    assert (tmp_path / "last" / FINAL).read_bytes() == (half_way / "whole" / FINAL).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage: str, half_way: Path, tmp_path: Path) -> None:
    """With one sentence, and to the bits of a trial that nothing disturbed."""
    damaged = shutil.copytree(half_way, tmp_path / "d")
    DAMAGES[damage](damaged / "cut" / CHECKPOINT)
    saved = re.escape(str(damaged / "cut" / CHECKPOINT))
    notice = rf"{saved} is .*; the trial goes on from the checkpoint before, at step 2\."
    assert_as_undisturbed(half_way, damaged, notice)


def test_a_trial_whose_two_checkpoints_are_damaged_begins_anew(half_way: Path, tmp_path: Path) -> None:
    """It says so, and comes to the same bits."""
    damaged = shutil.copytree(half_way, tmp_path / "d")
    flip(damaged / "cut" / CHECKPOINT, 0.5)
    flip(damaged / "cut" / PREVIOUS, 0.5)
    assert_as_undisturbed(half_way, damaged, r".* and .*previous.*is damaged .*; the trial begins anew\.")


def test_a_checkpoint_of_another_trial_is_not_continued(half_way: Path, tmp_path: Path) -> None:
    """Of the same architecture, even: only what the file says of itself tells them apart."""
    damaged = shutil.copytree(half_way, tmp_path / "d")
    other = Trial(dacs_mfm(SCALE), seed=4, folder=str(tmp_path / "other"), shared=str(damaged), data={})
    other.advance()
    other.close()
    shutil.copy(tmp_path / "other" / CHECKPOINT, damaged / "cut" / CHECKPOINT)
    assert_as_undisturbed(half_way, damaged, r".* is of something else \(config \w+, seed 4\); .* at step 2\.")


def test_a_checkpoint_of_another_architecture_leaves_the_state_alone(half_way: Path, tmp_path: Path) -> None:
    """Under the right name: another version of a library can name parts of a network anew."""
    damaged = shutil.copytree(half_way, tmp_path / "d")
    for name in (CHECKPOINT, PREVIOUS):
        arrays, numbers = tensor_file.load(damaged / "cut" / name)
        renamed = {array.replace("student.encoder", "student.backbone"): value for array, value in arrays.items()}
        tensor_file.save(damaged / "cut" / name, renamed, numbers)
    assert_as_undisturbed(half_way, damaged, r"(the checkpoint is of another arch.*){2}; the trial begins anew\.")


@pytest.mark.parametrize("damage", ["a bit in the middle", "without a checksum", "of another seed"])
def test_shared_initial_weights_that_are_not_what_they_should_be_are_made_anew(
    damage: str, half_way: Path, tmp_path: Path
) -> None:
    """A trial that starts from them says so, and comes to the bits of one that found them whole."""
    damaged = shutil.copytree(half_way, tmp_path / "d", ignore=shutil.ignore_patterns("cut"))
    (weights,) = (damaged / "warm_starts").glob("*.safetensors")
    if damage == "of another seed":
        assert isinstance(SCALE.initial, WarmStart)
        config = dacs_mfm(replace(SCALE, initial=replace(SCALE.initial, seed=6)))
        other = Trial(config, seed=3, folder=str(tmp_path / "other"), shared=str(tmp_path), data={})
        other.advance()
        other.close()
        shutil.copy(next((tmp_path / "warm_starts").glob("*.safetensors")), weights)
    else:
        DAMAGES[damage](weights)
    notice = rf"{re.escape(str(weights))} is .*; the source pre-training that it should hold is done again\."
    assert_as_undisturbed(half_way, damaged, notice)
    assert weights.read_bytes() == next((half_way / "warm_starts").glob("*.safetensors")).read_bytes()


def test_a_full_disk_is_told_by_its_number_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space is seen beforehand, a quota only when it is hit; the checkpoint before stands, and no part."""
    saved = tmp_path / CHECKPOINT
    tensor_file.save(saved, {"weight": torch.zeros(4)}, {"step": 1})
    before = saved.read_bytes()

    def over_quota(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: Disk quota exceeded (os error 122)")

    usage = shutil._ntuple_diskusage(100, 99, 1)  # type: ignore[attr-defined]
    for number, module, name, fault in (
        (errno.ENOSPC, shutil, "disk_usage", lambda _: usage),
        (errno.EDQUOT, tensor_file, "save_file", over_quota),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fault)
            with pytest.raises(OSError, match=str(saved)) as full:
                tensor_file.save(saved, {"weight": torch.ones(4)}, {"step": 2})
            writer = checkpoint.Writer(saved, tmp_path / PREVIOUS)
            writer.begin({"weight": torch.ones(4)}, {"step": 2})
            with pytest.raises(OSError, match=str(saved)):  # at the next checkpoint, or at the end of the block
                writer.begin({"weight": torch.ones(4)}, {"step": 3})
            writer.close()
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
    assert same_arrays(checkpoint.arrays_of(one), checkpoint.arrays_of(other))
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
