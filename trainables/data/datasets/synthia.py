"""SYNTHIA-RAND-CITYSCAPES: `RGB/*.png` and `GT/LABELS/*.png`, 16-bit RGB: class ids in red, instances in green."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.labels import Ids, LabelMap
from trainables.data.readers import Found, Reader, by_stem, pair
from trainables.data.splits import Split

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# 0 is void; 13 parking slot, 14 road work and 22 lane marking have no class of Cityscapes.
LABEL_IDS = LabelMap(
    {
        1: 10, 2: 2, 3: 0, 4: 1, 5: 4, 6: 8, 7: 5, 8: 13, 9: 7, 10: 11, 11: 18, 12: 17, 15: 6, 16: 9, 17: 12, 18: 14,
        19: 15, 20: 16, 21: 3,
    },
    range(23),
)  # fmt: skip


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name; converted `*_labelTrainIds.png` beside them are left alone."""
    labels = by_stem(root / "GT" / "LABELS", "*.png")
    native = {key: path for key, path in labels.items() if not key.endswith("_labelTrainIds")}
    return pair(root, split, by_stem(root / "RGB", "*.png"), native)


def read_red(path: Path) -> Ids:
    """The red channel [H, W] of a 16-bit RGB PNG.

    Pillow keeps only the high bytes of such files, which are all 0 here. But PNG's filters treat each byte of a pixel
    by itself, so the two bytes of red, taken out of the filtered rows, are those of an 8-bit PNG with two channels.

    Raises:
        ValueError: The file is damaged, or no 16-bit RGB PNG.
    """
    header, stream = _read_chunks(path.read_bytes())
    if len(header) != 13 or header[8:] != bytes((16, 2, 0, 0, 0)):
        raise ValueError("expected a 16-bit RGB PNG")
    width, height = struct.unpack(">II", header[:8])
    filtered = zlib.decompress(stream)
    if len(filtered) != height * (1 + 6 * width):
        raise ValueError("the pixels are incomplete")
    rows = np.frombuffer(filtered, dtype=np.uint8).reshape(height, 1 + 6 * width)
    red = rows[:, 1:].reshape(height, width, 6)[..., :2]
    two_channels = np.concatenate([rows[:, :1], red.reshape(height, 2 * width)], axis=1)
    with Image.open(io.BytesIO(_png_of_two_channels(width, height, two_channels.tobytes()))) as image:
        high, low = np.moveaxis(np.asarray(image), 2, 0)
    ids: Ids = high.astype(np.uint16) << 8 | low
    return ids


def _read_chunks(data: bytes) -> tuple[bytes, bytes]:
    """A PNG file's header and its compressed pixels, every checksum tested."""
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
    return header, bytes(stream)


def _png_of_two_channels(width: int, height: int, filtered: bytes) -> bytes:
    """An 8-bit PNG with grey and alpha, from its filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered, 0)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


# 9,400 images of 760 x 1280.
DATASET = Reader(
    dataset="synthia",
    splits=(Split.TRAIN,),
    training_size=(760, 1280),
    find=find,
    train_ids=lambda label: LABEL_IDS(read_red(label)),
)
