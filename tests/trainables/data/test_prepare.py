"""Packing: announced, refused before it starts where it cannot end, killed and continued, never half there."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.data import native_files as native
from trainables.data.__main__ import main
from trainables.data.datasets import find_dataset
from trainables.data.packing import pack as preparing
from trainables.data.packing.format import Store, verify
from trainables.data.packing.manifest import Codec
from trainables.data.packing.pack import Prepared, prepare
from trainables.data.packing.plan import Job, make_plan
from trainables.data.splits import Split

IMAGES = 40
SHARD = 8


def silent(part: str, done: int, total: int, broken: int) -> None:
    """No progress line."""


def make_gta(root: Path, images: int, height: int = 24, width: int = 60) -> None:
    for number in range(images):
        ids = native.blocks(height, width, [7, 8, 11, 26, 0], number, cell=6)
        native.gta(root, f"{number:05d}", native.image(height, width, number), ids)


def job_for(root: Path, out: Path, **changes: object) -> Job:
    settings = {"box": (20, 40), "evaluation_box": None, "shard_images": SHARD, "workers": 2} | changes
    return Job(reader=find_dataset("gta"), root=root, out=out, splits=(Split.TRAIN,), **settings)


def pack(job: Job) -> Prepared:
    return prepare(job, make_plan(job, silent), silent)


def test_the_command_says_the_size_before_it_starts_and_keeps_its_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_gta(tmp_path / "gta", 5)
    command = ["prepare", "gta", "--root", str(tmp_path / "gta"), "--out", str(tmp_path / "store"), "--size", "20x40"]
    assert main(command) == 0
    said = capsys.readouterr()
    announced, done = said.out.splitlines()
    assert "5 images of train, raw 0.0 MB" in announced
    assert "5 images decoded now, 0 before, files left out: 0" in done
    assert "train: 5/5 images, 100 %" in said.err
    assert main(command) == 0
    assert "0 images decoded now, 5 before" in capsys.readouterr().out


def test_the_estimate_is_close_to_the_store(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 6, 240, 600)
    job = job_for(tmp_path / "gta", tmp_path / "store", box=(200, 400))
    plan = make_plan(job, silent)
    prepare(job, plan, silent)
    actual = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert 0.95 * actual < plan.bytes < 1.1 * actual
    assert plan.native_bytes > plan.bytes


def test_a_long_and_thin_image_is_packed(tmp_path: Path) -> None:
    """It keeps a row, whatever the box."""
    ids = np.full((1, 5000), 7, dtype=np.uint8)
    native.gta(tmp_path / "gta", "thin", native.image(1, 5000), ids)
    pack(job_for(tmp_path / "gta", tmp_path / "store", box=(512, 1024)))
    split = Store(tmp_path / "store").split(Split.TRAIN)
    assert (split.image(0).shape, split.label(0).tolist()) == ((1, 1024, 3), [[0] * 1024])


def test_a_full_disk_is_refused_before_the_first_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_gta(tmp_path / "gta", 3)
    full = (10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _: preparing.shutil._ntuple_diskusage(*full))
    with pytest.raises(OSError, match=r"needs 0\.0 MB of free disk, but .* has 0\.0 MB; free some"):
        pack(job_for(tmp_path / "gta", tmp_path / "store"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gta"]


def test_a_store_of_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 3)
    pack(job_for(tmp_path / "gta", tmp_path / "store"))
    with pytest.raises(ValueError, match="a store of other images or settings already"):
        pack(job_for(tmp_path / "gta", tmp_path / "store", codec=Codec.JPEG))


@pytest.fixture
def mapped(tmp_path: Path) -> list[str]:
    """The command that packs three images as `map.json` describes them."""
    make_gta(tmp_path, 3)
    splits = {"train": {"images": "images/*.png", "labels": "labels/*.png"}}
    (tmp_path / "map.json").write_text(json.dumps({"splits": splits, "train_ids": {"7": 0}, "others": 13}))
    files = ["--root", str(tmp_path), "--label-map", str(tmp_path / "map.json")]
    return ["prepare", "folder", *files, "--out", str(tmp_path / "store")]


def other_map(root: Path) -> None:
    path = root / "map.json"
    path.write_text(path.read_text().replace('"others": 13', '"others": 5'))


def mended_label(root: Path) -> None:
    native.write(root / "labels" / "00001.png", native.png(np.full((24, 60), 7, dtype=np.uint8)))


def other_image(root: Path) -> None:
    native.write(root / "images" / "00001.png", native.png(native.smooth(24, 60, 99)))


@pytest.mark.parametrize("change", [other_map, mended_label, other_image])
def test_a_repeat_over_a_store_whose_files_have_changed_since_is_refused(
    change: Callable[[Path], None], mapped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and sizes in pixels are as they were; the store keeps what it has until someone deletes it."""
    assert main(mapped) == 0
    store = (tmp_path / "store" / "store.json").read_bytes()
    change(tmp_path)
    assert main(mapped) == 2
    assert "store was made before its images, its labels or the file that describes" in capsys.readouterr().err
    assert (tmp_path / "store" / "store.json").read_bytes() == store
    shutil.rmtree(tmp_path / "store")
    assert main(mapped) == 0
    assert main(mapped) == 0
    assert "0 images decoded now, 3 before" in capsys.readouterr().out


