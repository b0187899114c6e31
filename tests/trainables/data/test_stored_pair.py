"""Batches from stores: functions of (seed, step), the same after a resume, cut from images that the streams name."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.data import native_files as native
from trainables.config import (
    Margins,
    PackedPair,
    RareClassSampling,
    SourceDataset,
    SourceHoldout,
    TargetDataset,
)
from trainables.data.__main__ import main
from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES
from trainables.data.crops import unfilled
from trainables.data.domains import Opening
from trainables.data.packing.format import PackedSplit
from trainables.data.packing.manifest import StoreError
from trainables.data.stored_pair import HostBatch, Request, StoredDomains
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.randomness import Streams
from trainables.recipes import SMOKE, dacs
from trainables.running.trial import Trial
from trainables.step_data import Batch

PAIR = PackedPair(
    crop_size=(48, 48), source_size=(72, 128), target_size=(64, 128), evaluation_size=(64, 128)
)  # fmt: skip
CPU = torch.device("cpu")
IDS = [7, 8, 11, 21, 23, 24, 26, 0]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """GTA, SYNTHIA, Cityscapes and CamVid stores of a few images each, made by the command that users type."""
    folder = tmp_path_factory.mktemp("stores")
    for number in range(12):
        label = native.blocks(105, 191, IDS, number, cell=13)
        native.gta(folder / "gta", f"{number:05d}", native.image(105, 191, number), label)
        native.synthia(folder / "synthia", f"{number:07d}", native.image(76, 128, number), label[:76, :128] % 23)
    for number in range(6):
        label = native.blocks(128, 256, IDS, number, cell=17)
        pixels = native.smooth(128, 256, number)
        native.cityscapes(folder / "cityscapes", "train", f"ulm_0_{number}", pixels, label)
        native.cityscapes(folder / "cityscapes", "val", f"bonn_0_{number}", pixels, label)
        for split in ("train", "val", "test"):
            native.camvid(folder / "camvid", split, f"{number}", pixels[::2, ::2], label[::2, ::2] % 12)
    sizes = {"gta": "72x128", "synthia": "76x128", "cityscapes": "64x128", "camvid": "native"}
    for name, size in sizes.items():
        command = f"prepare {name} --root {folder / name} --out {folder / name}-store --size {size} --workers 2"
        assert main(command.split()) == 0
    return {name: f"{folder / name}-store" for name in sizes}


Opened = Callable[..., StoredDomains]


@pytest.fixture
def opened(stores: dict[str, str]) -> Opened:
    def open_pair(
        config: PackedPair = PAIR, sampling: RareClassSampling | None = None, margins: Margins | None = None
    ) -> StoredDomains:
        return config.open(Opening(stores, CPU, sampling, margins))

    return open_pair


def assert_same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.image, other.image)
    assert (one.label is None) == (other.label is None)
    assert one.label is None or other.label is None or torch.equal(one.label, other.label)
    assert one.valid == other.valid


def batches(domains: StoredDomains, streams: Streams, steps: range) -> Iterator[tuple[Batch, Batch]]:
    for step in steps:
        yield domains.source(streams, step, 2), domains.target(streams, step, 2)


def test_a_stopped_stream_goes_on_with_the_same_batches(opened: Opened) -> None:
    sampling = RareClassSampling(temperature=0.1, min_pixels=100)
    whole = list(batches(opened(sampling=sampling), Streams(3), range(12)))
    first = list(batches(opened(sampling=sampling), Streams(3), range(5)))
    rest = list(batches(opened(sampling=sampling), Streams(3), range(5, 12)))
    for one, other in zip(whole, first + rest, strict=True):
        assert_same(one[0], other[0])
        assert_same(one[1], other[1])
    assert not torch.equal(whole[0][0].image, whole[1][0].image)


def test_the_thread_that_reads_ahead_changes_nothing_whatever_is_asked_for(opened: Opened) -> None:
    steps = np.random.default_rng(0).integers(0, 6, 20).tolist()
    domains = opened()
    streams = (Streams(0), Streams(1))
    for step in steps:
        for seed in (0, 1):
            asked = domains.source(streams[seed], step, 1 + step % 2)
            assert_same(asked, opened().source(Streams(seed), step, 1 + step % 2))


def test_the_next_batch_is_read_by_a_thread_while_this_one_is_used(opened: Opened) -> None:
    domains = opened()
    readers: dict[int, str] = {}
    begun = threading.Event()
    read = domains.read

    def noted(request: Request) -> HostBatch:
        readers[request.step] = threading.current_thread().name
        if request.step == 1:
            begun.set()
        return read(request)

    domains._ahead._read = noted
    streams = Streams(0)
    domains.source(streams, 0, 2)
    assert begun.wait(30)
    domains.source(streams, 1, 2)
    assert readers[0] == threading.current_thread().name
    assert readers[1].startswith("crops")


def test_the_source_stream_does_not_depend_on_the_target_and_the_reverse(opened: Opened) -> None:
    streams = Streams(0)
    alone = [opened().target(streams, step, 2) for step in range(3)]
    other = opened(replace(PAIR, source=SourceDataset.SYNTHIA, source_size=(76, 128)), RareClassSampling(min_pixels=9))
    for step in range(3):
        other.source(streams, step, 2)
        assert_same(other.target(streams, step, 2), alone[step])


def test_a_target_crop_is_a_window_of_the_image_that_the_stream_names(opened: Opened) -> None:
    """Found again by search: the crop is somewhere in the resized image, as it is or mirrored."""
    domains = opened()
    split = domains._pair.target.split  # type: ignore[attr-defined]
    for step in range(4):
        batch = domains.target(Streams(0), step, 1)
        assert batch.label is None
        index = int(Streams(0).numpy("target", step, 0).integers(len(split)))
        whole = (torch.from_numpy(split.image(index).copy()).float() - torch.tensor(IMAGENET_MEAN)) / torch.tensor(
            IMAGENET_STD
        )
        windows = whole.permute(2, 0, 1).unfold(1, 48, 1).unfold(2, 48, 1).permute(1, 2, 0, 3, 4)
        found = [(windows - cut).abs().amax((2, 3, 4)).min() for cut in (batch.image[0], batch.image[0].flip(2))]
        assert min(found) < 1e-5


def test_images_and_labels_are_cut_at_the_same_place(stores: dict[str, str], tmp_path: Path) -> None:
    """Images that show their own label as a grey level: each pixel of a crop must agree with its label."""
    grey = np.full(256, 5, dtype=np.uint8)
    grey[[7, 8, 11, 26]] = [10, 40, 90, 200]
    of_train_id = {0: 10, 1: 40, 2: 90, 13: 200, 255: 5}
    for number in range(4):
        ids = native.blocks(72, 128, [7, 8, 11, 26, 0], number, cell=11)
        native.gta(tmp_path / "gta", f"{number}", grey[ids][..., None].repeat(3, axis=2), ids)
    command = f"prepare gta --root {tmp_path / 'gta'} --out {tmp_path / 'store'} --size 72x128 --workers 2"
    assert main(command.split()) == 0
    domains = PAIR.open(Opening(stores | {"gta": str(tmp_path / "store")}, CPU))
    for step in range(10):
        batch = domains.source(Streams(0), step, 2)
        assert batch.label is not None
        levels = batch.image[:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
        expected = torch.tensor([of_train_id.get(train_id, 0) for train_id in range(256)])[batch.label]
        assert (levels - expected).abs().max() < 1e-3


def test_source_crops_by_rare_class_show_the_class_in_the_required_number_of_pixels(opened: Opened) -> None:
    settings = RareClassSampling(temperature=0.1, min_pixels=400, min_crop_ratio=0.5)
    domains = opened(sampling=settings)
    shown = []
    for step in range(60):
        batch = domains.source(Streams(0), step, 2)
        assert batch.label is not None
        for item, label in enumerate(batch.label):
            wanted = domains._pair.sampler.draw(Streams(0).numpy("source", step, item)).wanted
            assert wanted is not None
            shown.append(int((label == wanted.train_id).sum()) > 200)
    assert np.mean(shown) > 0.95


def test_an_image_smaller_than_the_crop_is_padded_with_the_mean_colour(opened: Opened) -> None:
    batch = opened(replace(PAIR, crop_size=(100, 150))).source(Streams(0), 0, 2)
    assert batch.image.shape == (2, 3, 100, 150)
    assert batch.label is not None
    assert (batch.image[:, :, 70:] == 0).all()
    assert (batch.image[:, :, :, 128:] == 0).all()
    assert (batch.label[:, 70:] == 255).all()
    assert (batch.label[:, :, 128:] == 255).all()
    assert (batch.label[:, :70, :128] != 255).any()


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({}, ""),
        ({"crop_size": (64, 128)}, ""),
        ({"crop_size": (72, 64)}, r"PackedPair\.crop_size \(72, 64\) is larger than target_size \(64, 128\): .+"),
        ({"crop_size": (48, 129)}, r"PackedPair\.crop_size \(48, 129\) is larger than source_size \(72, 128\): .+"),
        ({"target_crop": (65, 48)}, r"PackedPair\.target_crop \(65, 48\) is larger than target_size \(64, 128\): .+"),
    ],
)
def test_crops_that_no_image_fills_are_told(sizes: dict[str, tuple[int, int]], sentence: str) -> None:
    assert re.match(sentence or "$", unfilled(replace(PAIR, **sizes)))


def test_a_trial_tells_of_crops_that_no_image_fills_at_its_beginning(stores: dict[str, str], tmp_path: Path) -> None:
    config = dacs(replace(SMOKE, data=replace(PAIR, crop_size=(96, 48))))
    report = Trial(config, seed=0, folder=str(tmp_path), shared=str(tmp_path), data=stores).advance()
    assert str(report["notice"]).startswith("PackedPair.crop_size (96, 48) is larger than source_size (72, 128): ")


def test_margins_of_the_whole_image_become_a_box_of_each_target_crop(opened: Opened) -> None:
    margins = Margins(top=15, bottom=30, of_size=(128, 256))
    batch = opened(replace(PAIR, crop_size=(64, 128)), margins=margins).target(Streams(0), 0, 2)
    assert batch.valid == (Box(8, 0, 64 - 8 - 15, 128),) * 2
    assert opened(margins=Margins(top=3)).target(Streams(0), 0, 2).valid is None  # those of the crop are not ours


def test_validation_gives_every_image_at_network_size_and_labels_at_their_own(opened: Opened) -> None:
    examples = list(opened().validation())
    assert len(examples) == 6
    for number, example in enumerate(examples):
        assert example.image.shape == (1, 3, 64, 128)
        ids = native.blocks(128, 256, IDS, number, cell=17)
        np.testing.assert_array_equal(example.label, native.train_ids(ids, native.CITYSCAPES_IDS))


def test_camvid_is_scored_on_its_test_split_in_its_own_classes(opened: Opened) -> None:
    camvid = replace(PAIR, target=TargetDataset.CAMVID, target_size=(64, 128), evaluation_size=(64, 128))
    domains = opened(camvid)
    assert domains.scored == CAMVID_CLASSES == camvid.class_names({})
    assert set(domains.means) == {"miou8"}
    assert domains.classes == CITYSCAPES_CLASSES
    label = next(iter(domains.validation())).label
    ids = native.blocks(128, 256, IDS, 0, cell=17)[::2, ::2] % 12
    expected = np.where(ids == 11, 255, ids)  # CamVid's own ids are the scored classes, in order
    np.testing.assert_array_equal(label, expected)
    votes = torch.zeros(1, 19, 1, 3)
    votes[0, [9, 6, 14], 0, [0, 1, 2]] = 1  # terrain, light, truck
    assert [CAMVID_CLASSES[index] for index in domains.merge(votes).flatten()] == ["tree", "sign", "car"]


def test_synthia_reports_the_means_over_16_and_13_classes(opened: Opened) -> None:
    assert set(opened(replace(PAIR, source=SourceDataset.SYNTHIA, source_size=(76, 128))).means) == {"miou16", "miou13"}
    assert opened().means == {}


def test_the_oracle_sees_the_same_target_crops_with_labels(opened: Opened) -> None:
    domains = opened()
    labelled, unlabelled = domains.labelled_target(Streams(0), 4, 2), domains.target(Streams(0), 4, 2)
    assert torch.equal(labelled.image, unlabelled.image)
    assert labelled.label is not None
    assert unlabelled.label is None


def test_a_labelled_sample_is_that_of_step_0_and_nothing_is_read_ahead_of_it(opened: Opened) -> None:
    domains = opened()
    sample = domains.labelled_sample(Streams(2), 3)
    assert sample is not None
    assert domains._ahead._waiting == {}
    assert_same(sample, domains.labelled_target(Streams(2), 0, 3))


def test_the_warm_start_has_a_stream_of_its_own(opened: Opened) -> None:
    domains = opened()
    first = domains.warm_start(Streams(0), 0, 2)
    assert not torch.equal(first.image, domains.source(Streams(0), 0, 2).image)
    assert_same(first, opened().warm_start(Streams(0), 0, 2))


def test_the_warm_start_is_drawn_without_rare_class_sampling(opened: Opened) -> None:
    """All configs of a seed share its weights, whatever they sample afterwards."""
    sampled = opened(sampling=RareClassSampling(min_pixels=3))
    assert not torch.equal(sampled.source(Streams(0), 0, 4).image, opened().source(Streams(0), 0, 4).image)
    for step in range(3):
        assert_same(sampled.warm_start(Streams(0), step, 4), opened().warm_start(Streams(0), step, 4))


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_of_the_cpu(stores: dict[str, str], opened: Opened) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    domains = PAIR.open(Opening(stores, torch.device("cuda")))
    for step in range(3):
        on_cpu, on_gpu = opened().source(Streams(0), step, 2), domains.source(Streams(0), step, 2)
        torch.testing.assert_close(on_gpu.image.cpu(), on_cpu.image, rtol=0, atol=1e-6)
        assert on_cpu.label is not None
        assert on_gpu.label is not None
        assert torch.equal(on_gpu.label.cpu(), on_cpu.label)
    assert domains.read(Request(next(iter(domains._ahead._waiting)), Streams(0), 0, 2)).image.is_pinned()


def test_images_are_normalised_by_what_the_network_takes(stores: dict[str, str], opened: Opened) -> None:
    """Batches and validation alike; ImageNet's constants are the default."""
    own = PAIR.open(Opening(stores, CPU, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)))
    assert (own.mean, own.std) == ((127.5,) * 3, (127.5,) * 3)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pairs = [(own.source(Streams(0), 0, 2).image, opened().source(Streams(0), 0, 2).image)]
    pairs += [(next(own.validation()).image, next(opened().validation()).image)]
    for image, default in pairs:
        torch.testing.assert_close(image * 127.5 + 127.5, default * std + mean, rtol=0, atol=1e-3)


