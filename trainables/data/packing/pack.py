"""Packing a data set into a store: parallel, resumable, atomic.

The store grows in `OUT.partial`, shard by shard. A shard counts when the small JSON file beside it is there, which is
written last; a killed run therefore loses at most the shard that it was writing, and the same command resumes. The
folder gets its final name when everything in it is complete and on disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from PIL import Image

from trainables.atomic import replacing, sync
from trainables.data.labels import TrainIds, pixels_by_class
from trainables.data.packing.check import BrokenFiles, Surveyed, read_sample
from trainables.data.packing.format import LABEL_CODEC, checksum, image_checksums
from trainables.data.packing.manifest import MANIFEST, Codec, Manifest, SplitManifest, StoredFile
from trainables.data.packing.plan import SIZES, SOURCES, Job, Plan, doubt, refuse_empty, sources_digest, stored_size
from trainables.data.packing.progress import Progress, gigabytes
from trainables.data.packing.resize import Pixels, Size, resize_image, resize_label
from trainables.data.readers import TRAINING_SPLITS, BrokenSample, Fault, Problem, Sample, relative
from trainables.data.splits import Split

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run did.

    Args:
        manifest: Of the finished store.
        decoded: Images decoded in this run.
        kept: Images that an earlier run had packed.
        warning: What the user should know of what was kept, or was packed again; empty where there is nothing.
    """

    manifest: Manifest
    decoded: int
    kept: int
    warning: str = ""


def prepare(job: Job, plan: Plan, progress: Progress) -> Prepared:
    """Pack a data set, or resume packing it.

    Args:
        progress: Receives the split, images done, images in all, and problems so far.

    Raises:
        BrokenFiles: Files turned out to be broken when they were decoded; what was packed is kept for the next run.
        ValueError: The output cannot be used, or was made of files that have changed, or another run writes to it.
        OSError: The disk has not enough space.
    """
    if job.out.exists():
        return _existing(job, plan)
    _check_space(job, plan)
    job.partial.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.partial / "lock", timeout=0):
            _begin(job, plan)
            packed = {split: _pack_split(job, split, plan.samples[split], progress) for split in job.splits}
            decoding = tuple(problem for entry in packed.values() for problem in entry.problems)
            if decoding and not job.skip_broken:
                raise BrokenFiles(decoding)
            manifest = _finish(job, plan, decoding)
    except Timeout:
        raise ValueError(
            f"{job.partial} is being written by another prepare; wait for it or give another --out."
        ) from None
    decoded, kept, again = (sum(getattr(e, n) for e in packed.values()) for n in ("decoded", "kept", "again"))
    return Prepared(manifest, decoded, kept, _packed_again(again))


# --------------------------------------------------------------------------------------------------------------------
# Before the first image
# --------------------------------------------------------------------------------------------------------------------


def _existing(job: Job, plan: Plan) -> Prepared:
    manifest = Manifest.read(job.out)
    if manifest.plan != plan.digest:
        raise ValueError(f"{job.out} is a store of other images or settings already; delete it, or give another --out.")
    return Prepared(manifest, 0, sum(entry.images for entry in manifest.splits.values()), doubt(job, plan, manifest))


def _begin(job: Job, plan: Plan) -> None:
    """Note the plan in a new folder; refuse a folder that was begun with another one."""
    path = job.partial / PLAN
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != {"plan": plan.digest}:
        raise ValueError(
            f"{job.partial} was begun with other images or settings; repeat that command, or delete the folder."
        )
    _write(path, json.dumps({"plan": plan.digest}).encode())


def _check_space(job: Job, plan: Plan) -> None:
    folder = job.out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    there = sum(path.stat().st_size for path in job.partial.glob("*")) if job.partial.is_dir() else 0
    free = shutil.disk_usage(folder).free
    if plan.bytes - there > free:
        raise OSError(
            f"{job.out} needs {gigabytes(plan.bytes - there)} of free disk, but {folder} has {gigabytes(free)}; free "
            "some, give another --out, a smaller --size, or --codec jpeg."
        )


# --------------------------------------------------------------------------------------------------------------------
# Shards
# --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Packed:
    """What came of a split so far."""

    decoded: int = 0
    kept: int = 0
    again: int = 0  # images of shards that an earlier run had packed, of which nothing is kept
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Committed:
    """The note beside a finished shard."""

    shard: StoredFile
    images: int
    problems: tuple[Problem, ...]


