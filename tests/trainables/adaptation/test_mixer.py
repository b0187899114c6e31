"""A mixer of one's own: what it sees, what it remembers, what its images weigh; ClassMix is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mfm_tune.fields import Settings
from mfm_tune.identity import canonical
from tests.trainables.running.test_resume import numbers, trained
from tests.trainables.tasks.training import CPU, FEW, smoke, stepped, train, with_hrda
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.adaptation.classmix import classmix
from trainables.adaptation.mixer import Mixer, MixView
from trainables.config import ClassMix, Execution, Experiment, Precision, SelfTraining
from trainables.data.domains import open_domains
from trainables.program import Segmentation
from trainables.randomness import Recorded, Streams
from trainables.running.initial import new_student
from trainables.running.trial import CHECKPOINT, FINAL
from trainables.step_data import Mixed

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Echo(Settings):
    """ClassMix on the target of this step and, once there is one, on that of the step before, at half weight each."""

    kept: bool = True

    def build(self) -> Mixer:
        return EchoMixer(kept=self.kept)


class EchoMixer(Mixer):
    """Remembers the target of the step before; the buffers have no shape before there is one."""

    def __init__(self, *, kept: bool) -> None:
        super().__init__()
        self.register_buffer("image", None, persistent=kept)
        self.register_buffer("label", torch.empty(0), persistent=kept)
        self.register_buffer("weight", torch.empty(0), persistent=kept)

    def mix(self, given: MixView) -> tuple[Mixed, ...]:
        now = classmix(given.source, given.target, given.pseudo, given.streams, given.step)
        mixed: tuple[Mixed, ...] = (now,)
        if self.image is not None:
            target = replace(given.target, image=self.image)
            pseudo = replace(given.pseudo, label=self.label, weight=self.weight)
            before = classmix(given.source, target, pseudo, given.streams, given.step)
            mixed = replace(now, share=0.5), replace(before, share=0.5)
        self.image, self.label, self.weight = given.target.image, given.pseudo.label, given.pseudo.weight
        return mixed


@dataclass(frozen=True)
class Given(Settings):
    """A mixer that is a function."""

    make: Callable[[MixView], Any] = field(metadata={"identity": False})

    def build(self) -> Mixer:
        return GivenMixer(self.make)


class GivenMixer(Mixer):
    """Calls it."""

    def __init__(self, make: Callable[[MixView], Any]) -> None:
        super().__init__()
        self.mix = make  # type: ignore[method-assign]


def mixing(mixer: object, config: Experiment | None = None, **changes: Any) -> Experiment:
    """DACS at the smoke scale with a mixer."""
    config = smoke() if config is None else config
    return replace(config, adaptation=SelfTraining(threshold=0.0, mixer=mixer, **changes))


def two(given: MixView, *shares: float) -> tuple[Mixed, ...]:
    """ClassMix's images several times over."""
    mixed = classmix(given.source, given.target, given.pseudo, given.streams, given.step)
    return tuple(replace(mixed, share=share) for share in shares)


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_mixer_remembers_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Killed between checkpoints; it is in the checkpoint and not in the exported student."""
    config = mixing(Echo(), smoke(steps=8))
    config = replace(config, evaluation=replace(config.evaluation, interval=4, checkpoint_interval=2))
    whole = trained(config, tmp_path / "whole", tmp_path)
    cut = trained(config, tmp_path / "cut", tmp_path, cuts=(1, 3, 5))
    assert [numbers(report) for report in whole] == [numbers(report) for report in cut]
    arrays, other = (tensor_file.load(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "cut"))
    assert same_arrays(arrays, other)
    assert {name for name in arrays if name.startswith("mixer.")} == {"mixer.image", "mixer.label", "mixer.weight"}
    assert arrays["mixer.label"].dtype == torch.int64
    final = tensor_file.load(tmp_path / "cut" / FINAL)[0]
    assert final
    assert all(name.startswith(("encoder.", "decoder.")) for name in final)


@pytest.mark.slow
def test_a_mixer_that_forgets_ends_elsewhere(tmp_path: Path) -> None:
    """With buffers that are left out of the checkpoint a resumed trial is another one: the test above can fail."""
    config = mixing(Echo(kept=False), smoke(steps=4))
    config = replace(config, evaluation=replace(config.evaluation, checkpoint_interval=2))
    whole = trained(config, tmp_path / "whole", tmp_path)
    cut = trained(config, tmp_path / "cut", tmp_path, cuts=(3,))
    assert numbers(whole[-1])["loss/mixed"] != numbers(cut[-1])["loss/mixed"]


def test_class_mix_remembers_nothing(tmp_path: Path) -> None:
    """Checkpoints of ClassMix have no entry of a mixer."""
    train(smoke(), tmp_path)
    arrays, _ = tensor_file.load(tmp_path / "trial" / CHECKPOINT)
    assert not any(name.startswith("mixer.") for name in arrays)


# -- weights and colours -----------------------------------------------------------------------------------------------


def test_the_mixed_term_is_the_sum_of_the_shares() -> None:
    """Values and gradients, each batch propagated back alone; in float64, where sums in another order agree."""
    shares = (0.5, 0.25)
    config = mixing(Given(lambda given: two(given, *shares)))
    config = replace(config, execution=Execution(precision=Precision.FLOAT64))
    state = stepped(config)
    view = state.last
    assert view is not None
    assert view.source.label is not None
    student = new_student(config, Streams(0), 12, CPU).train()
    each = [student.loss(student(mixed.image), mixed.label, mixed.weight).total() for mixed in view.mixed]
    joint = sum(share * loss for share, loss in zip(shares, each, strict=True))
    joint = joint + student.loss(student(view.source.image), view.source.label).total()
    joint.backward()  # type: ignore[union-attr]
    for one, other in zip(student.parameters(), state.student.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_the_log_has_the_sum_and_each_batch(tmp_path: Path) -> None:
    """`loss/mixed`, and by number where there are several; HRDA's detail term beside it."""
    report, _ = train(with_hrda(mixing(Given(lambda given: two(given, 0.5, 0.5)))), tmp_path)
    losses = {name: value for name, value in report["metrics"].items() if name.startswith("loss/mixed")}
    assert set(losses) == {"loss/mixed", "loss/mixed detail", "loss/mixed 0", "loss/mixed 1"}
    assert losses["loss/mixed"] == pytest.approx(losses["loss/mixed 0"] + losses["loss/mixed 1"])