# -- source images by class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_id", [0, 2, 13])
def test_source_crops_of_a_class_show_it_and_depend_on_the_stream_alone(opened: Opened, class_id: int) -> None:
    """Every one of them, whatever else was asked for; another purpose, step or class draws others."""
    domains = opened()
    seen = []
    for step in range(10):
        batch = domains.source_of_class(Streams(0), "paste", step, class_id, 3)
        assert batch.image.shape == (3, 3, 48, 48)
        assert batch.label is not None
        assert (batch.label == class_id).flatten(1).any(1).all()
        assert_same(batch, opened().source_of_class(Streams(0), "paste", step, class_id, 3))
        seen.append(batch.image)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], domains.source_of_class(Streams(0), "other", 0, class_id, 3).image)


def test_crops_of_a_class_are_read_at_the_place_of_their_labels(opened: Opened) -> None:
    """A crop of a class is a crop that the source has: the pair of image and label is found among its windows."""
    domains = opened()
    batch = domains.source_of_class(Streams(0), "paste", 0, 13, 1)
    assert batch.label is not None
    source, mean, std = domains._pair.source, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    found = False
    for index in range(len(source)):
        size = source.size(index)
        image = torch.from_numpy(source.window(index, Box(0, 0, *size)).copy()).sub(mean).div(std).permute(2, 0, 1)
        both = torch.cat([image, torch.from_numpy(source.label(index).copy()).float()[None]])
        windows = both.unfold(1, 48, 1).unfold(2, 48, 1).permute(1, 2, 0, 3, 4)
        own = torch.cat([batch.image, batch.label[:, None].float()], dim=1)[0]
        found |= min(float((windows - cut).abs().amax((2, 3, 4)).min()) for cut in (own, own.flip(2))) < 1e-5
    assert found