def _pack_split(job: Job, split: Split, samples: Sequence[Surveyed], progress: Progress) -> _Packed:
    """Pack the shards of a split that are not there yet, or whose files have changed; broken ones are tried again."""
    packed = _Packed()
    missing = []
    for number, part in enumerate(_shards_of(job, samples)):
        committed = _committed(job, split, number, part)
        if committed is None or (committed.problems and not job.skip_broken):
            missing.append((number, part))
            packed.again += len(part) if committed is None and _note(_shard(job, split, number)).exists() else 0
            continue
        packed.kept += committed.images
        packed.problems += committed.problems

    def report() -> None:
        progress(split.value, packed.kept + packed.decoded, len(samples), len(packed.problems))

    report()
    with ThreadPoolExecutor(job.workers) as pool:
        for number, part in missing:
            _pack_shard(job, split, number, part, pool, packed, report)
    return packed


def _shards_of(job: Job, samples: Sequence[Surveyed]) -> list[Sequence[Surveyed]]:
    return [samples[start : start + job.shard_images] for start in range(0, len(samples), job.shard_images)]


def _pack_shard(
    job: Job,
    split: Split,
    number: int,
    samples: Sequence[Surveyed],
    pool: ThreadPoolExecutor,
    packed: _Packed,
    report: Callable[[], None],
) -> None:
    path = _shard(job, split, number)
    problems: list[Problem] = []
    images = 0
    with replacing(path) as growing, open(growing, "wb") as raw, pa.ipc.new_file(raw, job.columns.shard) as writer:
        for result in _in_order(pool, lambda entry: _convert(job, split, entry.sample), samples, 2 * job.workers):
            packed.decoded += 1
            if isinstance(result, Problem):
                problems.append(result)
                packed.problems.append(result)
            else:
                images += 1
                writer.write_batch(result)
            report()
    stored = StoredFile(path.name, path.stat().st_size, checksum(path))
    note = {
        "shard": asdict(stored),
        "images": images,
        "problems": [_problem_json(problem) for problem in problems],
        SOURCES: sources_digest(job.reader, samples),
    }
    _write(_note(path), json.dumps(note).encode())


def _committed(job: Job, split: Split, number: int, samples: Sequence[Surveyed]) -> _Committed | None:
    """The note of a finished shard; None where it is missing, the shard has another length, or its files changed."""
    path = _shard(job, split, number)
    if not _note(path).exists() or not path.exists():
        return None
    note = json.loads(_note(path).read_text(encoding="utf-8"))
    shard = StoredFile(**note["shard"])
    if path.stat().st_size != shard.bytes or note.get(SOURCES) != sources_digest(job.reader, samples):
        return None
    problems = tuple(Problem(Fault(p["fault"]), p["path"], p["detail"]) for p in note["problems"])
    return _Committed(shard, note["images"], problems)


def _in_order(
    pool: ThreadPoolExecutor,
    convert: Callable[[Surveyed], pa.RecordBatch | Problem],
    samples: Sequence[Surveyed],
    ahead: int,
) -> Iterator[pa.RecordBatch | Problem]:
    """Results in the order of the samples, with at most `ahead` of them waiting in memory."""
    waiting: deque[Future[pa.RecordBatch | Problem]] = deque()
    for sample in samples:
        waiting.append(pool.submit(convert, sample))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _convert(job: Job, split: Split, sample: Sample) -> pa.RecordBatch | Problem:
    """Decode, resize and encode one sample: a record batch of one row."""
    try:
        image, label = read_sample(job.reader, sample)
    except BrokenSample as broken:
        return broken.problem(job.root)
    native = (image.shape[0], image.shape[1])
    size = stored_size(job, split, native)
    classes = len(job.reader.classes)
    pixels = np.zeros(classes + 1, dtype=np.int64) if label is None else pixels_by_class(label, classes)
    if label is not None and split in TRAINING_SPLITS and size != native:
        label = resize_label(label, size)
    encoded = _encode_image(job, image if size == native else resize_image(image, size))
    compressed = None if label is None else LABEL_CODEC.compress(np.ascontiguousarray(label), asbytes=True)
    row = {
        "name": sample.name,
        "image_file": relative(sample.image, job.root),
        "label_file": None if sample.label is None else relative(sample.label, job.root),
        **_sizes("native_", native),
        **_sizes("", size),
        **_sizes("label_", (0, 0) if label is None else (label.shape[0], label.shape[1])),
        "pixels": pixels,
        "image_crc32": image_checksums(encoded),
        "label_sha256": None if compressed is None else hashlib.sha256(compressed).digest(),
    }
    columns = [pa.array([row[entry.name]], entry.type) for entry in job.columns.common]
    return pa.record_batch([*columns, _binary(encoded), _binary(compressed)], schema=job.columns.shard)