def test_a_store_whose_files_have_other_times_alone_is_kept_with_a_warning(
    mapped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As copies of them have, on a node of a cluster say; with another map beside it is refused as ever."""
    assert main(mapped) == 0
    os.utime(tmp_path / "images" / "00001.png", ns=(1, 1))
    capsys.readouterr()
    assert main(mapped) == 0
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.err.splitlines() if "made before" in line] == ["Warning"]
    assert "0 images decoded now, 3 before" in said.out
    other_map(tmp_path)
    assert main(mapped) == 2


def test_code_of_ones_own_that_changed_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The map of its ids may be another one."""
    make_gta(tmp_path, 3)
    code = tmp_path / "own.py"
    code.write_text(
        "from dataclasses import replace\nfrom trainables.data.datasets.gta import DATASET\n"
        "DATASET = replace(DATASET, dataset='own')\n"
    )
    own = ["prepare", "own", "--code", str(code), "--root", str(tmp_path), "--out", str(tmp_path / "store")]
    assert main(own) == main(own) == 0
    code.write_text(code.read_text() + "# other ids\n")
    assert main(own) == 2
    assert "the file that describes them changed" in capsys.readouterr().err


def test_a_store_of_earlier_code_is_kept_and_nothing_is_claimed_of_its_files(
    mapped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(mapped) == 0
    manifest = Store(tmp_path / "store").manifest
    earlier = {key: value for key, value in manifest.provenance.items() if key != preparing.SOURCES}
    (tmp_path / "store" / "store.json").write_text(replace(manifest, provenance=earlier).to_json())
    other_map(tmp_path)
    capsys.readouterr()
    assert main(mapped) == 0
    said = capsys.readouterr()
    assert "Warning: " in said.err
    assert "did not note the files that it was made of" in said.err
    assert "0 images decoded now, 3 before" in said.out


def test_shards_of_files_that_have_changed_since_are_packed_again(tmp_path: Path) -> None:
    """As are those of which earlier code did not note the files; one store never has labels of two states."""
    make_gta(tmp_path / "gta", IMAGES)
    label = tmp_path / "gta" / "labels" / f"{IMAGES - 1:05d}.png"
    sound = label.read_bytes()
    label.write_bytes(sound[:-40])
    job = job_for(tmp_path / "gta", tmp_path / "store")
    with pytest.raises(ValueError, match="1 file is broken"):
        pack(job)
    label.write_bytes(sound)
    native.write(tmp_path / "gta" / "labels" / "00001.png", native.png(np.full((24, 60), 26, dtype=np.uint8)))
    note = job.partial / "train-00001.note"
    earlier = json.loads(note.read_text())
    del earlier[preparing.SOURCES]
    note.write_text(json.dumps(earlier))
    half = job.partial / "train-00004.growing"  # by earlier code that was killed
    half.touch()
    done = pack(job)
    assert (done.decoded, done.kept) == (3 * SHARD, IMAGES - 3 * SHARD)
    assert done.warning.startswith(f"{3 * SHARD} images that an earlier run had packed were packed again: ")
    assert not list(job.out.glob("*.growing"))
    assert np.all(Store(job.out).split(Split.TRAIN).label(1) == 13)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 3)
    job = job_for(tmp_path / "gta", tmp_path / "store")
    job.partial.mkdir()
    with preparing.FileLock(job.partial / "lock"), pytest.raises(ValueError, match="written by another prepare"):
        pack(job)


def test_broken_files_are_refused_or_left_out_and_named(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 10)
    label = tmp_path / "gta" / "labels" / "00003.png"
    label.write_bytes(label.read_bytes()[:-40])  # its header is sound: only decoding finds out
    job = job_for(tmp_path / "gta", tmp_path / "store")
    with pytest.raises(ValueError, match="1 file is broken"):
        pack(job)
    assert not job.out.exists()
    done = pack(job_for(tmp_path / "gta", tmp_path / "store", skip_broken=True))
    assert done.manifest.splits[Split.TRAIN].images == 9
    assert [entry["path"] for entry in done.manifest.provenance["left_out"]] == ["labels/00003.png"]


def test_a_mended_file_goes_into_the_store(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 10)
    label = tmp_path / "gta" / "labels" / "00003.png"
    sound = label.read_bytes()
    label.write_bytes(sound[:-40])
    job = job_for(tmp_path / "gta", tmp_path / "store")
    with pytest.raises(ValueError, match="1 file is broken"):
        pack(job)
    label.write_bytes(sound)
    done = pack(job)
    assert (done.decoded, done.kept) == (8, 2)
    assert done.manifest.splits[Split.TRAIN].images == 10


def pack_slowly(root: Path, out: Path, decoded: Path) -> None:
    """Pack with a short sleep before each image, and a byte in the file `decoded` after each."""
    convert = preparing._convert
    log = os.open(decoded, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        row = convert(*arguments)
        os.write(log, b".")
        return row

    preparing._convert = slow
    pack(job_for(root, out))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have imported what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_run_is_finished_by_the_same_command(tmp_path: Path, seed: int, processes: ForkServerContext) -> None:
    """kill -9 at a random image: the rest decodes at most what remained and one batch (a shard)."""
    make_gta(tmp_path / "gta", IMAGES)
    root, out, log = tmp_path / "gta", tmp_path / "store", tmp_path / "decoded"
    log.touch()
    after = random.Random(seed).randrange(1, IMAGES - 6)
    running = processes.Process(target=pack_slowly, args=(root, out, log))
    running.start()
    while running.is_alive() and log.stat().st_size < after:
        time.sleep(0.002)
    running.kill()
    running.join()
    assert running.exitcode == -signal.SIGKILL
    decoded = log.stat().st_size
    assert after <= decoded < IMAGES
    assert not out.exists()
    assert (tmp_path / "store.partial").is_dir()

    done = pack(job_for(root, out))
    assert done.decoded + done.kept == IMAGES
    assert done.decoded <= IMAGES - decoded + SHARD
    pack(job_for(root, tmp_path / "whole"))
    assert verify(out, silent) == verify(tmp_path / "whole", silent)
    again, whole = Store(out).split(Split.TRAIN), Store(tmp_path / "whole").split(Split.TRAIN)
    assert again.manifest == whole.manifest  # checksums of all files included
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert not (tmp_path / "store.partial").exists()


def test_a_shard_that_was_cut_short_is_packed_again(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", IMAGES)
    job = job_for(tmp_path / "gta", tmp_path / "store")
    plan = make_plan(job, silent)
    pack(job_for(tmp_path / "gta", tmp_path / "whole"))
    label = tmp_path / "gta" / "labels" / f"{IMAGES - 1:05d}.png"
    sound = label.read_bytes()
    label.write_bytes(sound[:-40])
    with pytest.raises(ValueError, match="1 file is broken"):
        prepare(job, plan, silent)
    label.write_bytes(sound)
    shard = job.partial / "train-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    done = prepare(job, plan, silent)
    assert (done.decoded, done.kept) == (2 * SHARD, IMAGES - 2 * SHARD)
    assert done.manifest.splits == Store(tmp_path / "whole").manifest.splits


def test_a_folder_that_was_begun_with_other_settings_is_refused(tmp_path: Path) -> None:
    make_gta(tmp_path / "gta", 3)
    job = job_for(tmp_path / "gta", tmp_path / "store")
    job.partial.mkdir()
    (job.partial / "plan.json").write_text(json.dumps({"plan": "of another command"}))
    with pytest.raises(ValueError, match="was begun with other images or settings"):
        pack(job)


def test_info_shows_class_shares_and_writes_a_contact_sheet_of_overlays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    ids = np.repeat([[7, 26]], 20, axis=1).reshape(1, 40).repeat(30, axis=0).astype(np.uint8)
    native.gta(tmp_path / "gta", "half", np.full((30, 40, 3), 100, dtype=np.uint8), ids)
    pack(job_for(tmp_path / "gta", tmp_path / "store", box=None))
    assert main(["info", str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    shares = {line.split()[1]: float(line.split()[-1]) for line in said.splitlines() if line[:3].strip().isdecimal()}
    assert shares["road"] == shares["car"] == 50
    assert sum(shares.values()) == 100
    with Image.open(tmp_path / "store.contact.png") as sheet:
        colours = {tuple(colour) for colour in np.asarray(sheet.convert("RGB")).reshape(-1, 3).tolist()}
    road, car = ((100 + 128) // 2, (100 + 64) // 2, (100 + 128) // 2), (50, 50, (100 + 142) // 2)
    assert {(100, 100, 100), road, car} <= colours


def test_time_left_is_told(tmp_path: Path) -> None:
    from io import StringIO

    from trainables.data.packing.progress import ProgressLine

    stream = StringIO()
    line = ProgressLine(stream)
    line("train", 100, 1000, 0)  # an earlier run had packed these
    time.sleep(0.05)
    line("train", 1000, 1000, 3)
    assert "images/s, 0 s left, 3 broken" in stream.getvalue()