def test_a_class_that_no_source_image_shows_is_an_empty_batch_and_one_that_is_none_a_sentence(opened: Opened) -> None:
    empty = opened().source_of_class(Streams(0), "paste", 0, 16, 2)  # no trains in these files
    assert empty.image.shape == (0, 3, 48, 48)
    assert empty.label is not None
    assert empty.label.shape == (0, 48, 48)
    with pytest.raises(ValueError, match=r"^source_of_class needs a class_id from 0 to 18, got 19\.$"):
        opened().source_of_class(Streams(0), "paste", 0, 19, 2)


def test_source_crops_of_a_class_show_as_much_of_it_as_is_asked_for(opened: Opened) -> None:
    """Crops that show less are drawn again; an image that shows no more than this is not drawn at all."""
    domains = opened()
    pixels = domains._pair.source.pixels()[:, 13]
    fewest = []
    for more_than in (0, 300, int(pixels.max())):
        batches = [domains.source_of_class(Streams(0), "paste", step, 13, 3, more_than) for step in range(10)]
        shown = torch.cat([(batch.label == 13).flatten(1).sum(1) for batch in batches])
        fewest.append(int(shown.min()) if len(shown) else None)
    assert 0 < fewest[0] <= 300 < fewest[1]
    assert fewest[2] is None


