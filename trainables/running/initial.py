"""The state that training starts from: initial weights, teacher, tasks, optimiser."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from trainables import tensor_file
from trainables.adaptation.mixer import Mixer
from trainables.adaptation.teacher import Teacher
from trainables.config import (
    HRDA,
    AdamW,
    Experiment,
    ImageNetWeights,
    NetworkPart,
    Precision,
    Pretrained,
    Schedule,
    SelfTraining,
    WarmStart,
)
from trainables.cuda_graphs import GraphedModule
from trainables.data.domains import Domains
from trainables.experiment.weights import published_encoder
from trainables.models.checkpointing import checkpoint_blocks
from trainables.models.hub import HubWeights
from trainables.models.pretrained import load_encoder
from trainables.models.segmentor import Segmentor
from trainables.optimization import build_optimizer, parameter_groups
from trainables.randomness import Streams
from trainables.settings_json import plain
from trainables.step_data import Batch
from trainables.tasks.build import build_tasks
from trainables.tasks.task import AuxiliaryTask, TaskSetting
from trainables.training import State, supervised_step

PRETRAINING = "pretraining init"  # apart from what a trial of the same seed draws its decoder from
COMPILED_FORMS = 64  # sizes and modes that a process compiles a module's code for


@dataclass(frozen=True)
class Listener:
    """Who is told what happens before the first step.

    Args:
        notice: Takes a sentence where shared weights are damaged and made anew.
        doing: Takes a few words whenever what is waited for has moved: `pre-training 120/800`.
    """

    notice: Callable[[str], None] = print
    doing: Callable[[str], None] = lambda _: None


def begin(
    config: Experiment,
    streams: Streams,
    domains: Domains,
    shared: Path,
    data: Mapping[str, str],
    device: torch.device,
    listener: Listener = Listener(),
) -> State:
    """The state before step 0: initial weights by the config, a teacher equal to the student, empty moments."""
    student = new_student(config, streams, len(domains.classes), device)
    imagenet_encoder = None
    match config.initial:
        case WarmStart():
            if config.network.brings_weights:
                imagenet_encoder = copy.deepcopy(student.encoder)
            part = student.encoder if config.initial.part is NetworkPart.ENCODER else student
            part.load_state_dict(warm_start(config, config.initial, streams, domains, shared, data, device, listener))
        case ImageNetWeights() | Pretrained():
            load_encoder(student, _weights_file(config, data))
        case None:
            pass
    return assemble(config, streams, student, domains, imagenet_encoder)


def check_weights(config: Experiment, data: Mapping[str, str]) -> None:
    """See that the published weights a config starts from are there, before anything is trained.

    Raises:
        ValueError: They are neither given nor on this machine, or the package that holds them is not installed.
    """
    if isinstance(config.initial, ImageNetWeights | Pretrained):
        _weights_file(config, data)
    config.network.check_weights()


def new_student(
    config: Experiment, streams: Streams, num_classes: int, device: torch.device, purpose: str = "init"
) -> Segmentor:
    """A network at its random initial weights, a function of the seed and the purpose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.torch_seed(purpose, 0))
        student = config.network.build(num_classes)
    if config.execution.checkpointing:
        checkpoint_blocks(student.encoder)
    dtype = torch.float64 if config.execution.precision is Precision.FLOAT64 else torch.float32
    student = student.to(device=device, dtype=dtype)
    return student.to(memory_format=torch.channels_last) if config.execution.channels_last else student