def _sizes(prefix: str, size: Size) -> dict[str, int]:
    return {f"{prefix}rows": size[0], f"{prefix}columns": size[1]}


def _encode_image(job: Job, image: Pixels) -> Pixels | bytes:
    if job.codec is Codec.RAW:
        return np.ascontiguousarray(image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=job.quality, subsampling=0)
    return buffer.getvalue()


def _binary(value: Pixels | TrainIds | bytes | None) -> pa.Array:
    """A binary column of one value, which is not copied."""
    if value is None:
        return pa.array([None], pa.binary())
    data = pa.py_buffer(value)
    offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int32))
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, data])


# --------------------------------------------------------------------------------------------------------------------
# After the last image
# --------------------------------------------------------------------------------------------------------------------


def _finish(job: Job, plan: Plan, decoding: Sequence[Problem]) -> Manifest:
    """Write indices and manifest, make everything durable, and give the folder its name."""
    splits = {split: _index(job, split, plan.samples[split]) for split in job.splits}
    refuse_empty(job, {split: entry.images for split, entry in splits.items()})
    scored = job.reader.scored if job.reader.scored in job.splits else None
    provenance = {
        "root": str(job.root.absolute()),
        "prepared": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quality": job.quality if job.codec is Codec.JPEG else None,
        "versions": {"python": platform.python_version()}
        | {n: version(n) for n in ("pillow", "pyarrow", "numpy", "torch")},
        "left_out": [_problem_json(problem) for problem in (*plan.problems, *decoding)],
        SOURCES: plan.sources,
        SIZES: plan.sizes,
    }
    manifest = Manifest(job.reader.dataset, plan.digest, scored, splits, provenance, job.reader.classes)
    _write(job.partial / MANIFEST, manifest.to_json().encode())
    os.rename(job.partial, job.out)
    sync(job.out.absolute().parent)
    half = job.out.glob("*.growing")  # what earlier code was writing when it was killed
    for path in (*job.out.glob("*.note"), *half, job.out / PLAN, job.out / "lock"):
        path.unlink(missing_ok=True)
    return manifest


def _index(job: Job, split: Split, samples: Sequence[Surveyed]) -> SplitManifest:
    """Collect the small columns of a split's shards into its index."""
    shards, batches = [], []
    for number, part in enumerate(_shards_of(job, samples)):
        committed = _committed(job, split, number, part)
        assert committed is not None, f"shard {number} of {split.value} was not committed"
        shards.append(committed.shard)
        with pa.memory_map(str(job.partial / committed.shard.file)) as file:
            reader = pa.ipc.open_file(file)
            for row in range(reader.num_record_batches):
                batch = reader.get_batch(row)
                columns = [batch.column(entry.name) for entry in job.columns.common]
                place = [pa.array([number], pa.int32()), pa.array([row], pa.int32())]
                batches.append(pa.record_batch([*columns, *place], schema=job.columns.index))
    table = pa.Table.from_batches(batches, job.columns.index).combine_chunks()
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, job.columns.index) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    name = f"{split.value}.index.arrow"
    _write(job.partial / name, data)
    by_image = np.array(table.column("pixels").to_pylist(), dtype=np.int64).reshape(-1, len(job.reader.classes) + 1)
    return SplitManifest(
        images=table.num_rows,
        labelled=table.column("label_sha256").null_count == 0,
        box=job.box_of(split),
        codec=job.codec,
        pixels=tuple(int(count) for count in by_image.sum(axis=0)),
        index=StoredFile(name, len(data), hashlib.sha256(data).hexdigest()),
        shards=tuple(shards),
    )


def _packed_again(images: int) -> str:
    if not images:
        return ""
    return (
        f"{images} images that an earlier run had packed were packed again: their files have changed since, or what "
        "was packed is damaged, or it is of earlier code, which did not note the files that it was made of."
    )


def _shard(job: Job, split: Split, number: int) -> Path:
    return job.partial / f"{split.value}-{number:05d}.arrow"


def _note(shard: Path) -> Path:
    return shard.with_suffix(".note")


def _problem_json(problem: Problem) -> dict[str, str]:
    return {"fault": problem.fault.value, "path": problem.path, "detail": problem.detail}


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as growing:
        growing.write_bytes(data)
