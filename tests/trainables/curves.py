"""The loss curves of twenty steps, one a method: what a refactor must reproduce.

python -m tests.trainables.curves        records them anew in tests/golden/curves/

Record only after a change that is meant to move the numbers, and say so in the commit. All sizes are here, so that a
change of a profile's numbers moves no curve. The confidence threshold is low, so that pseudo-labels count from the
first step and every term has a gradient.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from trainables.config import (
    AdamW,
    DAFormer,
    Evaluation,
    Experiment,
    Margins,
    MiT,
    Norm,
    Precision,
    Schedule,
    SelfTraining,
    SmallDeepLab,
    ToyCity,
)
from trainables.data.domains import open_domains
from trainables.randomness import Streams
from trainables.recipes import DAFormerScale, Scale, dacs, daformer, hrda, mfm, mic, oracle, source_only
from trainables.running.environment import machine, set_numerics
from trainables.running.initial import assemble, in_layout, new_student
from trainables.training import Losses, State, self_training_step, supervised_step

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "curves"
STEPS = 20
SEED = 0
THRESHOLD = 0.1

_DATA = ToyCity(image_size=(32, 64), source_images=6, target_images=6, validation_images=1)
_NETWORK = DAFormer(
    encoder=MiT(
        dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), reductions=(4, 2, 2, 1), strides=(4, 2, 1, 1)
    ),
    embed_dim=16,
    channels=16,
    rates=(1, 2, 4),
)
TINY = Scale(
    name="curves",
    data=_DATA,
    network=SmallDeepLab(widths=(8, 16, 24), norm=Norm.GROUP, rates=(1, 2)),
    initial=None,
    optimizer=AdamW(learning_rate=1e-3, head_factor=10.0),
    schedule=Schedule(steps=STEPS, warmup_steps=5),
    batch_size=2,
    evaluation=Evaluation(interval=STEPS),
    native_grid=(8, 16),
    dim_divisor=16,
    heads=4,
    rebuilder_learning_rate=None,
    daformer=DAFormerScale(
        network=_NETWORK,
        initial=None,
        optimizer=AdamW(learning_rate=1e-3, head_factor=10.0),
        hrda_data=_DATA,
        rare_pixels=4,
        margins=Margins(top=1, bottom=4),
        things=(2, 5, 9, 10, 11),  # buildings too: at this size no thing fills one of HRDA's cells
        mask_block=4,
    ),
)
CURVES: Mapping[str, Experiment] = {
    "source-only": source_only(TINY),
    "oracle": oracle(TINY),
    "dacs": dacs(TINY),
    "dacs-mfm": dacs(TINY, mfm(TINY)),
    "daformer": daformer(TINY),
    "daformer-mfm": daformer(TINY, mfm(TINY)),
    "hrda": hrda(TINY),
    "hrda-mfm": hrda(TINY, mfm(TINY)),
    "mic": mic(TINY),
    "mic-mfm": mic(TINY, mfm(TINY)),
}


def environment() -> dict[str, str]:
    """What decides the last bits: processor with its vector instructions, and torch's version, one thread."""
    found = machine(torch.device("cpu"), CURVES["dacs"])
    return {"processor": found["device_name"], "torch": found["torch"]}


def curve(config: Experiment, steps: int = STEPS) -> dict[str, list[float]]:
    """Every logged scalar of the first steps."""
    if isinstance(config.adaptation, SelfTraining):
        config = replace(config, adaptation=replace(config.adaptation, threshold=THRESHOLD))
    device, streams = torch.device("cpu"), Streams(SEED)
    domains = open_domains(config, {}, device)
    state = assemble(config, streams, new_student(config, streams, len(domains.classes), device), domains)
    values: dict[str, list[float]] = {}
    for _ in range(steps):
        for name, value in _step(state, config, domains).items():
            values.setdefault(name, []).append(float(value))
    return values


def _step(state: State, config: Experiment, domains: object) -> Losses:
    match config.adaptation:
        case SelfTraining() as settings:
            source = domains.source(state.streams, state.step, config.batch_size)  # type: ignore[attr-defined]
            target = domains.target(state.streams, state.step, config.batch_size)  # type: ignore[attr-defined]
            return self_training_step(state, settings, in_layout(source, config), in_layout(target, config))
        case _:
            supervised = config == CURVES["oracle"]
            draw = domains.labelled_target if supervised else domains.source  # type: ignore[attr-defined]
            return supervised_step(state, in_layout(draw(state.streams, state.step, config.batch_size), config))


def record() -> None:
    """Write all curves."""
    set_numerics(1, Precision.FLOAT32)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, config in CURVES.items():
        content = {"environment": environment(), "curve": curve(config)}
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(f"{name}: {content['curve']['loss/source'][-1]:.4f}", file=sys.stderr)  # type: ignore[index]


if __name__ == "__main__":
    record()
