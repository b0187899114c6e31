"""Optimisation, evaluation and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    BelowOne,
    IntRange,
    NotNegative,
    Positive,
    Settings,
    Size,
    UnitInterval,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW(Settings):
    """AdamW of the DAFormer family."""

    learning_rate: Positive = 6e-5
    head_factor: Positive = 10.0  # the decoder's learning rate over the encoder's
    weight_decay: NotNegative = 0.01
    decay_norms: bool = False  # True: weight decay on the encoder's norms too, as the reference does for ResNet
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    clip_norm: Positive | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(Settings):
    """SGD of the original DACS (preset)."""

    learning_rate: Positive = 2.5e-4
    head_factor: Positive = 10.0
    weight_decay: NotNegative = 5e-4
    momentum: BelowOne = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule(Settings):
    """Training steps and the learning rate over them: linear warm-up, then polynomial decay to 0."""

    steps: AtLeast1 = 40_000
    warmup_steps: AtLeast0 = 1500
    warmup_ratio: UnitInterval = 1e-6
    power: NotNegative = 1.0  # 1.0 DAFormer family, 0.9 the original DACS


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionCriteria(Settings):
    """Label-free criteria of a model, from its predictions on the target (see `trainables.selection`).

    Args:
        pixels: Of each image that soft neighbourhood density compares with each other; Saito et al. (2021) take 100.
        temperature: That divides their similarities.
    """

    pixels: Annotated[int, IntRange(3)] = 100
    temperature: Positive = 0.05


class TeacherScored(Enum):
    """At which evaluations the EMA teacher is scored, too."""

    ALWAYS = "always"
    LAST = "last"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Settings):
    """When and how the student and the teacher are scored.

    Args:
        interval: Steps between evaluations; the last step is always evaluated.
        slide: (rows, columns) of sliding windows with half-window strides; None feeds the whole image.
        batch_size: Images at once.
        checkpoint_minutes: Between checkpoints within a block; each block ends with one. It cannot change a result.
        checkpoint_interval: The same in steps, beside those by time; None adds none.
        criteria: Label-free criteria to compute beside the scores; None computes none.
        teacher: See the enum. It cannot change a result, and ASHA by a metric of the teacher needs it always.
    """

    interval: AtLeast1 = 4000
    slide: Annotated[tuple[int, int], Size()] | None = None
    batch_size: AtLeast1 = 1
    checkpoint_minutes: Positive = field(default=10.0, metadata={"identity": False})
    checkpoint_interval: AtLeast1 | None = field(default=None, metadata={"identity": False})
    criteria: SelectionCriteria | None = field(default=None, metadata={"identity": "when set"})
    teacher: TeacherScored = field(default=TeacherScored.ALWAYS, metadata={"identity": False})


class Precision(Enum):
    """Arithmetic of the passes. Parity tests use float64; float32 repeats bitwise on one kind of CPU.

    TF32 is float32 whose convolutions and matrix products have 10 bits after the point, not 23, on GPUs that have it
    (Ampere and later), as the reference implementations ran there; elsewhere it is float32. Autocast leaves some
    operations in float32, and takes those as TF32. Every report records what was in force.
    """

    FLOAT32 = "float32"
    TF32 = "tf32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16 autocast"


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution(Settings):
    """How the arithmetic is done. Part of the identity, because it changes the last bits, and `compile` more.

    Args:
        precision: Of the passes; weights are float32 under bf16 autocast.
        channels_last: Images and weights in NHWC.
        compile: Encoders and decoders go through `torch.compile`, which draws other dropout and drop path; evaluation
            does not.
        cuda_graphs: Encoders' passes are recorded once and replayed (`trainables.cuda_graphs`); a CPU
            ignores it.
        checkpointing: The student's encoder keeps inputs of its blocks alone and takes each block again in the backward
            pass: less memory, more time, the same numbers, and no part of the identity.
    """

    precision: Precision = Precision.FLOAT32
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = field(default=False, metadata={"identity": "when set"})
    checkpointing: bool = field(default=False, metadata={"identity": False})

    def _check_together(self) -> None:
        if self.checkpointing and (self.compile or self.cuda_graphs):
            other = "compile" if self.compile else "cuda_graphs"
            raise ValueError(
                f"Execution.checkpointing takes blocks again in the backward pass, which {other} records once; set one "
                "of the two."
            )
