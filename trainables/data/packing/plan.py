"""What `prepare` will pack: samples, the bytes that they take, and digests of all that makes a store what it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.packing.check import BrokenFiles, Surveyed, survey
from trainables.data.packing.format import Columns
from trainables.data.packing.manifest import VERSION, Codec, Manifest
from trainables.data.packing.progress import Progress
from trainables.data.packing.resize import Size, fit_size
from trainables.data.readers import TRAINING_SPLITS, Problem, Reader
from trainables.data.splits import Split

JPEG_QUALITY = 95
LABEL_SHARE = 0.06  # of a label's pixels, compressed: an upper estimate (0.04 measured on street scenes)
JPEG_SHARE = 0.25  # of an image's bytes at that quality: an upper estimate
SPARE = 1.02  # Arrow's framing and the indices
SOURCES = "sources"  # the key of `sources_digest` in the note beside a shard, and in a store's provenance
SIZES = "source_sizes"  # of the same without times, in the provenance


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to pack.

    Args:
        reader: The native layout.
        root: Folder of the native files.
        out: Where the store will be.
        splits: Which splits.
        box: (rows, columns) that training images are fitted into; None keeps their own size.
        evaluation_box: The same for the images of the other splits, whose labels keep their own size.
        codec, quality: How images are stored; the quality is JPEG's.
        workers: Threads that decode.
        skip_broken: Leave broken files out instead of refusing.
        shard_images: Images in a file of the store: what a killed run loses at most.
    """

    reader: Reader
    root: Path
    out: Path
    splits: tuple[Split, ...]
    box: Size | None
    evaluation_box: Size | None
    codec: Codec = Codec.RAW
    quality: int = JPEG_QUALITY
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    skip_broken: bool = False
    shard_images: int = 128

    @property
    def partial(self) -> Path:
        """Where the store grows."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def columns(self) -> Columns:
        """What a row of the store has."""
        return Columns(len(self.reader.classes))

    def box_of(self, split: Split) -> Size | None:
        """The box of a split's images."""
        return self.box if split in TRAINING_SPLITS else self.evaluation_box


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be packed.

    Args:
        samples: By split.
        problems: Files that are left out.
        bytes: Size of the store: exact for raw images, from above for JPEG files and labels.
        native_bytes: The same if every image kept its native size.
        digest: Of names, sizes and settings: all that makes a store what it is, where no file changes.
        sources: `sources_digest` of all samples.
        sizes: The same without the times of their last changes.
    """

    samples: Mapping[Split, tuple[Surveyed, ...]]
    problems: tuple[Problem, ...]
    bytes: int
    native_bytes: int
    digest: str
    sources: str
    sizes: str


def make_plan(job: Job, progress: Progress) -> Plan:
    """Look at the files' names and headers.

    Args:
        progress: Receives the split, headers read, headers in all, and problems so far.

    Raises:
        BrokenFiles: Something is wrong with them, and they are not to be left out.
        ValueError: A split has no usable image.
    """
    surveys = {split: survey(job.reader, job.root, split, job.workers, progress) for split in job.splits}
    problems = tuple(problem for entry in surveys.values() for problem in entry.problems)
    if problems and not job.skip_broken:
        raise BrokenFiles(problems, job.reader.layout)
    samples = {split: entry.samples for split, entry in surveys.items()}
    refuse_empty(job, {split: len(entries) for split, entries in samples.items()})
    native = replace(job, box=None, evaluation_box=None)
    entries = list(chain.from_iterable(samples.values()))
    return Plan(
        samples=samples,
        problems=problems,
        bytes=_estimate(job, samples),
        native_bytes=_estimate(native, samples),
        digest=_plan_digest(job, samples),
        sources=sources_digest(job.reader, entries),
        sizes=sources_digest(job.reader, entries, times=False),
    )


def sources_digest(reader: Reader, samples: Iterable[Surveyed], *, times: bool = True) -> str:
    """Of what may change while names and sizes stay: the files of samples, and the one that describes their labels.

    Args:
        times: With the times of the files' last changes, and not their bytes alone.
    """
    content = [reader.file_digest, [[stamp if times else stamp[:2] for stamp in entry.stamps] for entry in samples]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def doubt(job: Job, plan: Plan, manifest: Manifest) -> str:
    """Why a finished store may be of files that have changed since, in a sentence; empty where they have not.

    Raises:
        ValueError: They have, by their bytes or by the file that describes them.
    """
    noted = manifest.provenance
    if noted.get(SOURCES) == plan.sources:
        return ""
    if SOURCES not in noted:
        return (
            f"{job.out} is of earlier code, which did not note the files that it was made of; whether they have "
            "changed since is not known, so delete it and repeat the command if they may have."
        )
    if noted.get(SIZES) == plan.sizes:
        return (
            f"{job.out} was made before the time of the last change of its files, whose sizes are as they were (copied "
            "files, say); delete it and repeat the command if what they hold may have changed."
        )
    raise ValueError(
        f"{job.out} was made before its images, its labels or the file that describes them changed; delete it to make "
        "it anew, or give another --out."
    )


def _estimate(job: Job, samples: Mapping[Split, Sequence[Surveyed]]) -> int:
    """Bytes that the store takes: exact for raw images, from above for JPEG and labels."""
    total = 0.0
    for split, entries in samples.items():
        for entry in entries:
            rows, columns = stored_size(job, split, entry.size)
            label = (rows, columns) if split in TRAINING_SPLITS else entry.size
            total += 3 * rows * columns * (1.0 if job.codec is Codec.RAW else JPEG_SHARE)
            total += label[0] * label[1] * LABEL_SHARE if entry.sample.label else 0
    return int(total * SPARE)


def refuse_empty(job: Job, images: Mapping[Split, int]) -> None:
    """See that every split has an image.

    Raises:
        ValueError: One has none.
    """
    for split, count in images.items():
        if count == 0:
            raise ValueError(f"{job.root} has no usable image of the split {split.value}; see --root and --splits.")


def _plan_digest(job: Job, samples: Mapping[Split, Sequence[Surveyed]]) -> str:
    content: dict[str, object] = {
        "version": VERSION,
        "dataset": job.reader.dataset,
        "box": job.box,
        "evaluation_box": job.evaluation_box,
        "codec": [job.codec.value, job.quality if job.codec is Codec.JPEG else None],
        "shard_images": job.shard_images,
        "samples": {split.value: [[e.sample.name, *e.size] for e in entries] for split, entries in samples.items()},
    }
    if job.reader.classes != CITYSCAPES_CLASSES:
        content["classes"] = job.reader.classes
    if job.reader.digest:
        content["labels"] = job.reader.digest
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stored_size(job: Job, split: Split, native: Size) -> Size:
    """(rows, columns) that an image of a split is stored at."""
    box = job.box_of(split)
    return native if box is None else fit_size(native, box)
