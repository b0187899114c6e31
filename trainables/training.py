"""The training step: L = L_sup + L_uda + lambda * L_mfm (Eq. 5), and what it needs to be taken again after a crash.

Each term is propagated back on its own as soon as it is computed, so that the peak memory is that of one term;
gradients add up and one optimiser step ends the iteration. A task's term on the graph of the source or the mixed pass
goes back together with that pass. Every draw comes from (seed, purpose, step).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trainables.adaptation.augmentation import augment
from trainables.adaptation.class_crop import class_balanced
from trainables.adaptation.mixer import Mixer, MixView
from trainables.adaptation.pseudo_label import pseudo_label
from trainables.adaptation.teacher import Teacher
from trainables.config import AdamW, Experiment, Precision, SelfTraining
from trainables.cuda_graphs import GraphedModule
from trainables.models.segmentor import SegmentationLoss, Segmentor
from trainables.optimization import clip_gradients, set_learning_rate
from trainables.randomness import Streams
from trainables.step_data import Batch, Mixed, Pass, PseudoLabel, StepView, TargetImages
from trainables.tasks.task import AuxiliaryTask, Shares

FREED = "backward through the graph a second time"  # of torch's error
Losses = dict[str, Tensor]  # name -> scalar on the device, without a graph


@dataclass
class State:
    """All that training changes.

    Args:
        config: What is trained.
        streams: Every draw.
        student: The network that learns and is exported.
        teacher: Its EMA; None without self-training.
        tasks: Auxiliary tasks.
        mixer: Makes the mixed images; None without self-training.
        source_of_class: Source images by (purpose, step, class, count, more_than), in the config's memory format.
        target_images: Whole target images by (purpose, step, count).
        optimizer: Over the student and the tasks.
        step: Steps taken.
        mean, std: Normalisation of images (pixel values, RGB).
        graphed: The modules whose passes are replayed CUDA graphs.
        last: The latest step as auxiliary tasks saw it, for pictures.
    """

    config: Experiment
    streams: Streams
    student: Segmentor
    teacher: Teacher | None
    tasks: nn.ModuleList
    optimizer: torch.optim.Optimizer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    graphed: tuple[GraphedModule, ...] = ()
    mixer: Mixer | None = None
    source_of_class: Callable[[str, int, int, int, int], Batch] | None = None
    target_images: TargetImages | None = None
    step: int = 0
    last: StepView | None = field(default=None, repr=False)


def self_training_step(state: State, settings: SelfTraining, source: Batch, target: Batch) -> Losses:
    """One iteration of DACS with auxiliary tasks (Tranheden et al. 2021, in the order of the DAFormer family)."""
    step, student, teacher = state.step, state.student, state.teacher
    assert teacher is not None
    set_learning_rate(state.optimizer, state.config.schedule, step)
    teacher.follow(student, step)
    _clear_gradients(state)

    tasks = [task for task in state.tasks if isinstance(task, AuxiliaryTask) and step >= task.start_step]
    with autocast(state):
        if settings.class_crop is not None:
            target = class_balanced(target, settings.class_crop, teacher.network, state.streams, step)
        pseudo = pseudo_label(teacher.network, target, settings.threshold, settings.margins)
    mixing = _mix_view(state, source, target, pseudo)
    mixed = mixed_images(state, settings, mixing)
    view = StepView(
        step=step,
        total_steps=mixing.total_steps,
        streams=state.streams,
        student=student,
        teacher=teacher.network,
        source=source,
        seen_source=seen_source(state, settings, source),
        target=target,
        pseudo=pseudo,
        mixed=mixed,
        source_of_class=mixing.source_of_class,
        target_images=_target_images(state),
        mean=state.mean,
        std=state.std,
    )

    losses = source_term(state, view, [task for task in tasks if task.shares is Shares.SOURCE])
    losses |= mixed_terms(state, view, [task for task in tasks if task.shares is Shares.MIXED])
    for task in tasks:
        if task.shares is Shares.NONE:
            losses |= task_terms(state, view, task)

    clip_gradients([student, state.tasks], _clip_norm(state.config))
    state.optimizer.step()
    with torch.no_grad():
        for task in tasks:
            task.after_step(view)
    state.step, state.last = step + 1, view
    return losses | {"pseudo_label_share": pseudo.share}


def supervised_step(state: State, batch: Batch) -> Losses:
    """One iteration of plain cross-entropy: source-only, source pre-training, and the target-supervised oracle."""
    set_learning_rate(state.optimizer, state.config.schedule, state.step)
    _clear_gradients(state)
    box = Pass("source", state.step, state.streams).begin(state.student, batch.image)
    with autocast(state):
        loss = state.student.loss(state.student(batch.image, box), batch.ground_truth)
    loss.total().backward()
    clip_gradients([state.student], _clip_norm(state.config))
    state.optimizer.step()
    state.step += 1
    return _named("source", loss)


def source_term(state: State, view: StepView, sharing: list[AuxiliaryTask]) -> Losses:
    """L_sup, and the tasks that look at the source pass's own features before its graph is freed."""
    student, source = state.student, view.seen_source
    box = Pass("source", view.step, view.streams).begin(student, source.image)
    with autocast(state):
        encoded = student.encode(source.image, box)
        outputs = student.decode(encoded)
        loss = student.loss(outputs, source.ground_truth)
    seen = replace(view, source_encoded=encoded, source_outputs=outputs)
    return _named("source", loss) | backward(state, loss, seen, sharing)


