"""Every field of every config is checked against its type, and what does not fit is one sentence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mfm_tune.fields import Settings
from trainables import config
from trainables.config import (
    SGD,
    AdamW,
    Blur,
    DAFormer,
    DropBlock,
    EfficientNetLite,
    Evaluation,
    Execution,
    Experiment,
    FeatureDropout,
    MaskedImageModelling,
    Mfm,
    MiT,
    Objective,
    PhotoMetricDistortion,
    RealPhotographs,
    Rebuilder,
    Schedule,
    SegFormer,
    SelectionCriteria,
    SelfTraining,
    SmallDeepLab,
    SourceHoldout,
    SourceOnly,
    TargetSupervised,
)
from trainables.program import Segmentation
from trainables.recipes import MINI, PAPER, dacs, mfm, mic, source_only

CLASSES = [kind for kind in vars(config).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
NONSENSE = (math.nan, math.inf, -1e9, -(10**9), "nonsense" * 20, b"", object(), [], {}, (), (math.nan, math.nan))


def instances() -> dict[type, Any]:
    """One of each class that stands in these configs."""
    found: dict[type, Any] = {}
    configs = [
        dacs(MINI, FeatureDropout(), DropBlock(), MaskedImageModelling()),
        mic(PAPER, mfm(PAPER)),
        source_only(MINI, distortion=PhotoMetricDistortion()),
        SegFormer(), EfficientNetLite(), RealPhotographs(), SGD(), TargetSupervised(), SourceHoldout(),
        SelectionCriteria(), config.DeepLabV2(), config.Timm("resnet18"), config.EfficientNetLite0(),
        config.PixelContrast(), config.PatchContrast(), config.QuadMix(), config.ClassContrast(),
        config.ClassBalancedCrop(size=(64, 64)),
        config.DeepLabV3PlusHead(), config.Pretrained(), config.Published(repository="owner/name"),
        *(each.parts for each in (SegFormer(), EfficientNetLite(), SmallDeepLab(), config.DeepLabV2(), DAFormer())),
    ]  # fmt: skip
    left = list(configs)
    while left:
        one = left.pop()
        if isinstance(one, tuple):
            left += one
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            found.setdefault(type(one), one)
            left += [getattr(one, each.name) for each in dataclasses.fields(one)]
    return found


INSTANCES = instances()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_field_refuses_nonsense_in_a_sentence_that_names_it(kind: type) -> None:
    """A string for an enum, NaN, a bool for a number, another class's settings, a list: none trains anything."""
    assert issubclass(kind, Settings)
    good = INSTANCES[kind]
    for each in dataclasses.fields(kind):
        for value in (*NONSENSE, other_kind(kind)):
            if each.name == "folder" and isinstance(value, str):
                continue  # any string is a name
            if each.name == "auxiliary" and value == ():
                continue  # no tasks
            with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{each.name} must .+, got (?s:.+)\.$") as refused:
                replace(good, **{each.name: value})
            assert len(str(refused.value)) < 250
            assert "\n" not in str(refused.value)


def other_kind(kind: type) -> Any:
    """Settings that stand in none of its fields."""
    return INSTANCES[SourceHoldout] if kind is not Experiment else INSTANCES[Rebuilder]