def test_source_crops_of_a_class_are_never_of_the_holdout(stores: dict[str, str]) -> None:
    """Half of the images are held out; without a holdout all of them are drawn."""
    holdout = SourceHoldout(share=0.5)
    domains = PAIR.open(Opening(stores, CPU, holdout=holdout))
    drawn = {int(index) for class_id in range(19) for index in domains._showing(class_id)}
    assert drawn
    assert not drawn & set(domains._pair.held_out)
    free = PAIR.open(Opening(stores, CPU))
    assert {int(index) for class_id in range(19) for index in free._showing(class_id)} == set(range(12))


# -- stores that are not there, or are others ------------------------------------------------------------------------


def refusal(config: PackedPair, data: dict[str, str]) -> str:
    with pytest.raises(StoreError) as caught:
        config.open(Opening(data, CPU))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_store_is_told_with_the_command_that_makes_it(stores: dict[str, str]) -> None:
    assert refusal(PackedPair(), {}) == (
        "The gta store is not given: make it once with `python -m trainables.data prepare gta --root GTA_FOLDER "
        "--out GTA_STORE --size 720x1280`, then add `--data gta=GTA_STORE`."
    )
    assert (
        "`python -m trainables.data prepare cityscapes --root CITYSCAPES_FOLDER --out CITYSCAPES_STORE --size 64x128 "
        "--evaluation-size 64x128`"
    ) in refusal(PAIR, {"gta": stores["gta"]})