def assemble(
    config: Experiment,
    streams: Streams,
    student: Segmentor,
    domains: Domains,
    imagenet_encoder: nn.Module | None = None,
) -> State:
    """Teacher, auxiliary tasks and optimiser around a student at its initial weights.

    Args:
        imagenet_encoder: The encoder at its ImageNet weights; None where the initial weights are these, or stand in
            their place.
    """
    reference = next(student.parameters())
    teacher, tasks, mixer = None, nn.ModuleList(), None
    if isinstance(config.adaptation, SelfTraining):
        teacher = Teacher(student, config.adaptation.momentum)
        setting = TaskSetting(
            student=student,
            adaptation=config.adaptation,
            streams=streams,
            image_size=config.data.training_size,
            imagenet_encoder=student.encoder if imagenet_encoder is None else imagenet_encoder,
        )
        tasks = build_tasks(config.auxiliary, setting)
        tasks.to(device=reference.device, dtype=reference.dtype)
        mixer = build_mixer(config.adaptation, streams).to(device=reference.device, dtype=reference.dtype)
        mixer.check_classes(student.num_classes)
    groups = parameter_groups(student, (task for task in tasks if isinstance(task, AuxiliaryTask)), config.optimizer)
    optimizer = build_optimizer(groups, config.optimizer)
    student.train()
    graphed = _accelerated(config, student, teacher, tasks)

    def source_of_class(purpose: str, step: int, class_id: int, count: int, more_than: int) -> Batch:
        return in_layout(domains.source_of_class(streams, purpose, step, class_id, count, more_than), config)

    def target_images(purpose: str, step: int, count: int) -> tuple[torch.Tensor, ...]:
        return domains.target_images(streams, purpose, step, count)

    scale, drawn = (domains.mean, domains.std), (source_of_class, target_images)
    return State(config, streams, student, teacher, tasks, optimizer, *scale, graphed, mixer, *drawn)


def _accelerated(
    config: Experiment, student: Segmentor, teacher: Teacher | None, tasks: nn.ModuleList
) -> tuple[GraphedModule, ...]:
    """Compile what the config compiles, and return the encoders whose passes are recorded: none on a CPU."""
    networks = [student, *([teacher.network] if teacher else [])]
    encoders = [network.encoder for network in networks]
    encoders += [encoder for task in tasks if isinstance(task, AuxiliaryTask) for encoder in task.encoders()]
    compiled = config.execution.compile
    graphs = config.execution.cuda_graphs and next(student.parameters()).device.type == "cuda"
    if compiled:
        _compile([network.decoder for network in networks] + ([] if graphs else encoders))
    return tuple(GraphedModule(encoder, compiled=compiled) for encoder in encoders) if graphs else ()


def build_mixer(adaptation: SelfTraining, streams: Streams) -> Mixer:
    """What makes the mixed images.

    Raises:
        ValueError: Its settings build something else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.torch_seed("mixer init", 0))
        mixer = adaptation.mixer.build()
    if not isinstance(mixer, Mixer):
        raise ValueError(
            f"{type(adaptation.mixer).__name__}.build must return a Mixer, got {type(mixer).__name__}; "
            "derive it from trainables.adaptation.mixer.Mixer."
        )
    return mixer


def _compile(modules: Iterable[nn.Module]) -> None:
    """Through `torch.compile`, once for every size and mode.

    Left to itself, torch generalises over sizes as soon as a second one comes (HRDA's windows), and its inductor fails
    on a MiT of an open size; and it goes on uncompiled after 8 forms of one class's `forward`, all networks together.
    The limit holds in the thread that sets it, which is the one that trains.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, COMPILED_FORMS)
    for module in modules:
        module.compile(dynamic=False)


