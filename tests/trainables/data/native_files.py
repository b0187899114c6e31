"""Miniature data sets in their native layouts, written byte by byte from the published encodings.

Nothing here uses the readers' tables or an image library: a mistake there cannot hide itself here.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

# id -> trainId as the data sets' own documents print it; every other id is ignored (255).
CITYSCAPES_IDS = "7>0 8>1 11>2 12>3 13>4 17>5 19>6 20>7 21>8 22>9 23>10 24>11 25>12 26>13 27>14 28>15 31>16 32>17 33>18"
SYNTHIA_IDS = "3>0 4>1 2>2 21>3 5>4 7>5 15>6 9>7 6>8 16>9 1>10 10>11 17>12 8>13 18>14 19>15 20>16 12>17 11>18"
CAMVID_IDS = "0>10 1>2 2>5 3>0 4>1 5>8 6>7 7>4 8>13 9>11 10>18"
CARLA_IDS = "1>2 2>4 4>11 5>5 6>0 7>0 8>1 9>8 10>13 11>3 12>7"
CARLA_0_9_14_IDS = (
    "1>0 2>1 3>2 4>3 5>4 6>5 7>6 8>7 9>8 10>9 11>10 12>11 13>12 14>13 15>14 16>15 17>16 18>17 19>18 24>0 25>1"
)

MAPILLARY_IDS = (
    "13>0 24>0 41>0 2>1 15>1 17>2 6>3 3>4 45>5 47>5 48>6 50>7 30>8 29>9 27>10 19>11 20>12 21>12 22>12 55>13 61>14 "
    "54>15 58>16 57>17 52>18"
)
IDD_LEVEL_3_IDS = "0>0 2>1 3>9 4>11 5>12 6>17 7>18 9>13 10>14 11>15 14>3 15>4 18>7 19>6 20>5 22>2 24>8 25>10"
FIRST_19 = " ".join(f"{number}>{number}" for number in range(19))

Array = np.ndarray


def train_ids(ids: Array, table: str) -> Array:
    """What the ids [H, W] become by one of the tables above."""
    pairs = dict(tuple(map(int, pair.split(">"))) for pair in table.split())
    return np.vectorize(lambda label_id: pairs.get(int(label_id), 255))(ids).astype(np.uint8)


def png(pixels: Array, palette: bytes | None = None, *, filtered: bool = False) -> bytes:
    """A PNG file of [H, W] or [H, W, 3] pixels, uint8 or uint16; with a palette, [H, W] are its indices.

    Where `filtered`, the rows take PNG's five filters in turn; else they are stored as they are.
    """
    height, width = pixels.shape[:2]
    depth = 8 * pixels.dtype.itemsize
    colour = 3 if palette is not None else 2 if pixels.ndim == 3 else 0
    rows = pixels.astype(">u2" if depth == 16 else "u1").reshape(height, -1).view("u1")
    step = rows.shape[1] // width
    kinds = [number % 5 if filtered else 0 for number in range(height)]
    scanlines = b"".join(bytes([kind]) + _filter(rows, number, kind, step) for number, kind in enumerate(kinds))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks if body is not None)


def _filter(rows: Array, number: int, kind: int, step: int) -> bytes:
    """A row of bytes after PNG's filter 0 none, 1 left, 2 up, 3 average or 4 Paeth; `step` bytes are a pixel."""
    if kind == 0:
        return rows[number].tobytes()
    row = rows[number].astype(np.int64)
    above = rows[number - 1].astype(np.int64) if number else np.zeros_like(row)
    left, corner = (np.concatenate([np.zeros(step, dtype=np.int64), line[:-step]]) for line in (row, above))
    near = np.stack([left, above, corner])
    distance = np.abs(left + above - corner - near)
    paeth = np.take_along_axis(near, distance.argmin(axis=0)[None], axis=0)[0]
    predicted = [np.zeros_like(row), left, above, (left + above) // 2, paeth][kind]
    return ((row - predicted) % 256).astype(np.uint8).tobytes()


def write(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def image(height: int = 6, width: int = 40, seed: int = 0) -> Array:
    """Random colours, [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def all_ids(count: int, height: int = 6, width: int = 40) -> Array:
    """Every id from 0 to `count` - 1, in rows, [height, width]."""
    return (np.arange(height * width) % count).reshape(height, width).astype(np.uint8)


def smooth(height: int, width: int, seed: int) -> Array:
    """A picture with gradients and edges, as photographs have, [height, width, 3]."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [generator.uniform(0.005, 0.05, 2) for _ in range(3)]
    channels = [127 + 90 * np.sin(a * rows + b * columns) for a, b in waves]
    return (np.stack(channels, axis=2) + 20 * ((rows // 37 + columns // 53) % 2)[..., None]).clip(0, 255).astype("u1")


def blocks(height: int, width: int, ids: list[int], seed: int, cell: int = 48) -> Array:
    """A label of rectangles of random ids, [height, width]."""
    generator = np.random.default_rng(seed)
    coarse = generator.choice(ids, (-(-height // cell), -(-width // cell))).astype(np.uint8)
    return coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]


def gta(root: Path, name: str, pixels: Array, ids: Array) -> None:
    """`images/NAME.png` and `labels/NAME.png`, a palette image whose indices are the ids."""
    palette = bytes(np.random.default_rng(7).integers(0, 256, 3 * 256, dtype=np.uint8))
    write(root / "images" / f"{name}.png", png(pixels))
    write(root / "labels" / f"{name}.png", png(ids, palette))


def synthia(root: Path, name: str, pixels: Array, ids: Array) -> None:
    """`RGB/NAME.png` and `GT/LABELS/NAME.png`: 16 bits, the id in red, the instance (over 255, too) in green."""
    instances = (np.arange(ids.size) % 700).reshape(ids.shape)
    label = np.stack([ids, instances, np.zeros_like(ids)], axis=2).astype(np.uint16)
    write(root / "RGB" / f"{name}.png", png(pixels))
    write(root / "GT" / "LABELS" / f"{name}.png", png(label))


def cityscapes(root: Path, split: str, frame: str, pixels: Array, ids: Array) -> None:
    """`leftImg8bit/SPLIT/CITY/..`, `gtFine/SPLIT/CITY/..labelIds.png`, and the instances that lie beside them."""
    city = frame.split("_")[0]
    write(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", png(pixels))
    write(root / "gtFine" / split / city / f"{frame}_gtFine_labelIds.png", png(ids))
    write(root / "gtFine" / split / city / f"{frame}_gtFine_instanceIds.png", png(ids.astype(np.uint16) * 1000))


def anonymised(root: Path, folder: str, frame: str, pixels: Array, label: Array | None) -> None:
    """ACDC and Dark Zurich: `rgb_anon/FOLDER/FRAME_rgb_anon.png` and `gt/FOLDER/FRAME_gt_labelTrainIds.png`."""
    write(root / "rgb_anon" / folder / f"{frame}_rgb_anon.png", png(pixels))
    if label is not None:
        write(root / "gt" / folder / f"{frame}_gt_labelTrainIds.png", png(label))
        write(root / "gt" / folder / f"{frame}_gt_labelIds.png", png(np.zeros_like(label)))


def camvid(root: Path, split: str, name: str, pixels: Array, ids: Array) -> None:
    """`CamVid/SPLIT/NAME.png`, `CamVid/SPLITannot/NAME.png`, and a line of `CamVid/SPLIT.txt`."""
    write(root / "CamVid" / split / f"{name}.png", png(pixels))
    write(root / "CamVid" / f"{split}annot" / f"{name}.png", png(ids))
    with open(root / "CamVid" / f"{split}.txt", "a") as listed:
        listed.write(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n")


def lyft(root: Path, split: str, name: str, pixels: Array, ids: Array) -> None:
    """`SPLIT/CameraRGB/NAME.png` and `SPLIT/CameraSeg/NAME.png`, RGB with the id in red."""
    write(root / split / "CameraRGB" / f"{name}.png", png(pixels))
    write(root / split / "CameraSeg" / f"{name}.png", png(np.stack([ids, ids * 0, ids * 0], axis=2)))


def carlascapes(root: Path, name: str, pixels: Array, ids: Array) -> None:
    """`NAME_img.png`, `NAME_labelIds.png`, and the colours that lie beside them."""
    write(root / f"{name}_img.png", png(pixels))
    write(root / f"{name}_labelIds.png", png(ids))
    write(root / f"{name}_color.png", png(pixels))


def bdd100k(root: Path, split: str, name: str, pixels: Array, label: Array) -> None:
    """`images/10k/SPLIT/NAME.jpg` (here a PNG) and `labels/sem_seg/masks/SPLIT/NAME.png`, and colours beside them."""
    write(root / "images" / "10k" / split / f"{name}.jpg", png(pixels))
    write(root / "labels" / "sem_seg" / "masks" / split / f"{name}.png", png(label))
    write(root / "labels" / "sem_seg" / "colormaps" / split / f"{name}.png", png(pixels))


def mapillary(root: Path, folder: str, name: str, pixels: Array, ids: Array, labels: str = "labels") -> None:
    """`FOLDER/images/NAME.jpg`, `FOLDER/LABELS/NAME.png` (a palette image), and the instances that lie beside them."""
    write(root / folder / "images" / f"{name}.jpg", png(pixels))
    write(root / folder / labels / f"{name}.png", png(ids, bytes(768)))
    write(root / folder / "instances" / f"{name}.png", png(ids.astype(np.uint16) * 256))


def idd(root: Path, split: str, frame: str, pixels: Array, ids: Array, kind: str = "png") -> None:
    """`leftImg8bit/SPLIT/DRIVE/FRAME_leftImg8bit.KIND`, `gtFine/.._gtFine_labellevel3Ids.png`, and the polygons."""
    write(root / "leftImg8bit" / split / f"{frame}_leftImg8bit.{kind}", png(pixels))
    write(root / "gtFine" / split / f"{frame}_gtFine_labellevel3Ids.png", png(ids))
    write(root / "gtFine" / split / f"{frame}_gtFine_polygons.json", b"{}")


def idd_lite(root: Path, split: str, frame: str, pixels: Array, ids: Array) -> None:
    """`leftImg8bit/SPLIT/DRIVE/ID_image.jpg`, `gtFine/SPLIT/DRIVE/ID_label.png`, and the instances beside them."""
    write(root / "leftImg8bit" / split / f"{frame}_image.jpg", png(pixels))
    write(root / "gtFine" / split / f"{frame}_label.png", png(ids))
    write(root / "gtFine" / split / f"{frame}_inst_label.png", png(ids.astype(np.uint16) * 1000))


def synscapes(root: Path, name: str, pixels: Array, ids: Array) -> None:
    """`img/rgb/N.png`, `img/class/N.png`, and the enlarged image."""
    write(root / "img" / "rgb" / f"{name}.png", png(pixels))
    write(root / "img" / "rgb-2k" / f"{name}.png", png(pixels.repeat(2, axis=0)))
    write(root / "img" / "class" / f"{name}.png", png(ids))


def urbansyn(root: Path, number: str, pixels: Array, ids: Array) -> None:
    """`rgb/rgb_N.png`, `ss/ss_N.png`, and the colours beside them."""
    write(root / "rgb" / f"rgb_{number}.png", png(pixels))
    write(root / "ss" / f"ss_{number}.png", png(ids))
    write(root / "ss_colour" / f"ss_colour_{number}.png", png(pixels))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