def test_a_path_that_is_not_there_is_told_with_the_command_that_makes_it() -> None:
    said = refusal(PackedPair(), {"gta": "/nowhere/gta"})
    assert said.startswith("--data gta=/nowhere/gta must be a store, but is not there; make it with `python -m")
    assert "--out /nowhere/gta --size 720x1280" in said


def test_a_store_of_another_data_set_or_size_is_refused(stores: dict[str, str]) -> None:
    assert "must be a store of gta, but is one of synthia" in refusal(PAIR, stores | {"gta": stores["synthia"]})
    assert "made for --size 72x128, but 720x1280 is needed" in refusal(PackedPair(), stores)
    assert "made for --size 64x128, but 128x256 is needed" in refusal(replace(PAIR, target_size=(128, 256)), stores)
    assert "made for --evaluation-size 64x128, but 32x64 is needed" in refusal(
        replace(PAIR, evaluation_size=(32, 64)), stores
    )


@pytest.mark.parametrize("sampling", [None, RareClassSampling(min_pixels=3)])
def test_held_out_source_images_are_never_drawn(
    stores: dict[str, str], sampling: RareClassSampling | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of twelve: training reads the other ten, the holdout its two, whole and with labels of their size."""
    seen: list[tuple[PackedSplit, int]] = []
    read = PackedSplit.image_window

    def image_window(split: PackedSplit, index: int, size: tuple[int, int], window: Box) -> np.ndarray:
        seen.append((split, index))
        return read(split, index, size, window)

    def read_of_ours() -> set[int]:
        """Not what other domains' threads still read ahead."""
        return {index for split, index in seen if split is domains._pair.source.split}  # type: ignore[attr-defined]

    monkeypatch.setattr(PackedSplit, "image_window", image_window)
    domains = PAIR.open(Opening(stores, CPU, sampling, holdout=SourceHoldout(share=0.2)))
    examples = list(domains.held_out())
    held_out = read_of_ours()
    seen.clear()
    assert len(examples) == len(held_out) == 2
    for example in examples:
        assert example.image.shape[-2:] == example.label.shape
        assert 0 < example.image.shape[-2] <= 72
    for step in range(30):
        domains.source(Streams(0), step, 4)
        domains.warm_start(Streams(0), step, 4)
    assert read_of_ours() == set(range(12)) - held_out
    assert list(PAIR.open(Opening(stores, CPU, sampling)).held_out()) == []


# -- whole target images ---------------------------------------------------------------------------------------------


def test_whole_target_images_are_those_of_the_store(opened: Opened) -> None:
    """At the size that crops are cut from, normalised; a function of purpose and step."""
    domains = opened()
    images = domains.target_images(Streams(0), "pairs", 2, 3)
    target, mean, std = domains._pair.target, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    whole = [torch.from_numpy(target.window(i, Box(0, 0, *target.size(i))).copy()) for i in range(len(target))]
    pool = [image.float().sub(mean).div(std).permute(2, 0, 1)[None] for image in whole]
    for image in images:
        assert any(image.shape == one.shape and torch.allclose(image, one, atol=1e-5) for one in pool)
    assert all(map(torch.equal, images, opened().target_images(Streams(0), "pairs", 2, 3)))
    drawn = [domains.target_images(Streams(0), "pairs", step, 1)[0] for step in range(20)]
    assert len({float(image.sum()) for image in drawn}) > 1
