"""What a store holds: a description in numbers, and a contact sheet of images with their labels laid over them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.manifest import VERSION, Codec, Manifest, SplitManifest
from trainables.data.packing.progress import gigabytes
from trainables.data.packing.resize import Pixels, Size, resize_label
from trainables.data.palette import overlay

THUMBNAIL: Size = (180, 320)
PER_SPLIT = 8  # images, evenly spaced over the split
TITLE = 14  # rows of the line with the name


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
    width = max(16, *(len(name) for name in manifest.classes))
    rows = [f"{'id and class':{width + 4}}" + "".join(f"{split.value + ' %':>12}" for split in labelled)]
    for index, name in enumerate((*manifest.classes, "ignored")):
        number = 255 if index == len(manifest.classes) else index
        shares = (100 * entry.pixels[index] / max(sum(entry.pixels), 1) for entry in labelled.values())
        rows.append(f"{number:3} {name:{width}}" + "".join(f"{share:12.4f}" for share in shares))
    return rows


def contact_sheet(store: Store) -> Image.Image:
    """Two pairs a row, each an image beside its overlay (beside nothing where there is no label), split after split."""
    tiles = []
    for split in store.manifest.splits:
        packed = store.split(split)
        places = np.unique(np.linspace(0, len(packed) - 1, PER_SPLIT).round().astype(int))
        titles = {int(index): f"{split.value}: {packed.name(int(index))}" for index in places}
        tiles += [_tile(packed, index, title, store.manifest.classes) for index, title in titles.items()]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (2 * width, -(-len(tiles) // 2) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % 2 * width, number // 2 * height))
    return sheet


def _tile(packed: PackedSplit, index: int, title: str, classes: tuple[str, ...]) -> Image.Image:
    image = packed.image(index)
    tile = Image.new("RGB", (2 * THUMBNAIL[1], THUMBNAIL[0] + TITLE), "white")
    ImageDraw.Draw(tile).text((2, 1), title, fill="black")
    tile.paste(_small(image), (0, TITLE))
    if packed.manifest.labelled:
        label = resize_label(packed.label(index), (image.shape[0], image.shape[1]))
        tile.paste(_small(overlay(image, label, classes)), (THUMBNAIL[1], TITLE))
    return tile


def _small(image: Pixels) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL[1], THUMBNAIL[0]))
    return small
