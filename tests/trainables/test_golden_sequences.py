"""The shipped step reproduces whole training sequences of the published reference implementation, in float64.

Only the draws are put in (through `Recorded` streams); the loop, the optimiser, the teacher and the tasks are the ones
that train. Where the reference weighs a pixel mask, recorded masks are rectangles, as `Batch.valid` holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.golden_cases import RECORDED, Arrays, packed, read, tensor
from tests.trainables.models.tiny import TINY_DAFORMER, published_tensors
from trainables.config import (
    HRDA,
    AdamW,
    Blur,
    ColourJitter,
    DeepLabV2,
    Execution,
    Experiment,
    FeatureDistance,
    Margins,
    MaskedConsistency,
    MaskedView,
    Network,
    PackedPair,
    Precision,
    Schedule,
    SelfTraining,
)
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.models.pretrained import load_encoder_tensors, load_segmentor_tensors
from trainables.randomness import Recorded
from trainables.running.initial import assemble, new_student
from trainables.step_data import Batch
from trainables.tasks.feature_distance import FeatureDistanceTask
from trainables.training import Losses, State, self_training_step

TINY_RESNET = DeepLabV2(layers=(1, 1, 2, 1), base_width=2, stem_width=4)
TINY_HRDA = HRDA(base=TINY_DAFORMER, detail_crop=(64, 64), attention_dim=8)
NETWORKS: dict[str, Network] = {
    "dacs_resnet": TINY_RESNET,
    "dacs_mit": TINY_DAFORMER,
    "dacs_mit_fd": TINY_DAFORMER,
    "dacs_mit_mic": TINY_DAFORMER,
    "dacs_mit_full": TINY_DAFORMER,
    "dacs_resnet_full": TINY_RESNET,
    "dacs_hrda_full": TINY_HRDA,
}
VIEWS = {
    "separatetrg": MaskedView.TARGET,
    "separatetrgaug": MaskedView.TARGET_AUGMENTED,
    "separate": MaskedView.SOURCE_AND_TARGET,
}
LOGS = {
    "decode.loss_seg": "loss/source",
    "decode.hr.loss_seg": "loss/source detail",
    "mix.decode.loss_seg": "loss/mixed",
    "mix.decode.hr.loss_seg": "loss/mixed detail",
    "src.loss_imnet_feat_dist": "loss/feature_distance",
}
Draws = dict[tuple[str, int, int], Tensor]


def experiment(name: str, meta: dict[str, Any]) -> Experiment:
    """The recorded sequence's settings as a config."""
    auxiliary: list[object] = []
    if meta["feature_distance"]:
        auxiliary.append(FeatureDistance(min_ratio=meta["feature_distance_min_ratio"]))
    if meta["mic_mode"]:
        auxiliary.append(
            MaskedConsistency(
                weight=meta["mask_lambda"],
                ratio=meta["mask_ratio"],
                block=meta["mask_block"],
                view=VIEWS[meta["mic_mode"]],
            )
        )
    margins = Margins(top=meta["ignore_top"], bottom=meta["ignore_bottom"])
    return Experiment(
        data=PackedPair(crop_size=tuple(meta["crop"])),
        network=NETWORKS[name],
        initial=None,
        adaptation=SelfTraining(
            momentum=meta["alpha"],
            threshold=meta["pseudo_threshold"],
            jitter=ColourJitter() if meta["colour_jitter"] else None,
            blur=Blur() if meta["blur"] else None,
            margins=margins,
        ),
        auxiliary=tuple(auxiliary),
        optimizer=AdamW(learning_rate=6e-4, decay_norms=not meta["norm_decay_zero"]),
        schedule=Schedule(steps=100, warmup_steps=0, power=0.0),
        execution=Execution(precision=Precision.FLOAT64, channels_last=False),
    )


def recorded_draws(arrays: Arrays, meta: dict[str, Any]) -> Draws:
    """All draws of a sequence, by purpose and step."""
    draws: Draws = {}
    for step in range(meta["iterations"]):
        draws |= draws_of_step(arrays, meta, step)
    return draws