def test_these_are_the_sentences() -> None:
    """The field, what it may be, what was given."""
    told = {
        lambda: Mfm(objective="kl"): "Mfm.objective must be Objective.PIXEL_CLASSIFICATION, "  # type: ignore[arg-type]
        "Objective.PIXEL_RECONSTRUCTION, Objective.FEATURE_TEACHER or Objective.FEATURE_STUDENT, got 'kl'.",
        lambda: AdamW(betas=(0.9, 1.0)): "AdamW.betas must be two numbers in [0, 1), got (0.9, 1.0).",
        lambda: AdamW(clip_norm=0): "AdamW.clip_norm must lie in (0, inf) or be None, got 0.",
        lambda: Schedule(steps=True): "Schedule.steps must be an integer of at least 1, got True.",
        lambda: MiT(dims=(1, 2, 3)): "MiT.dims must be four integers of at least 1, got (1, 2, 3).",  # type: ignore[arg-type]
        lambda: SmallDeepLab(rates=()): "SmallDeepLab.rates must be one or more integers of at least 1, got ().",
        lambda: Evaluation(
            slide=(0, 4)
        ): "Evaluation.slide must be two integers (rows, columns) of at least 1 or None, got (0, 4).",
        lambda: Blur(sigma=(2, 1)): "Blur.sigma must be two positive numbers, the smaller first, got (2, 1).",
        lambda: Execution(compile=1): "Execution.compile must be True or False, got 1.",  # type: ignore[arg-type]
        lambda: RealPhotographs(folder=3): "RealPhotographs.folder must be a string, got 3.",  # type: ignore[arg-type]
        lambda: replace(dacs(MINI), network=Mfm()): "Experiment.network must be settings of a network "  # type: ignore[arg-type]
        "(a frozen dataclass derived from Network with a build of its own), got Mfm(...).",
        lambda: replace(dacs(MINI), auxiliary=("mfm",)): "Experiment.auxiliary must hold settings of auxiliary tasks "
        "(frozen dataclasses with a weight), got 'mfm'.",
        lambda: Rebuilder(dim=20, heads=8): "Rebuilder.dim must be a multiple of heads, got 20 with 8 heads.",
    }
    for make, sentence in told.items():
        with pytest.raises(ValueError) as refused:
            make()
        assert str(refused.value) == sentence


@dataclasses.dataclass(frozen=True)
class Timm(SmallDeepLab):
    """A network of someone's own, in name alone."""


class Lion(AdamW):
    """An optimiser of someone's own, in name alone."""


class MyTeacher(SelfTraining):
    """A method of someone's own, in name alone."""


class DeepMiT(MiT):
    """An encoder within a network's settings."""


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: replace(dacs(MINI), optimizer=Lion()), "Experiment.optimizer must be AdamW or SGD, got Lion"),
        (lambda: replace(dacs(MINI), adaptation=MyTeacher()), "Experiment.adaptation must be SelfTraining, .+ MyT"),
        (lambda: DAFormer(encoder=DeepMiT()), "DAFormer.encoder must be MiT, got DeepMiT"),
    ],
)
def test_a_subclass_is_not_trained_as_its_parent(make: Callable[[], object], sentence: str) -> None:
    """Code goes by the class: the ledger would say Lion, and AdamW would train."""
    with pytest.raises(
        ValueError, match=rf"^{sentence}.+, a subclass that would be taken for (\w+); give \1 itself\.$"
    ):
        make()


def test_a_network_that_inherits_its_build_is_not_trained_as_its_parent() -> None:
    """The ledger would say Timm, and a SmallDeepLab would be trained and exported."""
    sentence = r"\.(network|base) must .+, got Timm\(...\), which inherits build from SmallDeepLab and would be taken "
    with pytest.raises(ValueError, match=sentence + r"for one; give it a build of its own\.$"):
        replace(dacs(MINI), network=Timm())
    with pytest.raises(ValueError, match=sentence):
        config.HRDA(base=Timm())


def test_a_subclass_of_an_experiment_is_no_experiment() -> None:
    """Its further fields would be trained by nobody."""

    class Longer(Experiment):
        pass

    config = dacs(MINI)
    longer = Longer(**{each.name: getattr(config, each.name) for each in dataclasses.fields(config)})
    with pytest.raises(ValueError, match=r"^Segmentation trains an Experiment, got Longer\.$"):
        Segmentation().planned_steps(longer)


def test_what_fits_is_kept_as_it_is() -> None:
    """An integer is a good float, and nothing is converted."""
    rates = AdamW(learning_rate=1, clip_norm=None)
    assert type(rates.learning_rate) is int
    assert SourceOnly(adapt_statistics=None).adapt_statistics is None
    assert Mfm(rebuilder=None).objective is Objective.PIXEL_CLASSIFICATION


def test_an_enum_of_many_members_is_named_once() -> None:
    """So that a refusal stays one readable sentence however many weights there are."""
    with pytest.raises(
        ValueError, match=r"one of ImageNetWeights \(MIT_B2, .*RESNET101_V1C\), Pretrained or None, got"
    ):
        replace(INSTANCES[Experiment], initial="mit-b5")
