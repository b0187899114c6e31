"""What a store holds, in words and numbers."""

from __future__ import annotations

from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.packing.manifest import VERSION, Codec, Manifest, SplitManifest
from trainables.data.packing.progress import gigabytes


def describe(manifest: Manifest) -> str:
    """Origin, splits, sizes, and the share of each class in the labelled and ignored pixels of each split."""
    provenance = manifest.provenance
    lines = [
        f"{manifest.dataset}, store version {VERSION}, made {provenance['prepared']} from {provenance['root']}",
        f"scored split: {manifest.scored.value if manifest.scored else 'none'}; files left out: "
        f"{len(provenance['left_out'])}",
    ]
    for split, entry in manifest.splits.items():
        lines.append(f"{split.value}: {_sentence(entry, provenance['quality'])}")
    return "\n".join([*lines, "", *_shares(manifest)])


def _sentence(entry: SplitManifest, quality: int | None) -> str:
    box = "native size" if entry.box is None else f"fitted into {entry.box[0]} x {entry.box[1]}"
    codec = "raw" if entry.codec is Codec.RAW else f"JPEG {quality}"
    labels = "labelled" if entry.labelled else "without labels"
    return f"{entry.images} images ({labels}), {box}, {codec}, {gigabytes(entry.bytes)}"


def _shares(manifest: Manifest) -> list[str]:
    """A row a class, a column a labelled split: percent of the pixels of native labels."""
    labelled = {split: entry for split, entry in manifest.splits.items() if entry.labelled}
    if not labelled:
        return ["no labels"]
    rows = [f"{'trainId and class':20}" + "".join(f"{split.value + ' %':>12}" for split in labelled)]
    for index, name in enumerate((*CITYSCAPES_CLASSES, "ignored")):
        number = 255 if name == "ignored" else index
        shares = (100 * entry.pixels[index] / max(sum(entry.pixels), 1) for entry in labelled.values())
        rows.append(f"{number:3} {name:16}" + "".join(f"{share:12.4f}" for share in shares))
    return rows