def mixed_terms(state: State, view: StepView, sharing: list[AuxiliaryTask]) -> Losses:
    """L_uda: cross-entropy on mixed images, weighted by the pseudo-labels' confidence, the shares of several added up.

    The first pass has the tasks on its graph.
    """
    student, losses = state.student, dict[str, Tensor]()
    for index, mixed in enumerate(view.mixed):
        box = Pass(_numbered("mixed", index), view.step, view.streams).begin(student, mixed.image)
        with autocast(state):
            encoded = student.encode(mixed.image, box)
            loss = student.loss(student.decode(encoded), mixed.label, mixed.weight).times(mixed.share)
        for name, value in _named("mixed", loss).items():
            losses[name] = losses[name] + value if name in losses else value
        if len(view.mixed) > 1:
            losses[f"loss/mixed {index}"] = loss.main.detach()
        losses |= backward(state, loss, replace(view, mixed_encoded=encoded), [] if index else sharing)
    return losses


def task_terms(state: State, view: StepView, task: AuxiliaryTask) -> Losses:
    """weight * each term of a task, on graphs of their own."""
    terms = Terms(state, view, task)
    terms.backward()
    return terms.losses


def backward(state: State, loss: SegmentationLoss, view: StepView, sharing: list[AuxiliaryTask]) -> Losses:
    """Add the gradients of a pass and of the tasks that share it: first terms with the pass, others on their own."""
    each = [Terms(state, view, task) for task in sharing]
    total = loss.total()
    for terms in each:
        first = terms.take()
        total = total if first is None else total + first
    total.backward()
    for terms in each:
        terms.backward()
    return {name: value for terms in each for name, value in terms.losses.items()}


class Terms:
    """The terms of one task in one step, taken one after the other, each with dropout of its own.

    Attributes:
        losses: Of the terms taken so far, and their sum.
    """

    def __init__(self, state: State, view: StepView, task: AuxiliaryTask) -> None:
        self.losses: Losses = {}
        self._state, self._view, self._task = state, view, task
        self._terms = task.losses(view)
        self._taken = 0

    def take(self) -> Tensor | None:
        """weight * the next term, with a graph; None where there is no more."""
        task = self._task
        own = f"{task.name} {self._taken}" if self._taken else task.name
        Pass("auxiliary target", self._view.step, self._view.streams).seed_dropout(zlib.crc32(own.encode()))
        with autocast(self._state):
            name, loss = next(self._terms, ("", None))
            if loss is None:
                return None
            weighted = task.weight * loss
        self._taken += 1
        whole, value = f"loss/{task.name}", weighted.detach()
        self.losses[whole] = self.losses[whole] + value if whole in self.losses else value
        if name:
            part = f"{whole} {name}"
            self.losses[part] = self.losses[part] + value if part in self.losses else value
        return weighted

    def backward(self) -> None:
        """Add the gradients of the terms that are left, one graph at a time.

        Raises:
            ValueError: A further term lies on the graph that the first one shares.
        """
        while (term := self.take()) is not None:
            try:
                term.backward()
            except RuntimeError as error:
                if self._taken == 1 or FREED not in str(error):
                    raise
                raise ValueError(
                    f"Term {self._taken} of the task '{self._task.name}' lies on a graph that went back with a term "
                    "before it; add up what lies on one graph in one term."
                ) from error