def draws_of_step(arrays: Arrays, meta: dict[str, Any], step: int) -> Draws:
    prefix = f"draw/iter{step}/"
    mine = {k.removeprefix(prefix): tensor(v) for k, v in arrays.items() if k.startswith(prefix)}
    keys = torch.ones(2, 256, dtype=torch.float64)
    for image in range(2):
        keys[image, mine[f"mix_class_ids_image{image}"]] = 0
    draws: Draws = {("mix classes", step, 0): keys}
    gates, sigmas = iter(mine["uniform"]), iter(mine.get("blur_sigma", torch.empty(0)))
    calls = (
        {name: mine[f"jitter{n}_{name}"] for name in JITTERS if f"jitter{n}_{name}" in mine} for n in range(3)
    )  # fmt: skip
    jitter_gate = next(gates)
    draws["jitter gate", step, 0] = jitter_gate
    jittered = meta["colour_jitter"] and jitter_gate > 0.2
    if jittered:
        draws |= jitter_draws([next(calls), next(calls)], MIXED_JITTER, step)
    if meta["blur"]:
        draws["blur gate", step, 0] = gate = next(gates)
        if gate > 0.5:
            draws["blur sigma", step, 0] = torch.stack([next(sigmas), next(sigmas)])
    if meta["mic_mode"]:
        draws["image mask", step, 0] = mine["mask_uniform"]
    if meta["mic_mode"] == "separatetrgaug":
        draws["masked jitter gate", step, 0] = gate = next(gates)
        if meta["colour_jitter"] and gate > 0.2:
            draws |= jitter_draws([next(calls)], MASKED_JITTER, step)
        draws["masked blur gate", step, 0] = gate = next(gates)
        if gate > 0.5:
            draws["masked blur sigma", step, 0] = next(sigmas).view(1)
    if "hr_crop_boxes_y1y2x1x2" in mine:
        for purpose, (top, _, left, _) in zip(BOXES, mine["hr_crop_boxes_y1y2x1x2"].tolist(), strict=True):
            draws[purpose, step, 0] = torch.tensor(top // 8)
            draws[purpose, step, 1] = torch.tensor(left // 8)
    return draws


JITTERS = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor", "order")
MIXED_JITTER = (
    "jitter brightness",
    "jitter contrast",
    "jitter saturation",
    "jitter hue",
    "jitter order",
)
MASKED_JITTER = (
    "masked jitter brightness",
    "masked jitter contrast",
    "masked jitter saturation",
    "masked jitter hue",
    "masked jitter order",
)
BOXES = ("detail crop, source pass", "detail crop, mixed pass", "detail crop, masked pass")


def jitter_draws(calls: list[dict[str, Tensor]], purposes: tuple[str, ...], step: int) -> Draws:
    """Factors of all images together, and one order a call."""
    draws: Draws = {}
    for name, purpose in zip(JITTERS[:4], purposes[:4], strict=True):
        draws[purpose, step, 0] = torch.cat([call[name] for call in calls])
    for item, call in enumerate(calls):
        draws[purposes[4], step, item] = call["order"]
    return draws


def batches(arrays: Arrays, step: int) -> tuple[Batch, Batch]:
    """The normalised source and target batch of a step."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    source, target = (
        (tensor(arrays[name][step]).double() - mean) / std for name in ("source_u8", "target_u8")
    )  # fmt: skip
    valid = None
    if "valid_mask" in arrays:
        valid = tuple(rectangle(tensor(mask)) for mask in arrays["valid_mask"][step])
    return Batch(source, tensor(arrays["source_label"][step]).long()), Batch(target, valid=valid)


def rectangle(mask: Tensor) -> Box:
    """The rectangle of ones that a mask is."""
    rows, columns = mask.amax(1).nonzero().flatten(), mask.amax(0).nonzero().flatten()
    box = Box(int(rows[0]), int(columns[0]), len(rows), len(columns))
    assert int(mask.sum()) == box.height * box.width
    return box


def begin(name: str, arrays: Arrays, meta: dict[str, Any]) -> State:
    """The state before the first iteration, at the recorded weights."""
    config = experiment(name, meta)
    streams = Recorded(0, recorded_draws(arrays, meta))
    student = new_student(config, streams, 19, torch.device("cpu"))
    load_segmentor_tensors(student, packed(arrays, "init"))
    domains: Any = SimpleNamespace(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    state = assemble(config, streams, student, domains)
    for task in state.tasks:
        if isinstance(task, FeatureDistanceTask):
            load_encoder_tensors(task.imagenet_encoder, packed(arrays, "imnet_backbone"))
    return state


def run(state: State, arrays: Arrays, meta: dict[str, Any]) -> Iterator[tuple[int, Losses]]:
    """Train the recorded iterations."""
    assert isinstance(state.config.adaptation, SelfTraining)
    for step in range(meta["iterations"]):
        source, target = batches(arrays, step)
        yield step, self_training_step(state, state.config.adaptation, source, target)


def gradients(state: State) -> dict[str, Tensor]:
    """Gradients of the latest step under the reference's names."""
    shadow = {name: parameter.grad for name, parameter in state.student.named_parameters()}
    held = {name: parameter.data.clone() for name, parameter in state.student.named_parameters()}
    for name, parameter in state.student.named_parameters():
        parameter.data.copy_(shadow[name])
    named = {name: value.clone() for name, value in published_tensors(state.student).items()}
    for name, parameter in state.student.named_parameters():
        parameter.data.copy_(held[name])
    return named


@pytest.fixture
def arrays(request: pytest.FixtureRequest, name: str) -> Arrays:
    """A recorded sequence: of the repository where it holds it, else of the reference data beside it."""
    own = RECORDED / f"{name}.npz"
    return read(own if own.exists() else request.getfixturevalue("golden") / own.name)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_training_sequence_is_the_references(arrays: Arrays, name: str) -> None:
    """Losses, pseudo-labels, q, gradients, and the weights of student and teacher after the last iteration."""
    meta = json.loads(str(arrays["meta_json"]))
    tolerance = 1e-5 if meta["colour_jitter"] else 1e-6
    state, seen = begin(name, arrays, meta), []
    state.student.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for step, losses in run(state, arrays, meta):
        for key, wanted in recorded_losses(arrays, step).items():
            assert float(losses[key]) == pytest.approx(wanted, rel=tolerance), (step, key)
        assert float(losses["pseudo_label_share"]) == pytest.approx(arrays["q"][step], abs=1e-12)
        assert state.last is not None
        assert torch.equal(state.last.pseudo.label, tensor(arrays["pseudo_label"][step]).long())
        assert float(gradient_norm(state)) == pytest.approx(arrays["grad_norm"][step], rel=tolerance)
        if step == 0:
            assert_first_iteration(state, seen, arrays)
    assert step == meta["iterations"] - 1
    for key, network in (("student_after", state.student), ("teacher_after", state.last.teacher)):
        assert_same(published_tensors(network), packed(arrays, key), key)


def recorded_losses(arrays: Arrays, step: int) -> dict[str, float]:
    """Our name of each recorded loss -> its value; the masked pass's fused and detail terms are one task's loss."""
    recorded = {ours: float(arrays[f"log/{key}"][step]) for key, ours in LOGS.items() if f"log/{key}" in arrays}
    masked = [float(arrays[key][step]) for key in arrays if re.fullmatch(r"log/masked\..*loss_seg", key)]
    return recorded | ({"loss/masked_consistency": sum(masked)} if masked else {})


def gradient_norm(state: State) -> Tensor:
    """2-norm over all gradients of the latest step."""
    return torch.stack([p.grad.norm() for p in state.student.parameters() if p.grad is not None]).norm()


def assert_first_iteration(state: State, masked: list[Tensor], arrays: Arrays) -> None:
    """What the student saw: the mixed batch, and the masked one where there is one; and the gradients."""
    assert state.last is not None
    every = 4 if "iter0/mixed_image_every4" in arrays else 2
    (seen,) = state.last.mixed
    assert torch.equal(seen.label, tensor(arrays["iter0/mixed_label"]).long().squeeze(1))
    assert torch.equal(seen.weight, tensor(arrays["iter0/mixed_weight"]))
    image = tensor(arrays[f"iter0/mixed_image_every{every}"]).double()
    torch.testing.assert_close(seen.image[..., ::every, ::every], image, rtol=0, atol=1e-4)
    if f"iter0/masked_image_every{every}" in arrays:
        image = tensor(arrays[f"iter0/masked_image_every{every}"]).double()
        torch.testing.assert_close(masked[-1][..., ::every, ::every], image, rtol=0, atol=1e-4)
    assert_same(gradients(state), packed(arrays, "grad0"), "grad0")


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    """All recorded tensors within 1e-5."""
    for key, value in wanted.items():
        if "num_batches_tracked" not in key:
            torch.testing.assert_close(got[key].double(), value.double(), rtol=0, atol=1e-5, msg=f"{what} {key}")
