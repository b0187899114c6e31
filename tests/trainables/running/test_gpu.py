"""Trials on a CUDA device: end to end, running out of memory, killed and resumed."""

from __future__ import annotations

import math
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.identity import config_id
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.records import Trial as PlannedTrial
from mfm_tune.ledger.records import trial_folder, trial_key
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.program import Outcome
from mfm_tune.tune.engine import run_with_ray
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.config import DAFormer, Experiment, Precision, SelfTraining
from trainables.cuda_graphs import GraphedModule
from trainables.data.domains import open_domains
from trainables.program import Segmentation
from trainables.randomness import Streams
from trainables.recipes import MINI, SMOKE, dacs, dacs_mfm, daformer, hrda, mfm, mic
from trainables.running.environment import set_numerics
from trainables.running.initial import begin, in_layout
from trainables.running.trial import FINAL, Report, Trial
from trainables.training import Losses, State, self_training_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

FINGERPRINT = "6" * 64
LONGER = replace(
    SMOKE,
    schedule=replace(SMOKE.schedule, steps=30),
    evaluation=replace(SMOKE.evaluation, interval=10, checkpoint_interval=5),
)


def trained(config: Experiment, folder: Path, *, blocks: int | None = None) -> list[Report]:
    """The reports of a trial in this process, to its end or for a number of blocks."""
    trial = Trial(config, seed=0, folder=str(folder / "trial"), shared=str(folder / "shared"), data={})
    reports = []
    try:
        while (blocks is None or len(reports) < blocks) and not (reports and reports[-1]["outcome"]):
            reports.append(trial.advance())
    finally:
        trial.close()
    return reports


def test_a_trial_runs_end_to_end(tmp_path: Path) -> None:
    """It finishes on the GPU, says so, and its numbers are finite; the weights that it leaves are those of a CPU's."""
    reports = trained(dacs_mfm(SMOKE), tmp_path)
    last = reports[-1]
    assert last["outcome"] == "finished"
    assert last["machine"]["device"] == "cuda"
    assert last["machine"]["device_name"] == torch.cuda.get_device_name()
    assert last["machine"]["tf32"] == "nothing"
    assert all(math.isfinite(last["metrics"][name]) for name in ("student/miou", "teacher/miou", "time/step_ms"))
    assert last["metrics"]["memory/peak_mib"] > 1
    weights, _ = tensor_file.load(tmp_path / "trial" / FINAL)
    assert all(array.device.type == "cpu" and bool(array.isfinite().all()) for array in weights.values())