def test_batches_of_a_step_are_augmented_together_with_factors_of_their_own() -> None:
    """Both or none by the gates of the step, and never alike; the first as ClassMix's."""
    seen = {}
    for gate in (0.0, 0.9):
        draws = {(f"{part} gate", 0, 0): torch.tensor(gate) for part in ("jitter", "blur")}
        state, plain = (
            stepped(mixing(mixer), Recorded(0, draws)) for mixer in (Given(lambda given: two(given, 1, 1)), ClassMix())
        )
        assert state.last is not None
        assert plain.last is not None
        first, second = state.last.mixed
        assert torch.equal(first.image, plain.last.mixed[0].image)
        seen[gate] = torch.equal(first.image, second.image)
    assert seen == {0.0: True, 0.9: False}


def test_images_that_the_mixer_has_augmented_stay_as_they_are() -> None:
    """Whatever the step's gates."""
    made: list[Mixed] = []

    def make(given: MixView) -> tuple[Mixed, ...]:
        made.extend(replace(mixed, augmented=True) for mixed in two(given, 1))
        return tuple(made)

    state = stepped(mixing(Given(make)), Recorded(0, {("jitter gate", 0, 0): torch.tensor(0.9)}))
    assert state.last is not None
    assert torch.equal(state.last.mixed[0].image, made[0].image)


