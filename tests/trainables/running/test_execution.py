"""How the arithmetic is done: bf16, memory formats, compilation, nothing read back, the memory of one term."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mfm_tune.identity import config_id
from tests.benchmarks import memory
from tests.benchmarks.memory import META, Watch, step_memory
from tests.benchmarks.step import Run
from tests.trainables.tasks.training import FEW, Own
from tests.trainables.trained import finished_trial, tiny
from trainables.config import Execution, Experiment, Precision, SelfTraining
from trainables.cuda_graphs import GraphedModule
from trainables.evaluation import evaluate
from trainables.models.segmentor import interpolation, upsample
from trainables.recipes import SMOKE, dacs, daformer, hrda, mfm, mic
from trainables.running import trial
from trainables.running.environment import machine, peak_memory_mib, set_numerics
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask
from trainables.training import self_training_step
from trainables.tune import begin_as_fresh_process

CPU = torch.device("cpu")
SLOW = pytest.mark.slow


def recipe(method: Any, *auxiliary: object, **execution: Any) -> Experiment:
    """A recipe at the smoke scale whose pseudo-labels count."""
    config = replace(method(SMOKE, *auxiliary), data=FEW, initial=None, execution=Execution(**execution))
    assert isinstance(config.adaptation, SelfTraining)
    return replace(config, adaptation=replace(config.adaptation, threshold=0.05))


def losses(config: Experiment, steps: int = 1) -> tuple[dict[str, float], Run]:
    """The losses of the last of some steps on random data, without dropout, and what was trained."""
    torch.manual_seed(0)
    run = Run(config, CPU)
    for module in run.state.student.modules():
        if isinstance(module, nn.Dropout2d) or type(module).__name__ == "DropPath":
            module.eval()
    for _ in range(steps):
        found = self_training_step(run.state, run.settings, run.source, run.target)
    assert all(value.dtype in (torch.float32, torch.float64) for value in found.values())
    return {name: float(value) for name, value in found.items()}, run


# -- nothing is read back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*(pytest.param(one, marks=SLOW) for one in (dacs, daformer, hrda)), mic])
def test_a_step_reads_nothing_back_from_the_device(method: Any) -> None:
    """On the meta device there is nothing to read: `.item()`, `.tolist()`, a branch on a value or a size that depends
    on one would raise. So nothing in a step waits for a GPU."""
    assert step_memory(recipe(method, mfm(SMOKE))).peak > 0


class ReadsBack(AuxiliaryTask):
    """A task that looks at a value."""

    name = "reads_back"

    def loss(self, view: StepView) -> Tensor:
        return view.pseudo.share.float() * float(view.pseudo.share.item())


def test_a_task_that_reads_a_value_back_would_be_seen() -> None:
    """The test above can fail."""
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        step_memory(recipe(dacs, Own(make=lambda *_: ReadsBack())))


# -- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [dacs, *(pytest.param(one, marks=SLOW) for one in (daformer, hrda, mic))])
def test_memory_formats_and_bf16_give_the_same_losses(method: Any) -> None:
    """Channels last is the same training to rounding; bf16 autocast is to a few percent; weights stay float32."""
    plain, _ = losses(recipe(method, mfm(SMOKE), channels_last=False))
    last, run = losses(recipe(method, mfm(SMOKE), channels_last=True))
    half, half_run = losses(recipe(method, mfm(SMOKE), precision=Precision.BFLOAT16))
    assert run.source.image.is_contiguous(memory_format=torch.channels_last)
    assert run.state.last is not None
    assert run.state.last.mixed[0].image.is_contiguous(memory_format=torch.channels_last)
    assert last == pytest.approx(plain, rel=1e-4, abs=1e-6)
    for name, value in plain.items():
        assert half[name] == pytest.approx(value, rel=0.1, abs=2e-2), name
    assert half != last
    trained = [p for module in (half_run.state.student, half_run.state.tasks) for p in module.parameters()]
    assert {p.dtype for p in trained} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in trained)


@pytest.mark.parametrize("method", [dacs, pytest.param(mic, marks=SLOW)])
def test_compiled_networks_train_alike_and_compile_once(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder and decoder of student and teacher go through torch.compile; a new detail crop compiles nothing anew."""
    counter = CompileCounter()

    def compile_with_counter(self: nn.Module, dynamic: bool) -> None:
        self._compiled_call_impl = torch.compile(self._call_impl, backend=counter, dynamic=dynamic)

    eager, _ = losses(recipe(method, mfm(SMOKE)), steps=4)
    monkeypatch.setattr(nn.Module, "compile", compile_with_counter)
    torch._dynamo.reset()
    _, run = losses(recipe(method, mfm(SMOKE), compile=True), steps=2)
    assert counter.frame_count > 0
    known = counter.frame_count
    for _ in range(2):
        found = self_training_step(run.state, run.settings, run.source, run.target)
    assert counter.frame_count == known
    assert {name: float(value) for name, value in found.items()} == pytest.approx(eager, rel=1e-3, abs=1e-5)
    torch._dynamo.reset()