@pytest.mark.parametrize("mebibytes", [pytest.param(64, id="images"), pytest.param(256, id="a step")])
def test_running_out_of_memory_is_an_outcome_and_the_device_works_on(tmp_path: Path, mebibytes: int) -> None:
    """A real one, of the allocator's: the trial says how much it had, and the next trial of this process trains."""
    larger = replace(dacs_mfm(MINI), initial=SMOKE.initial, batch_size=64)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(mebibytes * 2**20 / total)
    try:
        (report,) = trained(larger, tmp_path / "large", blocks=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert report["outcome"] == "oom"
    assert report["error"].startswith("Out of memory after step 0")
    assert "CUDA out of memory" in report["error"]
    assert trained(dacs_mfm(SMOKE), tmp_path / "small")[-1]["outcome"] == "finished"


# -- CUDA graphs ----------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.convolution(image),)


def with_graphs(config: Experiment, graphs: bool, **execution: Any) -> Experiment:
    return replace(config, execution=replace(config.execution, cuda_graphs=graphs, **execution))


def after_steps(config: Experiment, steps: int, folder: Path) -> tuple[list[Losses], State]:
    """Losses of every step and the state; from random weights, so that no time goes into a warm start.

    Every pseudo-label counts: random weights are sure of none, and MFM would have nothing to learn from.
    """
    device, streams = torch.device("cuda"), Streams(0)
    set_numerics(1, config.execution.precision)
    domains = open_domains(config, {}, device)
    assert isinstance(config.adaptation, SelfTraining)
    config = replace(config, initial=None, adaptation=replace(config.adaptation, threshold=0.0))
    assert isinstance(config.adaptation, SelfTraining)
    state = begin(config, streams, domains, folder, {}, device)
    found = []
    for step in range(steps):
        source = in_layout(domains.source(streams, step, config.batch_size), config)
        target = in_layout(domains.target(streams, step, config.batch_size), config)
        losses = self_training_step(state, config.adaptation, source, target)
        found.append({name: loss.clone() for name, loss in losses.items()})
    return found, state


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
@pytest.mark.parametrize("method", [dacs, daformer])
def test_replayed_passes_train_as_eager_ones_do(method: Any, precision: Precision, tmp_path: Path) -> None:
    """Losses, weights and running statistics bit for bit, with drop path drawn anew in every pass."""
    config = method(SMOKE, mfm(SMOKE))
    eager_losses, eager = after_steps(with_graphs(config, False, precision=precision), 6, tmp_path)
    losses, graphed = after_steps(with_graphs(config, True, precision=precision), 6, tmp_path)
    assert graphed.graphed
    assert eager.teacher is not None
    assert graphed.teacher is not None
    torch.testing.assert_close(losses, eager_losses, rtol=0, atol=0)
    for ours, theirs in ((graphed.student, eager.student), (graphed.teacher.network, eager.teacher.network)):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_a_recording_that_does_not_fit_leaves_an_eager_trial_with_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator's own error: the same bits as eager passes, and the report has it."""
    eager = trained(with_graphs(dacs_mfm(SMOKE), False), tmp_path / "eager")
    assert eager[-1]["machine"]["passes"] == "eager"
    replayed = trained(with_graphs(dacs_mfm(SMOKE), True), tmp_path / "replayed")
    assert replayed[-1]["machine"]["passes"] == "replayed"

    def too_large(*_: object) -> None:
        torch.empty(2**60, device="cuda")

    monkeypatch.setattr("trainables.cuda_graphs.Recording", too_large)
    reports = trained(with_graphs(dacs_mfm(SMOKE), True), tmp_path / "fallen back")
    assert [report["machine"]["passes"] for report in reports] == ["eager"] * len(reports)
    assert "could not be recorded" in reports[0]["notice"]
    assert not any("notice" in report for report in reports[1:])
    assert same_arrays(
        tensor_file.load(tmp_path / "eager" / "trial" / FINAL)[0],
        tensor_file.load(tmp_path / "fallen back" / "trial" / FINAL)[0],
    )


@pytest.mark.parametrize(("precision", "limit"), [(Precision.FLOAT32, 1e-5), (Precision.BFLOAT16, 1e-2)])
@pytest.mark.parametrize("method", [hrda, mic])
def test_an_encoder_that_runs_twice_in_a_pass_has_its_gradients_added_up(
    method: Any, precision: Precision, limit: float, tmp_path: Path
) -> None:
    """HRDA's context and detail: losses bit for bit, gradients to the rounding of a sum in another order."""
    config = method(SMOKE, mfm(SMOKE))
    eager_losses, eager = after_steps(with_graphs(config, False, precision=precision), 1, tmp_path)
    losses, graphed = after_steps(with_graphs(config, True, precision=precision), 1, tmp_path)
    torch.testing.assert_close(losses, eager_losses, rtol=0, atol=0)
    ours, theirs = (torch.cat([p.grad.flatten() for p in state.student.parameters()]) for state in (graphed, eager))
    assert float((ours - theirs).norm() / theirs.norm()) < limit


def test_a_replayed_pass_is_propagated_back_once() -> None:
    """A second backward pass, or one after a further run of the recording, would read what was overwritten."""
    graphed = GraphedModule(Pair().cuda())
    image = torch.ones(2, 3, 8, 8, device="cuda")
    graphed.begin_step()
    (first,) = graphed(image)
    kept = first.detach()
    first.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="propagated back once"):
        first.sum().backward()
    graphed.begin_step()
    (second,) = graphed(2 * image)
    assert not torch.equal(kept, second)  # outputs are the caller's: a further run does not change them
    graphed.begin_step()
    graphed(3 * image)
    with pytest.raises(RuntimeError, match="propagated back once"):
        second.sum().backward()


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("method", [dacs, daformer])
def test_compiled_passes_train_alike(method: Any, graphs: bool, tmp_path: Path) -> None:
    """Launched one by one or replayed; without dropout, whose random numbers a compiled pass draws otherwise.

    But for the feature distance: it starts at 0, where its gradient is a direction that rounding decides.
    """
    config = method(SMOKE, mfm(SMOKE))
    if isinstance(config.network, DAFormer):
        network = replace(config.network, encoder=replace(config.network.encoder, drop_path=0.0), dropout=0.0)
        config = replace(config, network=network)
    eager_losses, _ = after_steps(with_graphs(config, False), 3, tmp_path)
    losses, state = after_steps(with_graphs(config, graphs, compile=True), 3, tmp_path)
    assert bool(state.graphed) is graphs
    for each in (*losses, *eager_losses):
        each.pop("loss/feature_distance", None)
    torch.testing.assert_close(losses, eager_losses, rtol=1e-3, atol=1e-4)


