"""The manifest of a store, `store.json`. Standard library only, so that a plan can read it too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.splits import Split

VERSION = 1
MANIFEST = "store.json"

Size = tuple[int, int]


class StoreError(ValueError):
    """A store is missing, damaged, of another version, or made for something else: one sentence with the remedy."""


class Codec(Enum):
    """How images are stored."""

    RAW = "raw"
    JPEG = "jpeg"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store, its size and its checksum."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """What a split holds.

    Args:
        images: How many.
        labelled: Whether they have labels.
        box: The (rows, columns) that images were fitted into; None is their native size.
        codec: How they are stored.
        pixels: By class over all native labels, 255 last: [classes + 1].
        index, shards: Its files.
    """

    images: int
    labelled: bool
    box: Size | None
    codec: Codec
    pixels: tuple[int, ...]
    index: StoredFile
    shards: tuple[StoredFile, ...]

    @property
    def bytes(self) -> int:
        """Size of the split's files."""
        return self.index.bytes + sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store holds and where it came from.

    Args:
        dataset: The data set's name.
        plan: Digest of the samples and settings: equal plans make equal stores.
        scored: The split that is evaluated.
        splits: By split.
        provenance: Root folder, time, versions of the libraries that decoded, and what was left out.
        classes: Their names in the order of the labels' ids; in the file where they are not Cityscapes' 19.
    """

    dataset: str
    plan: str
    scored: Split | None
    splits: Mapping[Split, SplitManifest]
    provenance: Mapping[str, Any]
    classes: tuple[str, ...] = CITYSCAPES_CLASSES

    def to_json(self) -> str:
        """The content of `store.json`, with its own checksum."""
        content: dict[str, Any] = {
            "version": VERSION,
            "dataset": self.dataset,
            "plan": self.plan,
            "scored": self.scored.value if self.scored else None,
            "splits": {
                split.value: asdict(entry) | {"codec": entry.codec.value} for split, entry in self.splits.items()
            },
            "provenance": dict(self.provenance),
        }
        if self.classes != CITYSCAPES_CLASSES:
            content["classes"] = list(self.classes)
        return json.dumps(content | {"sha256": _digest(content)}, indent=1)

    @classmethod
    def read(cls, folder: Path, given: str = "") -> Manifest:
        """Read and check `store.json`, and look at the sizes of the store's files.

        Args:
            folder: The store.
            given: What names it, such as `--data gta=PATH`; by default its path.

        Raises:
            StoreError: It is missing, damaged, or of another version; a file is missing or has another size.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise StoreError(
                f"{given or folder} must be a store made by `python -m trainables.data prepare`, but has no {MANIFEST}."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version, digest = content["version"], content.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(damaged(path)) from None
        if version != VERSION:
            raise StoreError(
                f"{folder} is a store of version {version!r}, and this code reads version {VERSION}; prepare it again."
            )
        if digest != _digest(content):
            raise StoreError(damaged(path))
        splits = {Split(name): _split_manifest(entry) for name, entry in content["splits"].items()}
        for entry in splits.values():
            for stored in (entry.index, *entry.shards):
                _check_size(folder / stored.file, stored)
        scored = Split(content["scored"]) if content["scored"] else None
        classes = tuple(content.get("classes", CITYSCAPES_CLASSES))
        return cls(content["dataset"], content["plan"], scored, splits, content["provenance"], classes)

    def check_dataset(self, dataset: str, given: str) -> None:
        """See that the store is one of this data set; `given` is what names it, such as `--data gta=PATH`.

        Raises:
            StoreError: It is one of another.
        """
        if self.dataset != dataset:
            raise StoreError(f"{given} must be a store of {dataset}, but is one of {self.dataset}.")

    def split(self, split: Split, folder: Path) -> SplitManifest:
        """What a split of the store in a folder holds.

        Raises:
            StoreError: The store does not hold it.
        """
        if split not in self.splits:
            held = " and ".join(entry.value for entry in self.splits)
            raise StoreError(
                f"{folder} must hold the split {split.value}, but holds {held}; prepare it again with "
                f"--splits {split.value}."
            )
        return self.splits[split]

    def check_source(self, folder: Path) -> None:
        """See that the store in a folder can be a source.

        Raises:
            StoreError: It has no training split, or no labels for it.
        """
        if not self.split(Split.TRAIN, folder).labelled:
            raise StoreError(f"{folder} must hold labels to be a source, but its training split has none.")

    def check_target(self, folder: Path) -> Split:
        """See that the store in a folder can be a target. Returns the split that is evaluated.

        Raises:
            StoreError: It has no training split, or no labelled one to be evaluated on.
        """
        self.split(Split.TRAIN, folder)
        return self.check_scored(folder)

    def check_scored(self, folder: Path) -> Split:
        """The split that is evaluated.

        Raises:
            StoreError: There is none.
        """
        if self.scored is None:
            raise StoreError(
                f"{folder} must hold a labelled split to be scored on; prepare it again without --splits, or a folder "
                "of one's own with --validation SHARE or --val-images."
            )
        return self.scored


def known_manifest(folder: Path) -> Manifest | None:
    """The manifest of a store, read once for each state of its file; None where there is none that can be read."""
    try:
        return _read_once(folder, (folder / MANIFEST).stat().st_mtime_ns)
    except (StoreError, OSError):
        return None


@lru_cache
def _read_once(folder: Path, changed: int) -> Manifest:
    del changed
    return Manifest.read(folder)


def damaged(path: Path, part: str = "") -> str:
    """The sentence on a store, or a part of it, whose bytes are not those that were written."""
    what = f"{part} in {path}" if part else str(path)
    return f"{what} is damaged (its checksum is wrong); prepare the store again."


def _split_manifest(entry: Mapping[str, Any]) -> SplitManifest:
    box = entry["box"]
    return SplitManifest(
        images=entry["images"],
        labelled=entry["labelled"],
        box=None if box is None else (box[0], box[1]),
        codec=Codec(entry["codec"]),
        pixels=tuple(entry["pixels"]),
        index=StoredFile(**entry["index"]),
        shards=tuple(StoredFile(**shard) for shard in entry["shards"]),
    )


def _check_size(path: Path, stored: StoredFile) -> None:
    if not path.is_file():
        raise StoreError(f"{path} is missing from its store; prepare the store again.")
    size = path.stat().st_size
    if size != stored.bytes:
        raise StoreError(f"{path} must have {stored.bytes} bytes, but has {size}; prepare the store again.")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