@contextmanager
def autocast(state: State) -> Iterator[None]:
    """bf16 arithmetic where the config asks for it."""
    if state.config.execution.precision is not Precision.BFLOAT16:
        yield
        return
    with torch.autocast(next(state.student.parameters()).device.type, dtype=torch.bfloat16):
        yield


def _clear_gradients(state: State) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    for module in state.graphed:
        module.begin_step()


def _mix_view(state: State, source: Batch, target: Batch, pseudo: PseudoLabel) -> MixView:
    def source_of_class(purpose: str, class_id: int, count: int, more_than: int = 0) -> Batch:
        assert state.source_of_class is not None
        return state.source_of_class(purpose, step, class_id, count, more_than)

    step = state.step
    return MixView(
        step=step,
        total_steps=state.config.schedule.steps,
        streams=state.streams,
        source=source,
        target=target,
        pseudo=pseudo,
        source_of_class=source_of_class,
        mean=state.mean,
        std=state.std,
    )


def _target_images(state: State) -> TargetImages:
    assert state.target_images is not None
    return state.target_images


def seen_source(state: State, settings: SelfTraining, source: Batch) -> Batch:
    """The source as the student sees it: with colours augmented where the settings ask for it, in one call (SePiCo)."""
    if not settings.augment_source:
        return source
    image = augment(
        source.image, settings.jitter, settings.blur, state.streams, state.step, state.mean, state.std,
        name="source ", gates="", per_image=False,
    )  # fmt: skip
    return replace(source, image=image)


def mixed_images(state: State, settings: SelfTraining, given: MixView) -> tuple[Mixed, ...]:
    """The mixer's images, with colours augmented: all batches or none, each with factors of its own.

    Raises:
        ValueError: The mixer gives something else.
    """
    assert state.mixer is not None
    with torch.no_grad():
        mixed = state.mixer.mix(given)
    if not (isinstance(mixed, tuple) and mixed and all(isinstance(one, Mixed) for one in mixed)):
        raise ValueError(
            f"{type(state.mixer).__name__}.mix must return a tuple of one or more Mixed, got {type(mixed).__name__}."
        )
    return tuple(_augmented(one, index, settings, given) for index, one in enumerate(mixed))


def _augmented(mixed: Mixed, index: int, settings: SelfTraining, given: MixView) -> Mixed:
    if mixed.augmented:
        return mixed
    image = augment(
        mixed.image,
        settings.jitter,
        settings.blur,
        given.streams,
        given.step,
        given.mean,
        given.std,
        name=f"{_numbered('mixed', index)} " if index else "",
        gates="",
    )
    return replace(mixed, image=image, augmented=True)


def _numbered(name: str, index: int) -> str:
    """What the draws of one of several batches are called: `mixed`, `mixed 1`, `mixed 2`."""
    return f"{name} {index}" if index else name


def _named(name: str, loss: SegmentationLoss) -> Losses:
    named = {f"loss/{name}": loss.main.detach()}
    if loss.detail is not None:
        named[f"loss/{name} detail"] = loss.detail.detach()
    return named


def _clip_norm(config: Experiment) -> float | None:
    return config.optimizer.clip_norm if isinstance(config.optimizer, AdamW) else None
