"""A contact sheet of a store: images and their labels laid over them, to be looked at."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from trainables.data.labels import TrainIds, colours
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.resize import Pixels, Size, resize_label

THUMBNAIL: Size = (180, 320)
PER_SPLIT = 8  # images, evenly spaced over the split
TITLE = 14  # rows of the line with the name


def contact_sheet(store: Store) -> Image.Image:
    """Two pairs a row, each an image beside its overlay (beside nothing where there is no label), split after split."""
    tiles = []
    for split in store.manifest.splits:
        packed = store.split(split)
        places = np.unique(np.linspace(0, len(packed) - 1, PER_SPLIT).round().astype(int))
        tiles += [_tile(packed, int(index), f"{split.value}: {packed.name(int(index))}") for index in places]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (2 * width, -(-len(tiles) // 2) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % 2 * width, number // 2 * height))
    return sheet


def overlay(image: Pixels, label: TrainIds) -> Pixels:
    """Class colours over an image, half and half; ignored pixels are darkened: [H, W, 3] of an image and [H, W]."""
    mixed: Pixels = ((image.astype(np.uint16) + colours()[label]) // 2).astype(np.uint8)
    return mixed


def _tile(packed: PackedSplit, index: int, title: str) -> Image.Image:
    image = packed.image(index)
    tile = Image.new("RGB", (2 * THUMBNAIL[1], THUMBNAIL[0] + TITLE), "white")
    ImageDraw.Draw(tile).text((2, 1), title, fill="black")
    tile.paste(_small(image), (0, TITLE))
    if packed.manifest.labelled:
        label = resize_label(packed.label(index), (image.shape[0], image.shape[1]))
        tile.paste(_small(overlay(image, label)), (THUMBNAIL[1], TITLE))
    return tile


def _small(image: Pixels) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL[1], THUMBNAIL[0]))
    return picture
