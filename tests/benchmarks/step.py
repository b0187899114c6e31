"""How long a training step takes, where the time goes, and how much memory it needs: any recipe, on random data.

python -m tests.benchmarks.step                                  the mini recipes, each with and without MFM
python -m tests.benchmarks.step --scale paper --recipe dacs --steps 5
python -m tests.benchmarks.step --scale paper --precision bf16 --compile --batch 2

Needs torch, torchvision, timm and numpy; ray and mlflow need not be installed. A recipe and the same recipe with MFM
(`daformer+mfm`), with one of PiPa's terms (`daformer+pixel`, `daformer+patch`) or with QuadMix (`mic+quadmix`), in
steps that have them, take turns step by step, so that a busy machine slows both alike; times are medians, on one CPU
thread of the time that the processor worked for this process. Images, rare patches too, are in memory. Parts are
timed in steps of their own, where a GPU waits for each part. Peak memory is what the allocator reserves on the GPU for
the first steps of a recipe, with no other one there, or that of a process of its own on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from trainables import training
from trainables.config import (
    HRDA,
    AdamW,
    ClassContrast,
    Execution,
    Experiment,
    PackedPair,
    PatchContrast,
    Precision,
    QuadMix,
    SelfTraining,
    ToyCity,
)
from trainables.data.classes import CITYSCAPES_CLASSES, TOY_CITY_CLASSES
from trainables.geometry import IGNORE, IMAGENET_MEAN, IMAGENET_STD
from trainables.randomness import Streams
from trainables.recipes import MINI, PAPER, SMOKE, Scale, dacs, daformer, hrda, mfm, mic, pipa_scale, with_quadmix
from trainables.running.environment import machine, peak_memory_mib, set_numerics
from trainables.running.initial import assemble, in_layout, new_student
from trainables.step_data import Batch

RESULTS = Path(__file__).parent / "results"
SCALES = {scale.name: scale for scale in (SMOKE, MINI, PAPER)}
RECIPES: dict[str, Callable[..., Experiment]] = {"dacs": dacs, "daformer": daformer, "hrda": hrda, "mic": mic}
TASKS: dict[str, Callable[[Scale], object]] = {
    "mfm": mfm,
    "pixel": lambda scale: pipa_scale(scale).pixel,
    "patch": lambda scale: pipa_scale(scale).patch,
}
QUADMIX = "quadmix"  # named like a task: the recipe with this mixer
PRECISIONS = {"fp32": Precision.FLOAT32, "tf32": Precision.TF32, "bf16": Precision.BFLOAT16}
WARM_UP = 2
LABEL_BLOCK = 32  # labels are constant on squares of this side, so that a feature cell can hold one class


@dataclass(frozen=True)
class Domains:
    """What assembling a state asks of its domains."""

    classes: tuple[str, ...]
    device: torch.device
    crop: tuple[int, int]  # (rows, columns)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    whole: tuple[int, int] = (1024, 2048)  # of a target image

    def source_of_class(
        self, streams: Streams, purpose: str, step: int, class_id: int, count: int, more_than: int
    ) -> Batch:
        """Images of noise that the class fills to the left."""
        del streams, purpose, step, more_than
        label = torch.full((count, *self.crop), IGNORE, device=self.device)
        label[..., : self.crop[1] // 8] = class_id
        return Batch(torch.zeros(count, 3, *self.crop, device=self.device), label)

    def target_images(self, streams: Streams, purpose: str, step: int, count: int) -> tuple[torch.Tensor, ...]:
        """Random images."""
        del streams, purpose, step
        return torch.randn(count, 3, *self.whole).split(1)


@dataclass(frozen=True)
class Row:
    """What was measured of one recipe: milliseconds a step, its parts, MiB at the peak, seconds of its first steps."""

    name: str
    step_ms: float
    parts: dict[str, float]
    peak_mib: float
    crops: int
    ready_s: float


class Run:
    """A recipe that takes steps on random images.

    Args:
        config: Of the recipe; its data only says how large images are.
        device: Where it runs.
    """

    def __init__(self, config: Experiment, device: torch.device) -> None:
        assert isinstance(config.adaptation, SelfTraining)
        self.config, self.settings, self.device = config, config.adaptation, device
        classes = TOY_CITY_CLASSES if isinstance(config.data, ToyCity) else CITYSCAPES_CLASSES
        streams = Streams(0)
        student = new_student(config, streams, len(classes), device)
        domains = Domains(classes, device, config.data.training_size, whole=whole_size(config))
        self.state = assemble(config, streams, student, domains)  # type: ignore[arg-type]
        self.state.step = first_whole_step(config)
        size = config.data.training_size
        target_size = (config.data.target_crop if isinstance(config.data, PackedPair) else None) or size
        self.source = in_layout(self._batch(len(classes), size), config)
        self.target = in_layout(replace(self._batch(len(classes), target_size), label=None), config)

    def _batch(self, classes: int, shape: tuple[int, int]) -> Batch:
        rows, columns = shape
        size = self.config.batch_size
        block = min(LABEL_BLOCK, rows // 4)
        coarse = torch.randint(classes, (size, -(-rows // block), -(-columns // block)))
        label = coarse.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :rows, :columns].contiguous()
        return Batch(torch.randn(size, 3, rows, columns).to(self.device), label.to(self.device))

    def step(self) -> None:
        """One step of the shipped training."""
        training.self_training_step(self.state, self.settings, self.source, self.target)
        wait(self.device)

    def timed(self) -> float:
        """Milliseconds of a step."""
        started = clock(self.device)
        self.step()
        return 1000 * (clock(self.device) - started)

    def parts(self) -> dict[str, float]:
        """Milliseconds of a step by part: the time in a part, less that in the parts within it."""
        watch = Stopwatch(self.device)
        with watch.over(self.state):
            self.step()
        return watch.spent


def whole_size(config: Experiment) -> tuple[int, int]:
    """(rows, columns) of a target image before it is cropped."""
    return config.data.target_size if isinstance(config.data, PackedPair) else config.data.training_size


def first_whole_step(config: Experiment) -> int:
    """The first step with every term of the loss and with the mixer's own phase."""
    starts = [task.start for task in config.auxiliary if isinstance(task, PatchContrast | ClassContrast)]
    if isinstance(config.adaptation, SelfTraining) and isinstance(config.adaptation.mixer, QuadMix):
        starts.append(config.adaptation.mixer.start)
    return round(max(starts, default=0) * config.schedule.steps)