def test_frozen_statistics_have_a_recording_of_their_own(tmp_path: Path) -> None:
    """MFM with frozen statistics runs the same encoder twice a step, once moving them and once not."""
    task = replace(mfm(SMOKE), freeze_statistics=True)
    _, eager = after_steps(with_graphs(dacs(SMOKE, task), False), 4, tmp_path)
    _, graphed = after_steps(with_graphs(dacs(SMOKE, task), True), 4, tmp_path)
    torch.testing.assert_close(graphed.student.state_dict(), eager.student.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("method", [dacs, daformer, hrda, mic])
def test_a_step_never_waits_for_the_device(method: Any, graphs: bool, tmp_path: Path) -> None:
    """CUDA itself raises where the host would wait: no value is read back, nothing is copied while the host stands."""
    config = with_graphs(method(SMOKE, mfm(SMOKE)), graphs)
    _, state = after_steps(config, 3, tmp_path)
    domains = open_domains(config, {}, torch.device("cuda"))
    source, target = (in_layout(draw(Streams(0), 3, 2), config) for draw in (domains.source, domains.target))
    assert isinstance(config.adaptation, SelfTraining)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):  # with and without jitter and blur
            self_training_step(state, config.adaptation, source, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# -- killed and resumed ---------------------------------------------------------------------------------------------


def train_until_killed(config: Experiment, folder: Path) -> None:
    """In a process of its own: one block and some steps, then kill -9 from within."""
    trial = Trial(config, seed=0, folder=str(folder / "trial"), shared=str(folder / "shared"), data={})
    trial.advance()
    tick = trial._progress.tick

    def tick_and_die(step: int) -> None:
        tick(step)
        if step == 18:
            os.kill(os.getpid(), 9)

    trial._progress.tick = tick_and_die  # type: ignore[method-assign]
    trial.advance()


def test_a_killed_trial_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    """From its checkpoint at step 15; deterministic algorithms are asked for, so that weights agree to rounding."""
    config = dacs_mfm(LONGER)
    undisturbed = trained(config, tmp_path / "undisturbed")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_until_killed, args=(config, tmp_path / "killed"))
    process.start()
    process.join()
    assert process.exitcode == -9
    resumed = trained(config, tmp_path / "killed")
    assert [report["step"] for report in resumed] == [20, 30]
    assert resumed[-1]["executed_steps"] == 30 + 18 - 15
    weights, _ = tensor_file.load(tmp_path / "killed" / "trial" / FINAL)
    expected, _ = tensor_file.load(tmp_path / "undisturbed" / "trial" / FINAL)
    for name, array in expected.items():
        torch.testing.assert_close(weights[name], array, rtol=1e-3, atol=1e-4, msg=name)
    assert resumed[-1]["metrics"]["student/miou"] == pytest.approx(undisturbed[-1]["metrics"]["student/miou"], abs=0.5)


def planned(config: Experiment) -> PlannedTrial:
    name, program = config_id(config), Segmentation()
    return PlannedTrial(
        key=trial_key(name, 0, FINGERPRINT),
        config=config,
        config_id=name,
        seed=0,
        fingerprint=FINGERPRINT,
        folder=trial_folder(name, 0, FINGERPRINT),
        planned_steps=program.planned_steps(config),
        cost_class=program.cost_class(config),
        benchmark=program.benchmark(config),
    )


def test_two_trials_share_a_gpu_through_ray(tmp_path: Path) -> None:
    """Half a GPU each. One that needs more than its half is tried again alone, and is `oom` when that does not do."""
    small = planned(dacs_mfm(SMOKE))
    images = torch.cuda.get_device_properties(0).total_memory // 2**21  # each needs more than 2 MiB
    huge = planned(replace(dacs_mfm(MINI), initial=SMOKE.initial, batch_size=images))
    trials = [small, huge]
    writer, state = LedgerWriter(tmp_path / "ledger.jsonl"), LedgerState()
    recorder = Recorder(writer, state, storage=tmp_path, launch="gpu", study="gpu", profile="smoke", trials=trials)
    root = str(Path(__file__).resolve().parents[3])
    run_with_ray(
        Segmentation(), trials, recorder, EngineOptions(storage=tmp_path, gpus_per_trial=0.5, import_paths=(root,))
    )
    writer.close()
    records = read_ledger(tmp_path / "ledger.jsonl").trials
    assert records[small.key].outcome is Outcome.FINISHED
    assert records[small.key].machine["device"] == "cuda"
    assert (records[huge.key].outcome, records[huge.key].attempts) == (Outcome.OOM, 2)
