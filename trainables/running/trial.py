"""One trial: a config and a seed, trained block by block, with a checkpoint after each evaluation."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch

from mfm_tune.identity import config_id
from trainables import tensor_file
from trainables.adaptation.photometric import distort, draw_distortion
from trainables.config import Experiment, SelfTraining, SourceOnly, TargetSupervised, TeacherScored
from trainables.data.crops import unfilled
from trainables.data.domains import open_domains
from trainables.data.scored import SOURCE_MIOU
from trainables.description import describe
from trainables.evaluation import Scores, evaluate, finite, source_miou, with_target_statistics
from trainables.models.segmentor import Segmentor
from trainables.randomness import Streams
from trainables.running import checkpoint
from trainables.running.environment import machine, peak_memory_mib, ran_out_of_memory, set_numerics
from trainables.running.initial import Listener, begin, check_weights, in_layout
from trainables.running.pictures import save_pictures
from trainables.running.progress import BlockMeans, Progress
from trainables.running.pseudo_label_quality import PseudoLabelQuality
from trainables.running.without_effect import without_effect
from trainables.selection import TargetCriteria
from trainables.tasks.task import AuxiliaryTask
from trainables.tensor_file import CHECKPOINT, FINAL
from trainables.training import Losses, State, autocast, self_training_step, supervised_step

PREVIOUS = "checkpoint.previous.safetensors"  # the one before, should that be damaged


class Report(TypedDict, total=False):
    """What a block of steps came to; the keys are those of `mfm_tune.program.Report`."""

    step: int
    planned_steps: int
    executed_steps: int
    metrics: dict[str, float]
    confusion: dict[str, list[list[int]]]
    pictures: dict[str, str]
    machine: dict[str, str]
    outcome: str | None
    error: str
    notice: str


class Trial:
    """A trial in progress.

    Args:
        config: What to train.
        seed: Seed of every draw.
        folder: The trial's own folder; a checkpoint in it is continued, or the one before where it is damaged.
        shared: Folder of artefacts that trials share.
        data: Dataset name -> path.

    Raises:
        ValueError: A data set or published weights have no path, or cannot be used.
    """

    def __init__(self, config: Experiment, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> None:
        self.config = config
        self.streams = Streams(seed)
        self.folder = Path(folder)
        self.shared = Path(shared)
        self.data = data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        check_weights(config, data)
        self._state: State | None = None
        self._resumed_at_end = False
        self._step_ms = math.nan  # of the latest block; NaN until one was trained in this process
        self._writer = checkpoint.Writer(self.folder / CHECKPOINT, self.folder / PREVIOUS)
        self._notices: list[str] = []  # what the next report says to the user
        self._eager = False  # whether it was told that CUDA graphs could not be recorded
        self._quality: PseudoLabelQuality | None = None  # made at the first evaluation of a teacher
        self._too_large = ""  # why the images cannot be held in memory, if they cannot
        self._progress = Progress(self.folder / "progress")
        self._progress.say("opens its data")
        try:
            self.domains = open_domains(config, data, self.device)
        except Exception as error:
            if not ran_out_of_memory(error):
                self._progress.close()
                raise
            self._too_large = str(error)
        self._progress.say("")

    @property
    def opened(self) -> bool:
        """Whether memory holds the images; if not, the outcome of `advance` is `oom`."""
        return not self._too_large

    def advance(self) -> Report:
        """Train up to the next evaluation, evaluate, write a checkpoint, and report.

        Raises:
            Exception: Whatever goes wrong, except running out of memory and divergence, which are outcomes.
        """
        report = self._next_report()
        self._notice_eager_passes()
        if self._notices:
            report["notice"] = " ".join(self._notices)
            self._notices.clear()
        return report

    def _notice_eager_passes(self) -> None:
        reason = next((module.eager for module in self._state.graphed if module.eager), "") if self._state else ""
        if reason and not self._eager:
            self._notices.append(f"An encoder's passes could not be recorded ({reason}); they run eagerly.")
        self._eager = self._eager or bool(reason)

    def _next_report(self) -> Report:
        if not self.opened:
            return self._out_of_memory(self._too_large)
        try:
            state = self._begun()
            bad = self._train_block(state)
            return self._diverged(state, bad) if bad else self._evaluated(state)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            return self._out_of_memory(str(error))

    def close(self) -> None:
        """Give memory and files back. The checkpoint stays: the driver removes it once it has written the end down."""
        self._writer.close()
        self._progress.close()
        self._state = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # -- one block -----------------------------------------------------------------------------------------------

    def _begun(self) -> State:
        """The state, made or resumed at the first call."""
        if self._state is not None:
            return self._state
        set_numerics(int(os.environ.get("OMP_NUM_THREADS", "1")), self.config.execution.precision)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        listener = Listener(self._notices.append, self._progress.say)
        state = begin(self.config, self.streams, self.domains, self.shared, self.data, self.device, listener)
        self._progress.say("")
        self._means = BlockMeans()
        self._resume(state)
        if state.step == 0:
            tasks = [task for task in state.tasks if isinstance(task, AuxiliaryTask)]
            told = (
                *without_effect(self.config, state.student),
                unfilled(self.config.data),
                *(task.notice for task in tasks),
            )
            self._notices += filter(None, told)
        self._state = state
        return state

    def _resume(self, state: State) -> None:
        """Go on from the newest checkpoint that is whole and of this trial; put others aside, with a sentence."""
        faults = []
        for path in (self.folder / CHECKPOINT, self.folder / PREVIOUS):
            if state.step > 0 or not path.exists():
                continue
            try:
                arrays, numbers = tensor_file.load(path, self._identity)
                checkpoint.restore(state, arrays, int(numbers["step"]))
            except tensor_file.UnusableFile as fault:
                tensor_file.put_aside(path)
                faults.append(str(fault))
                continue
            self._means = BlockMeans.from_arrays(arrays, self.device)
            steps, interval = self.config.schedule.steps, self.config.evaluation.interval
            self._resumed_at_end = state.step >= steps or state.step % interval == 0
        if faults:
            goes_on = f"goes on from the checkpoint before, at step {state.step}" if state.step > 0 else "begins anew"
            self._notices.append(f"{' and '.join(faults)}; the trial {goes_on}.")

    @property
    def _identity(self) -> str:
        """What a checkpoint says that it is of."""
        return f"config {config_id(self.config)}, seed {self.streams.seed}"

    def _train_block(self, state: State) -> list[str]:
        """Train to the next evaluation; the names of what is no finite number there."""
        steps, settings = self.config.schedule.steps, self.config.evaluation
        if self._resumed_at_end:  # the block's own checkpoint was written, its report perhaps not
            self._resumed_at_end = False
            return self._not_finite(state)
        end = min(steps, (state.step // settings.interval + 1) * settings.interval)
        if state.step % settings.interval == 0:
            self._means = BlockMeans()
        state.student.train()
        if state.teacher is not None:
            state.teacher.train()
        started, first = time.perf_counter(), state.step
        saved = started
        while state.step < end:
            self._means.add(self._step(state))
            self._progress.tick(state.step)
            if state.step == end:
                break
            if settings.checkpoint_interval and state.step % settings.checkpoint_interval == 0:
                self._begin_checkpoint(state)
                self._writer.wait()  # a kill costs this interval and no more
            elif time.perf_counter() - saved > 60 * settings.checkpoint_minutes:
                self._begin_checkpoint(state)
                saved = time.perf_counter()
        self._means.read()  # waits for the device, so that the time is that of the steps
        self._step_ms = 1000 * (time.perf_counter() - started) / (end - first)
        return self._not_finite(state)

    def _step(self, state: State) -> Losses:
        """One training step on the batches of its number."""
        step, size = state.step, self.config.batch_size
        match self.config.adaptation:
            case SelfTraining() as settings:
                source = in_layout(self.domains.source(self.streams, step, size), self.config)
                target = in_layout(self.domains.target(self.streams, step, size), self.config)
                return self_training_step(state, settings, source, target)
            case SourceOnly(distortion=distortion):
                source = self.domains.source(self.streams, step, size)
                if distortion is not None:
                    draw = draw_distortion(distortion, self.streams, step, size)
                    source = replace(source, image=distort(source.image, draw, self.domains.mean, self.domains.std))
                return supervised_step(state, in_layout(source, self.config))
            case TargetSupervised():
                batch = self.domains.labelled_target(self.streams, step, size)
                return supervised_step(state, in_layout(batch, self.config))

    def _not_finite(self, state: State) -> list[str]:
        """What is no finite number: losses of the block, or else weights that its last step has spoilt."""
        losses = sorted(name for name, value in self._means.read().items() if not math.isfinite(value))
        networks = {"student": state.student} | ({} if state.teacher is None else {"teacher": state.teacher.network})
        return losses or [f"a weight of the {name}" for name, network in networks.items() if not finite(network)]

    # -- reports -------------------------------------------------------------------------------------------------

    def _evaluated(self, state: State) -> Report:
        self._begin_checkpoint(state)
        started = time.perf_counter()
        with self._eager_passes(), autocast(state):
            scored, others = self._scores(state)
            others |= self._pseudo_label_quality(state)
        metrics = self._means.read() | {
            "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
            "time/step_ms": self._step_ms,
            "time/evaluation_s": time.perf_counter() - started,
            "memory/peak_mib": peak_memory_mib(self.device),
        }
        for name, result in scored.items():
            metrics |= self._named(name, result)
        metrics |= others
        report = self._report(state, metrics)
        report["confusion"] = {name: result.confusion.tolist() for name, result in scored.items()}
        if state.step >= self.config.schedule.steps:
            tensor_file.save(self.folder / FINAL, dict(state.student.state_dict()), self._numbers(state))
            report["pictures"] = self._pictures(state)
            report["outcome"] = "finished"
        self._writer.wait()
        return report

    def _pictures(self, state: State) -> dict[str, str]:
        """Pictures by name; where they cannot be made none, and a notice: they are no result."""
        try:
            with self._eager_passes():
                return save_pictures(self.folder / "pictures", state.student, self.domains, state.last)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
            self._notices.append(f"The trial's pictures could not be made ({fault}); its results are whole.")
            return {}

    def _eager_passes(self) -> contextlib.AbstractContextManager[Any]:
        """Evaluation runs uncompiled: its sizes and last batches would each be compiled, minutes for a few passes."""
        return torch.compiler.set_stance("force_eager") if self.config.execution.compile else contextlib.nullcontext()

    def _scores(self, state: State) -> tuple[dict[str, Scores], dict[str, float]]:
        """Scores by network, and what chooses a model without target labels."""
        student: Segmentor = state.student
        adaptation = self.config.adaptation
        if isinstance(adaptation, SourceOnly) and adaptation.adapt_statistics is not None:
            student = with_target_statistics(
                student, self.domains, self.streams, adaptation.adapt_statistics, self.config.batch_size
            )
        networks, settings = {"student": student}, self.config.evaluation
        last = state.step >= self.config.schedule.steps
        if state.teacher is not None and (last or settings.teacher is TeacherScored.ALWAYS):
            networks["teacher"] = state.teacher.network
        criteria = None
        if settings.criteria is not None:
            criteria = TargetCriteria(settings.criteria, len(self.domains.classes), self.device)
        results = evaluate(list(networks.values()), self.domains, settings, self.device, criteria)
        chosen_by = {} if criteria is None else criteria.read()
        if self.config.source_holdout is not None:
            chosen_by[SOURCE_MIOU] = source_miou(student, self.domains, settings, self.device)
        return dict(zip(networks, results, strict=True)), chosen_by

    def _pseudo_label_quality(self, state: State) -> dict[str, float]:
        """Of the teacher; nothing where there is none, or no labels to compare with."""
        if state.teacher is None or not isinstance(self.config.adaptation, SelfTraining):
            return {}
        if self._quality is None:
            threshold = self.config.adaptation.threshold
            self._quality = PseudoLabelQuality(self.domains, threshold, self.config.batch_size)
        return self._quality(state.teacher.network)

    def _named(self, network: str, result: Scores) -> dict[str, float]:
        named = {f"{network}/miou": result.mean(), f"{network}/accuracy": result.accuracy}
        for name, classes in self.domains.means.items():
            named[f"{network}/{name}"] = result.mean(classes)
        for name, value in zip(self.domains.scored, result.iou.tolist(), strict=True):
            named[f"{network}/iou/{name}"] = value
        return named

    def _report(self, state: State, metrics: dict[str, float]) -> Report:
        return Report(
            step=state.step,
            planned_steps=self.config.schedule.steps,
            executed_steps=self._progress.executed,
            metrics=metrics,
            machine=machine(self.device, self.config, state.graphed),
            outcome=None,
        )

    def _diverged(self, state: State, bad: list[str]) -> Report:
        report = self._report(state, self._means.read())
        report["outcome"] = "diverged"
        report["error"] = f"{', '.join(bad)} is not a finite number in the block that ends at step {state.step}."
        return report

    def _out_of_memory(self, message: str) -> Report:
        step = self._state.step if self._state is not None else 0
        peak = peak_memory_mib(self.device)
        return Report(
            step=step,
            planned_steps=self.config.schedule.steps,
            executed_steps=self._progress.executed,
            metrics={"memory/peak_mib": peak},
            machine=machine(self.device, self.config),
            outcome="oom",
            error=f"Out of memory after step {step} at a peak of {peak:.0f} MiB: {message.splitlines()[0]}",
        )

    def _begin_checkpoint(self, state: State) -> None:
        arrays = checkpoint.arrays_of(state) | self._means.arrays()
        self._writer.begin(arrays, self._numbers(state) | {"of": self._identity})

    def _numbers(self, state: State) -> dict[str, Any]:
        """What stands in a checkpoint's header: the step, and what the network needs to be used without its config."""
        domains = self.domains
        model = describe(self.config, domains.classes, domains.mean, domains.std, state.step)
        return {"step": state.step, "model": model.to_json()}