@SLOW
def test_another_size_is_compiled_for_itself() -> None:
    """HRDA's windows are such: torch's inductor fails on a MiT of an open size, and 8 forms may not be enough."""
    open_sizes: list[bool] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        open_sizes.append(any(isinstance(given, torch.SymInt) for given in inputs))
        return graph.forward

    torch._dynamo.reset()
    with mock.patch.object(torch, "compile", partial(torch.compile, backend=backend)):
        _, run = losses(recipe(daformer, mfm(SMOKE), compile=True))
    known = len(open_sizes)
    assert known > 0
    with torch.no_grad():
        for columns in range(64, 64 + 9 * 32, 32):  # more than the 8 forms that torch compiles by itself
            run.state.student(torch.randn(1, 3, 64, columns))
            assert len(open_sizes) > known, columns
            known = len(open_sizes)
    assert not any(open_sizes)
    torch._dynamo.reset()


class Devices(TorchDispatchMode):
    """The devices of all tensors that operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.seen |= {each.device.type for each in tree_leaves(result) if isinstance(each, Tensor)}
        return result


def test_a_compiled_decoder_makes_the_matrices_of_resizing_where_it_runs() -> None:
    """Not on the CPU, with a copy to the device in each pass; and the numbers are those of `F.interpolate`."""
    with Devices() as devices, mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        assert interpolation(7, 28, torch.float32, META).shape == (28, 7)
    assert devices.seen == {META.type}
    image = torch.randn(2, 3, 7, 16, dtype=torch.float64)
    expected = nn.functional.interpolate(image, size=(28, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(image, (28, 40)), expected)


@pytest.mark.slow
def test_a_compiled_decoder_goes_through_autograd_as_one_graph() -> None:
    """Three stages are resized in it; torch's own tracing of both passes must take them."""
    eager, _ = losses(recipe(daformer))
    torch._dynamo.reset()
    with mock.patch.object(torch, "compile", partial(torch.compile, backend="aot_eager")), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*lru_cache")  # a cache that is looked through
        found, _ = losses(recipe(daformer, compile=True))
    torch._dynamo.reset()
    assert found == pytest.approx(eager, rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_evaluation_is_not_compiled_and_the_next_trial_of_a_worker_is(tmp_path: Path) -> None:
    """What a trial compiles does not depend on the trials before it."""
    counter, while_scoring = CompileCounter(), []

    def scored(*args: Any, **kwargs: Any) -> Any:
        before = counter.frame_count
        results = evaluate(*args, **kwargs)
        while_scoring.append(counter.frame_count - before)
        return results

    config = replace(tiny(dacs(SMOKE)), execution=Execution(compile=True))
    counts = []
    with (
        mock.patch.object(torch, "compile", partial(torch.compile, backend=counter)),
        mock.patch.object(trial, "evaluate", scored),
    ):
        for name in ("first", "second"):
            begin_as_fresh_process(0, gpus=0)
            finished_trial(tmp_path / name / "trial", config).close()
            counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts[1] == 2 * counts[0]
    assert while_scoring == [0, 0]
    torch._dynamo.reset()


def test_a_cpu_ignores_cuda_graphs() -> None:
    """The same losses, and nothing is recorded; the id of a config without them is what it was before they existed."""
    eager, _ = losses(recipe(dacs, mfm(SMOKE)))
    asked, run = losses(recipe(dacs, mfm(SMOKE), cuda_graphs=True))
    assert run.state.graphed == ()
    assert asked == eager
    plain = recipe(dacs)
    assert config_id(plain) == config_id(replace(plain, execution=Execution(cuda_graphs=False)))
    assert config_id(plain) != config_id(replace(plain, execution=Execution(cuda_graphs=True)))


def test_a_graphed_module_is_compiled_where_asked_and_its_copy_is_not() -> None:
    """Seen in the mode that is never recorded; on a CPU both settings together compile and record nothing."""
    counter = CompileCounter()
    torch._dynamo.reset()
    with mock.patch.object(torch, "compile", partial(torch.compile, backend=counter)):
        graphed = nn.ModuleDict({"encoder": nn.Conv2d(3, 4, 3)})
        GraphedModule(graphed["encoder"], compiled=True)
        _, run = losses(recipe(dacs, compile=True, cuda_graphs=True))
    assert run.state.graphed == ()
    assert run.state.student.encoder._compiled_call_impl is not None
    before = counter.frame_count
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = nn.functional.conv2d(image, graphed["encoder"].weight, graphed["encoder"].bias)
        copied = copy.deepcopy(graphed).eval()
        torch.testing.assert_close(copied["encoder"](image), expected)
        assert counter.frame_count == before
        torch.testing.assert_close(graphed.eval()["encoder"](image), expected)
    assert counter.frame_count == before + 1
    torch._dynamo.reset()


def test_a_copy_of_a_graphed_module_runs_by_itself() -> None:
    """AdaBN copies the student: the copy has weights of its own, and passes that are not the original's recordings."""
    student = losses(recipe(dacs))[1].state.student.eval()
    graphed = GraphedModule(student.encoder)
    copied = copy.deepcopy(student)
    assert student.encoder.forward is graphed
    assert getattr(copied.encoder.forward, "__self__", None) is copied.encoder
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
        image = torch.randn(1, 3, 32, 64)
        assert float(copied(image).logits.abs().max()) > 0
        assert float(student.train()(image).logits.abs().max()) == 0  # in the other mode it runs as it always did


# -- what is recorded of it ------------------------------------------------------------------------------------------


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A GPU with TF32, as far as asking for its name and kind goes; the settings are torch's own, put back after."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    yield torch.device("cuda")
    set_numerics(torch.get_num_threads(), Precision.FLOAT32)


def test_a_gpus_record_says_what_takes_float32_as_tf32(ampere: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings in force, not by the config's word: float32 is IEEE's, TF32 is both; a CPU's record has none."""
    config = recipe(dacs)
    set_numerics(1, Precision.FLOAT32)
    assert "tf32" not in machine(CPU, config)
    assert machine(ampere, config)["tf32"] == "nothing"
    torch.backends.cudnn.allow_tf32 = True
    assert machine(ampere, config)["tf32"] == "convolutions"
    for precision in (Precision.TF32, Precision.BFLOAT16):
        set_numerics(1, precision)
        assert machine(ampere, config)["tf32"] == "convolutions and matrix products"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert machine(ampere, config)["tf32"] == "nothing"  # a V100 has none


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process its own peak there")
def test_peak_memory_is_that_of_the_process_itself() -> None:
    """`getrusage` of a child begins with the peak of the process that started it."""
    held = torch.ones(2**28)  # 1 GiB
    code = (
        "import torch; from trainables.running.environment import peak_memory_mib\n"
        "print(peak_memory_mib(torch.device('cpu')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 50 < float(told) < 1000 < held.nbytes / 2**20 < peak_memory_mib(torch.device("cpu"))


def test_a_storage_counts_from_its_birth_to_its_end() -> None:
    """By hand, in bytes: 1024, two of them, the first one gone, a copy of twice the size, a view that costs nothing."""
    with Watch(META) as watch:
        first = torch.empty(256, device=META)
        second = first + 1
        assert (watch.now, watch.peak) == (2048, 2048)
        del first
        gc.collect()
        assert watch.now == 1024
        both = torch.cat([second, second])
        assert (watch.now, watch.peak) == (3072, 3072)
        view = both.view(2, 256)[0]
        torch.empty(10_000)  # on another device
        del both
        gc.collect()
        assert (watch.now, watch.peak) == (3072, 3072)  # the view holds it
        del view
        gc.collect()
        assert watch.now == 1024


def test_what_autograd_keeps_counts_until_the_backward_pass() -> None:
    """sigmoid keeps its output: 400 bytes live on without a name, and go when the graph is used."""
    weight = torch.empty(100, device=META, requires_grad=True)
    with Watch(META) as watch:
        loss = weight.sigmoid().square().sum()
        gc.collect()
        assert watch.now >= 400 + 4
        loss.backward()
        del loss
        gc.collect()
        assert watch.now == 400  # the gradient


@pytest.mark.slow
def test_gradients_add_up_term_by_term_at_the_memory_of_one() -> None:
    """MIC and MFM add two passes to HRDA's two; the step's peak is far from their sum."""
    one = step_memory(recipe(hrda)).peak
    three = step_memory(recipe(mic, mfm(SMOKE))).peak
    assert three < 1.35 * one


def test_fused_attention_holds_no_matrix() -> None:
    """MFM with every feature cell a token (32 x 64 images: 8 x 16): the fused kernel needs less than plain matrices."""
    config = recipe(dacs, mfm(SMOKE, grid=64))
    plain = step_memory(config)
    with memory.fused_attention():
        fused = step_memory(config)
    assert fused.peak < plain.peak
    assert (fused.held, fused.parameters) == (plain.held, plain.parameters)


def test_the_tables_of_memory_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a cell, the verdict for the card, and what MFM adds in percent."""
    config = recipe(dacs)
    monkeypatch.setattr(memory, "cells", lambda: {"H' = W' = 64": config})
    monkeypatch.setattr(memory, "methods", lambda: {"DACS": (config, recipe(dacs, mfm(SMOKE)))})
    text = memory.table_of_cells(lambda _: memory.Needed(2**30, 3 * 2**30, 1_234_567))
    assert "| H' = W' = 64 | 1,234,567 | 1.00 | 3.00 | 3.00 | OOM |" in text
    assert "memory fits a card of 24 GB" in text
    assert "memory does not fit" in memory.table_of_cells(lambda _: memory.Needed(2**30, 24 * 2**30, 1))
    text = memory.table_of_methods(lambda one: memory.Needed(0, (4 if one is config else 5) * 2**30, 1))
    assert "| DACS | 4.00 | 5.00 | +25.0 % |" in text