def warm_start(
    config: Experiment,
    settings: WarmStart,
    streams: Streams,
    domains: Domains,
    shared: Path,
    data: Mapping[str, str],
    device: torch.device,
    listener: Listener,
) -> dict[str, torch.Tensor]:
    """Weights of a part after supervised source training; computed once for its own settings and seed, then read.

    All configs that differ in adaptation and in rare-class sampling only share the file: those of one seed, or, where
    the pre-training has a seed of its own, all. Of several processes that want it at once one trains and the others
    wait; a killed one leaves no half file. A file that is damaged, or of other settings, is put aside and made anew.
    """
    if settings.seed is not None:
        streams = Streams(settings.seed)
    if settings.part is NetworkPart.ENCODER and isinstance(config.network, HRDA):
        config = replace(config, network=config.network.base)
    machine = (device.type, torch.__version__)
    arithmetic = replace(config.execution, checkpointing=False)  # which changes no number
    of = (config.network, config.data, config.source_holdout, settings, arithmetic)
    identity = json.dumps((plain(of), streams.seed, sorted(data.items()), machine), sort_keys=True)
    path = shared / "warm_starts" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock"), listener):
        if path.exists():
            try:
                return tensor_file.load(path, identity)[0]
            except tensor_file.UnusableFile as fault:
                tensor_file.put_aside(path)
                listener.notice(f"{fault}; the source pre-training that it should hold is done again.")
        weights = _train_warm_start(config, settings, streams, domains, device, listener)
        tensor_file.save(path, weights, {"of": identity})
        return tensor_file.load(path, identity)[0]


def _alone(path: Path, listener: Listener) -> AbstractContextManager[object]:
    """Hold a lock. While another process has it, the listener is told."""
    lock = FileLock(path)
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        listener.doing("waits for initial weights")
        return lock.acquire()


def _train_warm_start(
    config: Experiment,
    settings: WarmStart,
    streams: Streams,
    domains: Domains,
    device: torch.device,
    listener: Listener,
) -> dict[str, torch.Tensor]:
    purpose = "init" if settings.seed is None else PRETRAINING
    student = new_student(config, streams, len(domains.classes), device, purpose)
    rates = AdamW(learning_rate=settings.learning_rate, head_factor=1.0)
    own = Experiment(
        data=config.data,
        network=config.network,
        initial=None,
        adaptation=config.adaptation,
        optimizer=rates,
        schedule=Schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, power=0.9),
        execution=config.execution,
    )
    optimizer = build_optimizer(parameter_groups(student, [], rates), rates)
    state = State(own, streams, student, None, nn.ModuleList(), optimizer, domains.mean, domains.std)
    student.train()
    while state.step < settings.steps:
        listener.doing(f"pre-training {state.step}/{settings.steps}")
        supervised_step(state, in_layout(domains.warm_start(streams, state.step, settings.batch_size), own))
    return dict((student.encoder if settings.part is NetworkPart.ENCODER else student).state_dict())


def in_layout(batch: Batch, config: Experiment) -> Batch:
    """The batch with images in the config's memory format and dtype."""
    image = batch.image
    if config.execution.precision is Precision.FLOAT64:
        image = image.double()
    layout = torch.channels_last if config.execution.channels_last else torch.contiguous_format
    image = image.contiguous(memory_format=layout)
    return Batch(image, batch.label, batch.valid)


def _weights_file(config: Experiment, data: Mapping[str, str]) -> Path:
    """Where the weights lie that the encoder starts from."""
    if isinstance(config.initial, Pretrained):
        return _published_file(HubWeights(published_encoder(config.network)), data)
    assert isinstance(config.initial, ImageNetWeights)
    name = config.initial.value
    if name not in data:
        file = name.replace("-", "_")
        source = f"open-mmlab's {file} checkpoint"
        if name.startswith("mit"):
            source = f"SegFormer's ImageNet checkpoint {file}.pth, or Hugging Face's nvidia/{name}"
        raise ValueError(
            f"initial needs the ImageNet weights '{name}', and nothing is downloaded unasked; "
            f"get {source}, and add --data {name}=PATH."
        )
    return Path(data[name])


def _published_file(weights: HubWeights, data: Mapping[str, str]) -> Path:
    """As given, else in the hub's cache of this machine."""
    path = data.get(weights.name) or weights.cached()
    if path is None:
        raise ValueError(
            f"initial needs the weights '{weights.name}' ({weights.description()}), and nothing is downloaded "
            f"unasked; add --download, or --data {weights.name}=PATH."
        )
    return Path(path)
