"""Pairs of domains: names of stores, classes, and what a pair of one's own needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mfm_tune.identity import config_id
from tests.trainables.trained import tiny
from trainables.config import DomainPair, PackedPair, SourceDataset, TargetDataset, ToyCity
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.datasets import dataset_names, find_dataset
from trainables.data.domains import Domains, Opening
from trainables.description import Description, describe
from trainables.program import Segmentation
from trainables.recipes import PAPER, SMOKE, dacs
from trainables.running.trial import Trial
from trainables.settings_json import plain, read_settings


@dataclass(frozen=True, kw_only=True)
class Village(DomainPair):
    """A pair of one's own, as short as it can be."""

    training_size: tuple[int, int] = (32, 64)
    evaluation_size: tuple[int, int] = (32, 64)
    images: int = 24_966

    def open(self, opening: Opening) -> Domains:
        city = ToyCity(image_size=self.training_size, source_images=4, target_images=4, validation_images=2)
        return city.open(opening)


@dataclass(frozen=True, kw_only=True)
class Hamlet(DomainPair):
    """A pair that says half of its sizes."""

    evaluation_size: tuple[int, int] = (32, 64)

    def open(self, opening: Opening) -> Domains:
        return Village().open(opening)


def test_a_pair_without_its_sizes_is_one_sentence() -> None:
    """They are asked for by every plan."""
    with pytest.raises(
        ValueError, match=r"^Hamlet\.training_size must be two integers .*, got None; give it as a field"
    ):
        Hamlet()


def test_a_store_by_its_name_and_by_the_name_of_before_are_one_config() -> None:
    """Results that were trained under the names of an enum keep their ids."""
    by_name, by_enum = (
        replace(dacs(PAPER), data=PackedPair(source=source, target=target))
        for source, target in (("synthia", "acdc"), (SourceDataset.SYNTHIA, TargetDataset.ACDC))
    )
    assert by_name == by_enum
    assert config_id(by_name) == config_id(by_enum)
    assert config_id(by_name) != config_id(dacs(PAPER))


def test_a_pair_takes_any_name_of_a_store_and_no_path() -> None:
    assert PackedPair(source="mine-a", target="bdd").benchmark == "mine-a-bdd-512x512"
    with pytest.raises(ValueError, match=r"^PackedPair\.source must be 1 to 64 letters, digits, .* got '\.\./mine'\.$"):
        PackedPair(source="../mine")


def test_classes_that_are_not_named_are_no_part_of_the_id_and_named_ones_are() -> None:
    config = dacs(PAPER)
    assert config_id(replace(config, data=replace(config.data, classes=None))) == config_id(config)
    assert config_id(replace(config, data=replace(config.data, classes=("fern", "moss")))) != config_id(config)
    with pytest.raises(ValueError, match=r"^PackedPair\.classes must name each class once, got 'moss' twice\.$"):
        PackedPair(classes=("moss", "fern", "moss"))


def test_classes_are_those_of_the_settings_or_of_a_known_data_set_and_none_are_made_up() -> None:
    assert PackedPair(source="gta", target="mine").class_names({}) == CITYSCAPES_CLASSES
    assert PackedPair(source="mine-a", target="mine-b").class_names({}) == ()
    assert PackedPair(source="mine", target="idd-lite").class_names({}) == find_dataset("idd-lite").classes
    named = PackedPair(source="mine-a", target="mine-b", classes=("fern", "moss"))
    assert named.class_names({}) == ("fern", "moss")
    assert "student/iou/" in Segmentation().metrics(replace(dacs(PAPER), data=replace(named, classes=None)))


def test_a_pair_of_ones_own_is_trained(tmp_path: Path) -> None:
    config = replace(tiny(dacs(SMOKE)), data=Village())
    program = Segmentation()
    assert program.benchmark(config) == "village-32x64"
    assert program.class_names(config) == ()
    assert program.store_commands([config]) == {}
    program.check_data([config], {"resnet101-v1c": "/nowhere"})
    trial = Trial(config, seed=0, folder=str(tmp_path / "trial"), shared=str(tmp_path), data={})
    report = trial.advance()
    trial.close()
    assert report["outcome"] == "finished"
    assert "student/miou" in report["metrics"]


def test_a_subclass_of_a_pair_that_only_inherits_how_it_is_opened_is_refused() -> None:
    """It would be recorded under its own name and trained on its parent's images."""

    @dataclass(frozen=True, kw_only=True)
    class Suburb(Village):
        pass

    with pytest.raises(ValueError, match=r"^Experiment\.data must be settings of a pair of domains .* inherits open"):
        replace(dacs(SMOKE), data=Suburb())


@pytest.mark.parametrize("name", dataset_names())
def test_a_plan_knows_the_classes_of_every_data_set_that_has_a_reader(name: str) -> None:
    """Without importing the reader."""
    assert PackedPair(source=name, target="mine").class_names({}) == find_dataset(name).classes


def test_settings_that_came_later_are_not_written_while_they_are_unset() -> None:
    """Source pre-training is shared by its settings as JSON: weights that were made before are found again."""
    assert "classes" not in plain(PackedPair())
    named = PackedPair(classes=("fern", "moss"))
    assert plain(named)["classes"] == ["fern", "moss"]
    assert [read_settings(plain(each), DomainPair) for each in (PackedPair(), named)] == [PackedPair(), named]


def test_a_model_is_read_however_many_images_its_data_count() -> None:
    """The limit on sizes, which finds damaged files, is none on what a pair of one's own, or a large pool, has."""
    for data in (Village(), ToyCity(source_images=50_000)):
        written = describe(replace(dacs(SMOKE), data=data), ("a", "b"), (0.0,) * 3, (1.0,) * 3, step=1)
        assert Description.from_json(written.to_json()) == written
    damaged = replace(written, data=ToyCity(image_size=(32, 10**9)))
    with pytest.raises(ValueError, match="1000000000 is more than 16384"):
        Description.from_json(damaged.to_json())