class Stopwatch:
    """Times nested parts; a pass's parts carry its name."""

    def __init__(self, device: torch.device) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._device = device
        self._within: list[float] = []
        self._pass = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        wait(self._device)
        self._within.append(0.0)
        started = clock(self._device)
        try:
            yield
        finally:
            wait(self._device)
            elapsed = 1000 * (clock(self._device) - started)
            self.spent[name] += elapsed - self._within.pop()
            if self._within:
                self._within[-1] += elapsed

    @contextmanager
    def over(self, state: training.State) -> Iterator[None]:
        """Time the parts of the steps of a state."""
        with ExitStack() as stack:
            for owner, name, part in (
                (training, "pseudo_label", "teacher"),
                (training, "mixed_images", "mix, jitter, blur"),
                (state.teacher, "follow", "EMA"),
                (state.optimizer, "step", "optimizer"),
            ):
                whole = self._timed(getattr(owner, name), lambda _, part=part: part)
                stack.enter_context(mock.patch.object(owner, name, whole))
            for owner, name, part in (
                (state.student, "encode", "encode"),
                (state.student, "decode", "decode"),
                (state.student, "loss", "loss"),
                (torch.Tensor, "backward", "backward"),
            ):
                inner = self._timed(getattr(owner, name), lambda _, part=part: f"{self._pass}: {part}")
                stack.enter_context(mock.patch.object(owner, name, inner))
            for name, of in (("source_term", "source"), ("mixed_terms", "mixed"), ("task_terms", None)):
                stack.enter_context(mock.patch.object(training, name, self._passing(getattr(training, name), of)))
            yield

    def _timed(self, function: Callable[..., Any], name: Callable[[object], str]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name(None)):
                return function(*args, **kwargs)

        return timed

    def _passing(self, function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
        def passing(*args: Any) -> Any:
            self._pass = args[2].name if name is None else name
            with self.part(f"{self._pass}: rest"):
                return function(*args)

        return passing


def clock(device: torch.device) -> float:
    """Seconds; of this process's own work where it works on one CPU thread, so that a busy machine does not count."""
    return time.process_time() if by_processor(device) else time.perf_counter()


def by_processor(device: torch.device) -> bool:
    """Whether times are those of the processor."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def config_of(name: str, given: argparse.Namespace) -> Experiment:
    """The config of `dacs`, `dacs+mfm`, `daformer+pixel` or `mic+quadmix` with the sizes that were asked for.

    Raises:
        ValueError: There is no such recipe.
    """
    method, _, task = name.partition("+")
    known = (*TASKS, QUADMIX)
    if method not in RECIPES or task not in ("", *known):
        raise ValueError(
            f"--recipe must be one of {', '.join(RECIPES)}, with or without one of +{', +'.join(known)}, got '{name}'."
        )
    scale: Scale = SCALES[given.scale]
    config = RECIPES[method](scale, *([TASKS[task](scale)] if task in TASKS else []))
    config = with_quadmix(config, scale) if task == QUADMIX else config
    config = replace(
        config,
        batch_size=given.batch or config.batch_size,
        execution=Execution(
            precision=PRECISIONS[given.precision],
            channels_last=not given.no_channels_last,
            compile=given.compile,
            cuda_graphs=given.cuda_graphs,
        ),
        optimizer=config.optimizer if isinstance(config.optimizer, AdamW) else AdamW(),
    )
    return config if given.size is None else _sized(config, given.size)


def _sized(config: Experiment, size: tuple[int, int]) -> Experiment:
    data = config.data
    data = replace(data, image_size=size) if isinstance(data, ToyCity) else replace(data, crop_size=size)
    network = config.network
    if isinstance(network, HRDA):
        network = replace(network, detail_crop=(size[0] // 2, size[1] // 2))
    return replace(config, data=data, network=network)


def measure(given: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Time every recipe; one with another task in turns with the one without."""
    methods = list(dict.fromkeys(name.partition("+")[0] for name in given.recipe))
    for method in methods:
        names = [name for name in given.recipe if name.partition("+")[0] == method]
        first = [first_steps(name, given, device) for name in names]
        runs = [Run(config_of(name, given), device) for name in names]
        for run in runs:
            for _ in range(WARM_UP):
                run.step()
        times = [[run.timed() for run in runs] for _ in range(given.steps)]
        parts = [[run.parts() for run in runs] for _ in range(max(1, given.steps // 2))]
        for index, (name, run) in enumerate(zip(names, runs, strict=True)):
            step = median(time[index] for time in times)
            each = {part: median(one[index].get(part, 0.0) for one in parts) for part in parts[0][index]}
            seconds, peak = first[index]
            print(f"{name}: {step:.1f} ms a step, {peak:.0f} MiB", file=sys.stderr, flush=True)
            yield Row(name, step, each, peak, 2 * run.config.batch_size, seconds)
        del runs, run
        gc.collect()  # a recorded module and its recordings hold each other


def first_steps(name: str, given: argparse.Namespace, device: torch.device) -> tuple[float, float]:
    """Seconds of a recipe's first steps, compiling and recording included, and its peak memory in MiB, on its own.

    What a recipe before it in this process has compiled is not compiled again.
    On a GPU it is what was reserved: recorded passes keep memory that counts as allocated only while they are recorded.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    run = Run(config_of(name, given), device)
    started = time.perf_counter()
    for _ in range(WARM_UP):
        run.step()
    seconds = time.perf_counter() - started
    if device.type != "cuda":
        return seconds, peak_of(name, given)
    peak = torch.cuda.max_memory_reserved(device) / 2**20
    del run
    gc.collect()
    return seconds, peak


def peak_of(name: str, given: argparse.Namespace) -> float:
    """Peak memory of a recipe in MiB on a CPU, of a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.step", "--memory-of", name, *given.argv]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return float(json.loads(told.splitlines()[-1])["peak_mib"])


def own_peak(name: str, given: argparse.Namespace, device: torch.device) -> float:
    """Peak memory in MiB of this process after two steps of a recipe."""
    run = Run(config_of(name, given), device)
    for _ in range(2):
        run.step()
    return peak_memory_mib(device)


# -- the table ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row], given: argparse.Namespace, device: torch.device) -> str:
    """Markdown: what was measured, on which machine."""
    config = config_of(rows[0].name, given)
    where = machine(device, config)
    sizes = ", ".join(
        f"{name} {'x'.join(map(str, config_of(name, given).data.training_size))}"
        for name in dict.fromkeys(row.name.partition("+")[0] for row in rows)
    )
    lines = [
        f"# A training step, {given.scale} recipes",
        "",
        f"{where['device_name']}; torch {where['torch']}, {where['threads']} thread(s), {platform.system()}; "
        f"{given.precision}{', compiled' if given.compile else ', eager'}"
        f"{', CUDA graphs' if given.cuda_graphs else ''}, "
        f"{'NCHW' if given.no_channels_last else 'channels_last'}; "
        f"batch {config.batch_size} + {config.batch_size}, {sizes}; median of {given.steps} steps"
        f"{', processor time' if by_processor(device) else ''}.",
        "",
        "| recipe | ms a step | crops/s | peak MiB | over the recipe alone: time | memory "
        f"| first {WARM_UP} steps, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    known = {row.name: row for row in rows}
    for row in rows:
        base = known.get(row.name.partition("+")[0])
        time_ratio = f"x {row.step_ms / base.step_ms:.2f}" if base and base is not row else ""
        memory_ratio = f"{100 * (row.peak_mib / base.peak_mib - 1):+.0f} %" if base and base is not row else ""
        crops = 1000 * row.crops / row.step_ms
        lines.append(
            f"| {row.name} | {row.step_ms:.1f} | {crops:.1f} | {row.peak_mib:.0f} | {time_ratio} | {memory_ratio} "
            f"| {row.ready_s:.1f} |"
        )
    names = list(dict.fromkeys(part for row in rows for part in row.parts))
    lines += ["", "Parts, ms (timed in steps of their own; `rest` of a pass holds its task's own modules):", ""]
    lines += ["| part | " + " | ".join(row.name for row in rows) + " |", "|---|" + "---:|" * len(rows)]
    for name in names:
        cells = [f"{row.parts[name]:.1f}" if name in row.parts else "" for row in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0, or 2 for bad input."""
    given = parse(argv)
    device = torch.device("cuda" if torch.cuda.is_available() and not given.cpu else "cpu")
    set_numerics(given.threads, PRECISIONS[given.precision])
    try:
        if given.memory_of:
            print(json.dumps({"peak_mib": own_peak(given.memory_of, given, device)}))
            return 0
        path = None if given.out is None else given.out / f"{_file_name(given, device)}.md"
        rows = []
        for row in measure(given, device):
            rows.append(row)
            if path is not None:  # a run that is cut off leaves what it has measured
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(table(rows, given, device))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows, given, device))
    if path is not None:
        print(path, file=sys.stderr)
    return 0


def _file_name(given: argparse.Namespace, device: torch.device) -> str:
    where = machine(device, config_of(given.recipe[0], given))["device_name"]
    ways = [*(["compiled"] if given.compile else []), *(["graphs"] if given.cuda_graphs else [])]
    words = ["step", given.scale, given.precision, *ways, where.partition(",")[0]]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What to measure; the words themselves are in `argv`."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.step", description=(__doc__ or "").split("\n")[0])
    add_options(parser)
    given = parser.parse_args(words)
    given.argv = words
    return given


def add_options(parser: argparse.ArgumentParser) -> None:
    """Recipes, sizes and arithmetic, which benchmarks of steps share."""
    add = parser.add_argument
    both = [f"{name}{task}" for name in RECIPES for task in ("", "+mfm")]
    add(
        "--recipe",
        nargs="+",
        default=both,
        metavar="NAME",
        help=f"of {', '.join(both)} (all); also +pixel, +patch: PiPa's losses; +quadmix",
    )
    add("--scale", choices=list(SCALES), default="mini", help="sizes of networks and images (mini)")
    add("--size", type=_size, metavar="ROWSxCOLUMNS", help="training images (the recipe's)")
    add("--batch", type=int, help="source images, and as many target images (the recipe's)")
    add("--steps", type=int, default=10, help="timed steps of each recipe (10)")
    add("--precision", choices=list(PRECISIONS), default="fp32", help="arithmetic of the passes (fp32)")
    add("--compile", action="store_true", help="compile encoders and decoders")
    add("--cuda-graphs", action="store_true", help="replay encoders' passes, on a GPU")
    add("--no-channels-last", action="store_true", help="keep images and weights in NCHW")
    add("--threads", type=int, default=1, help="CPU threads (1)")
    add("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    add("--out", type=Path, metavar="FOLDER", help=f"write the table there (the repository's are in {RESULTS.name}/)")
    add("--memory-of", help=argparse.SUPPRESS)


if __name__ == "__main__":
    sys.exit(main())
