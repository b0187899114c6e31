"""Which images a pair of domains trains on and is scored on, for the ledger and for trackers.

Standard library only: a plan looks too, at manifests of stores and at names and sizes of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mfm_tune.identity import canonical_json
from trainables.data.classes import CITYSCAPES_CLASSES, TOY_CITY_CLASSES
from trainables.data.packing.manifest import Manifest, SplitManifest, known_manifest
from trainables.data.splits import PLACES, Split

if TYPE_CHECKING:
    from trainables.config import PackedPair, RealPhotographs, ToyCity
    from trainables.experiment.data import DomainPair

DIGITS = 12  # of a digest


class Use(Enum):
    """What images are for."""

    SOURCE = "training source"
    TARGET = "training target"
    EVALUATION = "evaluation"
    ALL = "training and evaluation"  # of a pair of one's own that does not divide them


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images of one use.

    Args:
        name: Of their data set.
        digest: Twelve digits; sets that have them in common are the same images.
        origin: The folder in which they lie, or the settings from which they are drawn.
        images: How many there are; None where that is not known before they are opened.
        size: `720 x 1280` rows and columns, or `native`.
        classes: How many classes their labels have; None where they have no labels, or that is not known.
    """

    name: str
    use: Use
    digest: str
    origin: str
    images: int | None = None
    size: str
    classes: int | None = None

    @property
    def facts(self) -> dict[str, int | str]:
        """What is known of the images."""
        facts = {"images": self.images, "size": self.size, "classes": self.classes}
        return {name: value for name, value in facts.items() if value is not None}


def drawn_sets(pair: ToyCity) -> tuple[ImageSet, ...]:
    """The pools of a ToyCity; all have labels, those of the target for an oracle."""
    settings = canonical_json(pair)
    pools = {
        Use.SOURCE: (f"toy-city-{pair.source.value}", pair.source_images),
        Use.TARGET: ("toy-city-target", pair.target_images),
        Use.EVALUATION: ("toy-city-target", pair.validation_images),
    }
    return tuple(
        ImageSet(
            name=name,
            use=use,
            digest=_digest([settings, use.value]),
            origin=f"drawn from {settings}",
            images=images,
            size=_size(pair.image_size),
            classes=len(TOY_CITY_CLASSES),
        )
        for use, (name, images) in pools.items()
    )


def packed_sets(pair: PackedPair, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
    """Splits of the stores that are given and can be read."""
    source, target = _manifest(given.get(pair.source)), _manifest(given.get(pair.target))
    scored = None if target is None else target.scored
    return (
        *_split_sets(pair.source, source, given, {Split.TRAIN: Use.SOURCE}),
        *_split_sets(pair.target, target, given, {Split.TRAIN: Use.TARGET}),
        *_split_sets(pair.target, target, given, {} if scored is None else {scored: Use.EVALUATION}),
    )


def photograph_sets(pair: RealPhotographs, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
    """Splits of the store, or parts of the folder; the digest of a part is that of its files' names and sizes."""
    uses = {Split.SOURCE: Use.SOURCE, Split.TRAIN: Use.TARGET, Split.VAL: Use.EVALUATION}
    if pair.folder not in given:
        return ()
    manifest = _manifest(given[pair.folder])
    if manifest is not None:
        return _split_sets(pair.folder, manifest, given, uses)
    return tuple(_part_of_folder(pair.folder, Path(given[pair.folder]) / PLACES[split], uses[split]) for split in uses)


def own_set(pair: DomainPair, given: Mapping[str, str]) -> ImageSet:
    """All images of a pair of one's own: the same ones where its settings and the stores that it reads are equal."""
    settings = canonical_json(pair)
    paths = [given[use.name] for use in pair.stores() if use.name in given]
    splits = [entry for path in paths if (manifest := _manifest(path)) for entry in manifest.splits.values()]
    return ImageSet(
        name=pair.evaluation_name or type(pair).__name__.lower(),
        use=Use.ALL,
        digest=_digest([settings, *map(_digest_of_split, splits)]),
        origin=", ".join(paths) or settings,
        size=_size(pair.training_size),
    )


def _split_sets(
    name: str, manifest: Manifest | None, given: Mapping[str, str], uses: Mapping[Split, Use]
) -> tuple[ImageSet, ...]:
    if manifest is None:
        return ()
    held = [(manifest.splits[split], use) for split, use in uses.items() if split in manifest.splits]
    return tuple(
        ImageSet(
            name=str(name),
            use=use,
            digest=_digest_of_split(entry),
            origin=str(Path(given[name]).absolute()),
            images=entry.images,
            size="native" if entry.box is None else _size(entry.box),
            classes=len(manifest.classes) if entry.labelled else None,
        )
        for entry, use in held
    )


def _part_of_folder(name: str, folder: Path, use: Use) -> ImageSet:
    images, digest = _files_under(folder, _changed(folder / "images"), _changed(folder / "labels"))
    labelled = (folder / "labels").is_dir()
    return ImageSet(
        name=name,
        use=use,
        digest=digest,
        origin=str(folder.absolute()),
        images=images,
        size="native",
        classes=len(CITYSCAPES_CLASSES) if labelled else None,
    )


@lru_cache(maxsize=8)
def _files_under(folder: Path, *changed: int) -> tuple[int, str]:
    """How many images there are, and the digest of all files' names and sizes; once for each state of the folders."""
    del changed
    found = sorted(path for part in ("images", "labels") for path in (folder / part).glob("*.*"))
    files = [path for path in found if path.is_file()]  # not a link to one that is gone
    parts = (f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
    return sum(path.parent.name == "images" for path in files), _digest(parts)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _manifest(path: str | None) -> Manifest | None:
    return None if path is None else known_manifest(Path(path))


def _digest_of_split(entry: SplitManifest) -> str:
    return _digest(file.sha256 for file in (entry.index, *entry.shards))


def _digest(parts: Iterable[str]) -> str:
    text = "\n".join(parts).encode(errors="surrogateescape")  # names of files may be any bytes
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
