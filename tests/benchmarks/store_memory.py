"""What a store costs a machine: its pages in memory with 8 processes against one, and the time to the first batch.

    python -m tests.benchmarks.store_memory [--images 200] [--processes 8]

Memory: a store of `--images` images at GTA's training size (704 x 1280). Each process opens it and reads every image
and label; then all wait, and the proportional set size (PSS) of the store's mappings in /proc/PID/smaps is added up: a
page that 8 processes share counts an eighth in each.

First batch: a store of 24,966 images, as many as GTA has, of 32 x 64 pixels each. Their index, which is what opening
reads, is as large as GTA's; their shards are small and in the page cache, so a disk's latency for the few images of one
batch is not in the figure. Measured in a new process from `PackedPair.open` to two source and two target crops.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainables.config import PackedPair, RareClassSampling
from trainables.data.datasets import find_dataset
from trainables.data.domains import Opening
from trainables.data.packing.format import Store
from trainables.data.packing.pack import prepare
from trainables.data.packing.plan import Job, make_plan
from trainables.data.packing.progress import ProgressLine
from trainables.data.readers import Reader
from trainables.data.splits import Split
from trainables.randomness import Streams

GTA_IMAGES = 24_966
TINY = PackedPair(crop_size=(32, 32), source_size=(32, 64), target_size=(32, 64), evaluation_size=(32, 64))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory(context, folder, arguments.images, arguments.processes)
        first_batch(folder)


# -- memory ------------------------------------------------------------------------------------------------------------


def memory(context: ForkServerContext, folder: Path, images: int, processes: int) -> None:
    """Sum of the PSS of the store's mappings, in one process and in several."""
    write_gta(folder / "gta", range(images), (704, 1280))
    pack(find_dataset("gta"), folder / "gta", folder / "store", (704, 1280))
    size = sum(path.stat().st_size for path in (folder / "store").iterdir()) / 2**20
    alone = mapped(context, folder / "store", 1)
    together = mapped(context, folder / "store", processes)
    print(f"store of {images} images at 704 x 1280: {size:.0f} MiB")
    print(f"PSS of its mappings, summed: {alone:.0f} MiB in 1 process, {together:.0f} MiB in {processes} processes")
    print(f"ratio {together / alone:.3f} (allowed: 1.2)")


def mapped(context: ForkServerContext, store: Path, processes: int) -> float:
    """MiB of the store in memory, all processes together, after each has read all of it."""
    queue: Any = context.Queue()
    barrier = context.Barrier(processes)
    running = [context.Process(target=read_all, args=(store, barrier, queue)) for _ in range(processes)]
    for process in running:
        process.start()
    total = sum(queue.get() for _ in running)
    for process in running:
        process.join()
    return total / 1024


def read_all(store: Path, barrier: Barrier, queue: Any) -> None:
    split = Store(store).split(Split.TRAIN)
    for index in range(len(split)):
        split.image(index).max()
        split.label(index)
    barrier.wait()
    queue.put(pss_of(store))
    barrier.wait()  # nobody leaves before all have looked


def pss_of(store: Path) -> int:
    """KiB of this process's share of the mappings of files below a folder."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            ours = words[-1].startswith(str(store))
        elif ours and words[0] == "Pss:":
            total += int(words[1])
    return total


# -- first batch -------------------------------------------------------------------------------------------------------


def first_batch(folder: Path) -> None:
    """Seconds from nothing to a batch of each domain; the best and the worst of three processes."""
    write_gta(folder / "many", range(20), (32, 64))
    repeat_by_links(folder / "many", 20, GTA_IMAGES)
    write_cityscapes(folder / "cityscapes")
    pack(find_dataset("gta"), folder / "many", folder / "many-store", (32, 64))
    pack(find_dataset("cityscapes"), folder / "cityscapes", folder / "cityscapes-store", (32, 64))
    data = {"gta": str(folder / "many-store"), "cityscapes": str(folder / "cityscapes-store")}
    spawn = multiprocessing.get_context("spawn")
    for name, sampling in (("uniform", None), ("rare-class", RareClassSampling(min_pixels=50))):
        seconds = sorted(in_new_process(spawn, open_and_read, data, sampling) for _ in range(3))
        print(
            f"first batch from {GTA_IMAGES} images, {name} sampling: {seconds[0]:.2f} to {seconds[-1]:.2f} s "
            "(allowed: 1 s)"
        )


def open_and_read(data: dict[str, str], sampling: RareClassSampling | None) -> float:
    torch.set_num_threads(1)
    torch.zeros(1).add_(1)  # torch's own start is the trial's
    started = time.perf_counter()
    domains = TINY.open(Opening(data, torch.device("cpu"), sampling))
    streams = Streams(0)
    domains.source(streams, 0, 2)
    domains.target(streams, 0, 2)
    return time.perf_counter() - started


def in_new_process(context: SpawnContext, run: Callable[..., float], *arguments: object) -> float:
    with context.Pool(1) as pool:
        return pool.apply(run, arguments)


# -- files -------------------------------------------------------------------------------------------------------------


def write_gta(root: Path, numbers: range, size: tuple[int, int]) -> None:
    for number in numbers:
        image, ids = drawn(number, size)
        for folder, picture in (("images", image), ("labels", ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / f"{number:05d}.png", compress_level=1)


def write_cityscapes(root: Path) -> None:
    for split in ("train", "val"):
        image, ids = drawn(0, (32, 64))
        for folder, kind, picture in (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", ids)):
            (root / folder / split / "ulm").mkdir(parents=True)
            picture.save(root / folder / split / "ulm" / f"ulm_0_0_{kind}.png")


def repeat_by_links(root: Path, files: int, total: int) -> None:
    """Further names of the same files."""
    for number in range(files, total):
        for folder in ("images", "labels"):
            (root / folder / f"{number:05d}.png").hardlink_to(root / folder / f"{number % files:05d}.png")


def drawn(seed: int, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Noise, and a label of blocks."""
    generator = np.random.default_rng(seed)
    ids = generator.choice([7, 8, 11, 21, 23, 26], (-(-size[0] // 16), -(-size[1] // 16))).astype(np.uint8)
    label = ids.repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]]
    return Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)), Image.fromarray(label)


def pack(reader: Reader, root: Path, out: Path, box: tuple[int, int]) -> None:
    job = Job(reader=reader, root=root, out=out, splits=reader.splits, box=box, evaluation_box=box)
    progress = ProgressLine()
    prepare(job, make_plan(job, progress), progress)


if __name__ == "__main__":
    main()