# -- what it sees ------------------------------------------------------------------------------------------------------


def test_a_mixer_sees_the_length_of_the_run_and_draws_source_images_by_class() -> None:
    """Images that show the class, in the config's memory format, the same at each call."""
    views: list[MixView] = []
    drawn: list[tuple[Tensor, Tensor]] = []
    label = next(iter(open_domains(smoke(), {}, CPU).source(Streams(0), 0, 1).label.unique())).item()  # type: ignore[union-attr]

    def make(given: MixView) -> tuple[Mixed, ...]:
        views.append(given)
        for _ in range(2):
            batch = given.source_of_class("patch", int(label), 3)
            assert batch.label is not None
            drawn.append((batch.image, batch.label))
        return two(given, 1.0)

    config = mixing(Given(make), smoke(steps=20))
    stepped(replace(config, execution=Execution(precision=Precision.FLOAT64)))
    assert views[0].total_steps == 20
    (image, labels), (again, _) = drawn
    assert image.shape == (3, 3, *FEW.image_size)
    assert image.dtype == torch.float64
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert all(bool((one == label).any()) for one in labels)
    assert torch.equal(image, again)


def test_images_are_mixed_in_float32_where_the_networks_compute_in_bf16() -> None:
    """A mixer's own convolutions, too."""

    def smoothed(given: MixView) -> tuple[Mixed, ...]:
        (mixed,) = two(given, 1.0)
        kernel = torch.full((3, 1, 3, 3), 1 / 9)
        return (replace(mixed, image=nn.functional.conv2d(mixed.image, kernel, padding=1, groups=3), augmented=True),)

    state = stepped(replace(mixing(Given(smoothed)), execution=Execution(precision=Precision.BFLOAT16)))
    assert state.last is not None
    assert state.last.mixed[0].image.dtype == torch.float32


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_mixer_is_part_of_a_config_only_where_it_is_not_class_mix() -> None:
    """The ids of configs that were declared before stay."""
    plain, own = canonical(SelfTraining()), canonical(SelfTraining(mixer=Echo()))
    assert isinstance(plain, dict)
    assert isinstance(own, dict)
    assert "mixer" not in plain
    assert own["mixer"] == {"class": "Echo", "kept": True}


def test_a_mixer_of_ones_own_has_a_cost_class_of_its_own() -> None:
    """It may take several passes; ClassMix's class is as it was."""
    plain, own = (Segmentation().cost_class(mixing(mixer)) for mixer in (ClassMix(), Echo()))
    assert own == plain.replace("DACS", "DACS + Echo")
    assert plain == Segmentation().cost_class(smoke())


@dataclass(frozen=True)
class Louder(Echo):
    """Derived from a mixer's settings, and mixing nothing of its own."""


def test_what_is_no_mixer_is_one_sentence() -> None:
    """When the config is made, when the mixer is built, and when it mixes."""
    with pytest.raises(ValueError, match=r"^SelfTraining\.mixer must be settings of a mixer .*, got 'classmix'\.$"):
        mixing("classmix")
    with pytest.raises(ValueError, match=r"got Louder\(kept=True\), which inherits build from Echo and would"):
        mixing(Louder())
    for wrong, kind in ((None, "NoneType"), ((), "tuple"), ([1], "list"), ((1,), "tuple")):
        with pytest.raises(
            ValueError, match=rf"^GivenMixer\.mix must return a tuple of one or more Mixed, got {kind}\.$"
        ):
            stepped(mixing(Given(lambda given, wrong=wrong: wrong)))  # type: ignore[misc]


@dataclass(frozen=True)
class NoMixer(Settings):
    """Builds something else."""

    def build(self) -> object:
        return object()


def test_settings_that_build_no_mixer_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^NoMixer\.build must return a Mixer, got object; derive it from"):
        stepped(mixing(NoMixer()))
