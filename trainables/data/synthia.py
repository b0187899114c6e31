"""SYNTHIA-RAND-CITYSCAPES: `RGB/*.png` and `GT/LABELS/*.png`, 16-bit RGB: class ids in red, instances in green."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainables.data.labels import SYNTHIA, Ids, TrainIds
from trainables.data.readers import Found, Split, by_stem, pair
from trainables.data.resize import Size

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Synthia:
    """9,400 images of 760 x 1280."""

    dataset: str = "synthia"
    splits: tuple[Split, ...] = (Split.TRAIN,)
    scored: Split | None = None
    training_size: Size | None = (760, 1280)

    def find(self, root: Path, split: Split) -> Found:
        """Pair images and labels of one name; converted `*_labelTrainIds.png` beside them are left alone."""
        labels = by_stem(root / "GT" / "LABELS", "*.png")
        native = {key: path for key, path in labels.items() if not key.endswith("_labelTrainIds")}
        return pair(root, split, by_stem(root / "RGB", "*.png"), native)

    def train_ids(self, label: Path) -> TrainIds:
        """The red channel holds the ids."""
        return SYNTHIA(read_red(label))


def read_red(path: Path) -> Ids:
    """The red channel [H, W] of a 16-bit RGB PNG.

    Pillow keeps only the high bytes of such files, which are all 0 here, so torchvision decodes them. Its decoder may
    take the process down on a damaged stream: the file is checked first.

    Raises:
        ValueError: The file is damaged, or no 16-bit RGB PNG.
    """
    from torchvision.io import ImageReadMode, decode_png  # costs two seconds; only SYNTHIA needs it

    data = path.read_bytes()
    _check_png(data)
    pixels = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.UNCHANGED)
    ids: Ids = pixels[0].numpy().astype(np.uint16)
    return ids


def _check_png(data: bytes) -> None:
    """Refuse what is not a whole, undamaged, 16-bit RGB PNG without interlacing."""
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("not a PNG file")
    header, stream, at, kind = b"", bytearray(), len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        end = at + 12 + length
        if end > len(data):
            raise ValueError("the file is truncated")
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of the chunk {kind!r} is wrong")
        header = body if kind == b"IHDR" else header
        stream += body if kind == b"IDAT" else b""
        at = end
    if len(header) != 13 or header[8:] != bytes((16, 2, 0, 0, 0)):
        raise ValueError("expected a 16-bit RGB PNG")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    if len(zlib.decompress(stream)) != height * (1 + 6 * width):
        raise ValueError("the pixels are incomplete")
