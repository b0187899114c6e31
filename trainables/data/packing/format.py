"""The Arrow store: decoded images and trainId labels, memory-mapped, shared by all trials on a host.

A store is a folder:

    store.json                what it holds, where it came from, sizes and checksums of its files, and its own checksum
    train.index.arrow         a row an image: name, sizes, pixels by class, checksums, and where the image lies
    train-00000.arrow, ...    the images and labels, one record batch an image (Arrow IPC files)

Images are uint8 [h, w, 3], row after row (`raw`), or JPEG files. Labels are trainIds [h, w], ZSTD-compressed one by
one. Images of the training split have one size (fitted into a box) or their native one; labels of the other splits are
always native.

Opening reads `store.json` and the index only, and looks at the sizes of the other files. Checksums are tested as data
is used: a label's whenever it is read, an image's the first time that its rows are touched, in bands of 32 rows.
`verify` tests everything.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from trainables.data.labels import TrainIds
from trainables.data.packing.manifest import Codec, Manifest, SplitManifest, StoreError, damaged
from trainables.data.packing.progress import Progress
from trainables.data.packing.resize import Pixels, Size, fit_size, resize_image, resize_label, rows_under
from trainables.data.splits import Split
from trainables.geometry import Box

Number = TypeVar("Number", np.int32, np.uint32)

BAND = 32  # rows of a raw image that share a checksum
LABEL_CODEC = pa.Codec("zstd", compression_level=1)

SIZE_FIELDS = (
    pa.field("name", pa.string()),
    pa.field("image_file", pa.string()),
    pa.field("label_file", pa.string()),
    pa.field("native_rows", pa.int32()),
    pa.field("native_columns", pa.int32()),
    pa.field("rows", pa.int32()),
    pa.field("columns", pa.int32()),
    pa.field("label_rows", pa.int32()),
    pa.field("label_columns", pa.int32()),
)
CHECKSUM_FIELDS = (
    pa.field("image_crc32", pa.list_(pa.uint32())),  # of each band of rows where images are raw, else of the JPEG file
    pa.field("label_sha256", pa.binary(32)),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row of a store has.

    Args:
        classes: How many classes the labels have.
    """

    classes: int

    @property
    def common(self) -> tuple[pa.Field, ...]:
        """What shards and the index share; `pixels` are by class at native size, 255 last, all 0 without a label."""
        pixels = pa.field("pixels", pa.list_(pa.int32(), self.classes + 1))
        return (*SIZE_FIELDS, pixels, *CHECKSUM_FIELDS)

    @property
    def shard(self) -> pa.Schema:
        """Columns of a shard."""
        return pa.schema([*self.common, pa.field("image", pa.binary()), pa.field("label", pa.binary())])

    @property
    def index(self) -> pa.Schema:
        """Columns of an index."""
        return pa.schema([*self.common, pa.field("shard", pa.int32()), pa.field("row", pa.int32())])


class Store:
    """An open store.

    Args:
        folder: Where it lies.
        given: What names it, as `Manifest.read` has it.

    Raises:
        StoreError: It is missing, damaged, of another version, or a file of it is missing or has another size.
    """

    def __init__(self, folder: Path, given: str = "") -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder, given)

    def split(self, split: Split) -> PackedSplit:
        """Open a split.

        Raises:
            StoreError: The store does not hold it, or its index is damaged.
        """
        return PackedSplit(self.folder, self.manifest.split(split, self.folder))


class PackedSplit:
    """The images and labels of one split, read in place."""

    def __init__(self, folder: Path, manifest: SplitManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        path = folder / manifest.index.file
        index = path.read_bytes()
        if hashlib.sha256(index).hexdigest() != manifest.index.sha256:
            raise StoreError(damaged(path))
        table = pa.ipc.open_file(pa.BufferReader(index)).read_all()
        self._columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        self.native_sizes = self._pairs("native_rows", "native_columns")  # [N, 2]
        self.sizes = self._pairs("rows", "columns")
        self.label_sizes = self._pairs("label_rows", "label_columns")
        flat = _numbers(self._columns["pixels"].flatten(), np.int32)
        self.pixels = flat.reshape(-1, len(manifest.pixels))  # by class at native size, 255 last: [N, classes + 1]
        checksums = self._columns["image_crc32"]
        self._checksums = _numbers(checksums.flatten(), np.uint32)
        self._first_checksum = _numbers(checksums.offsets, np.int32)
        self._intact = np.zeros(len(self._checksums), dtype=np.bool_)  # what was found to match its checksum
        self._shard = _numbers(self._columns["shard"], np.int32)
        self._row = _numbers(self._columns["row"], np.int32)
        self._shards: dict[int, _Shard] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.manifest.images

    def name(self, index: int) -> str:
        """Name of an image, from its file."""
        return str(self._columns["name"][index].as_py())

    def size(self, index: int, box: Size | None) -> Size:
        """(rows, columns) of an image that is fitted into a box; None is its native size."""
        native = self._pair(self.native_sizes, index)
        return native if box is None else fit_size(native, box)

    def check_box(self, box: Size | None, option: str = "--size") -> None:
        """Images can be served fitted into this box: they are stored so, or at native size.

        Args:
            box: (rows, columns); None is the native size.
            option: What `prepare` calls it.

        Raises:
            StoreError: They are stored at another size.
        """
        for native, stored in np.unique(np.stack([self.native_sizes, self.sizes], axis=1), axis=0).tolist():
            wanted = tuple(native) if box is None else fit_size((native[0], native[1]), box)
            if tuple(stored) not in (wanted, tuple(native)):
                made, needed = _box_name(self.manifest.box), _box_name(box)
                raise StoreError(
                    f"{self.folder} holds images made for {option} {made}, but {needed} is needed; prepare a store "
                    f"with {option} {needed}, or with {option} native, which serves every size."
                )

    def image(self, index: int) -> Pixels:
        """The whole image as stored, [h, w, 3]; read-only memory of the file where it is raw.

        Raises:
            StoreError: The image is damaged.
        """
        return self._rows(index, 0, int(self.sizes[index, 0]))

    def label(self, index: int) -> TrainIds:
        """The whole label as stored, [h, w].

        Raises:
            StoreError: The split has no labels, or this one is damaged.
        """
        data = self._values(index)[1]
        if data is None:
            raise StoreError(f"{self.folder} has no labels for {self.name(index)}; its split is unlabelled.")
        if hashlib.sha256(data.data).digest() != self._columns["label_sha256"][index].as_py():
            raise StoreError(damaged(self._shard_path(index), f"the label of {self.name(index)}"))
        rows, columns = self._pair(self.label_sizes, index)
        plain = LABEL_CODEC.decompress(data, rows * columns)
        return np.frombuffer(plain, dtype=np.uint8).reshape(rows, columns)

    def image_window(self, index: int, size: Size, window: Box) -> Pixels:
        """A window [rows, columns, 3] of an image that is resized to `size`; of a raw image only its rows are touched.

        Raises:
            StoreError: The image is damaged.
        """
        stored = self._pair(self.sizes, index)
        if stored == size:
            image = self._rows(index, window.top, window.top + window.height)
            return image[window.top : window.top + window.height, window.left : window.left + window.width]
        return resize_image(self._rows(index, *rows_under(stored[0], size[0], window)), size, window)

    def sized_label(self, index: int, size: Size) -> TrainIds:
        """The label, resized to `size`."""
        label = self.label(index)
        return label if label.shape == size else resize_label(label, size)

    def _rows(self, index: int, top: int, bottom: int) -> Pixels:
        """The image [h, w, 3], of which the rows from `top` to `bottom` were compared with their checksums."""
        data = self._values(index)[0]
        rows, columns = self._pair(self.sizes, index)
        if self.manifest.codec is Codec.JPEG:
            self._compare(index, 0, data)
            with Image.open(io.BytesIO(data.data)) as image:
                return np.asarray(image.convert("RGB"))
        raw = data.reshape(rows, columns, 3)
        for band in range(top // BAND, (bottom - 1) // BAND + 1):
            self._compare(index, band, raw[band * BAND : (band + 1) * BAND])
        return raw

    def _compare(self, index: int, part: int, data: Pixels) -> None:
        place = int(self._first_checksum[index]) + part
        if self._intact[place]:
            return
        if zlib.crc32(data.data) != self._checksums[place]:
            raise StoreError(damaged(self._shard_path(index), f"the image of {self.name(index)}"))
        self._intact[place] = True

    def _values(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        with self._lock:
            number = int(self._shard[index])
            if number not in self._shards:
                self._shards[number] = _Shard(self._shard_path(index))
            return self._shards[number].values(int(self._row[index]))

    def _shard_path(self, index: int) -> Path:
        return self.folder / self.manifest.shards[int(self._shard[index])].file

    def _pairs(self, rows: str, columns: str) -> npt.NDArray[np.int32]:
        return np.stack([_numbers(self._columns[name], np.int32) for name in (rows, columns)], axis=1)

    def _pair(self, pairs: npt.NDArray[np.int32], index: int) -> Size:
        return int(pairs[index, 0]), int(pairs[index, 1])


class _Shard:
    """A memory-mapped shard; a record batch is looked up when its image is first read."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except (pa.ArrowException, OSError):
            raise StoreError(damaged(path)) from None
        self._path = path
        self._values: dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]] = {}

    def values(self, row: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """The bytes of the image and the label of a row, in place."""
        if row not in self._values:
            try:
                batch = self._reader.get_batch(row)
            except (pa.ArrowException, OSError):
                raise StoreError(damaged(self._path)) from None
            label = batch.column("label")
            self._values[row] = (_bytes(batch.column("image")), _bytes(label) if label.null_count == 0 else None)
        return self._values[row]


def image_checksums(encoded: Pixels | bytes) -> list[int]:
    """CRC-32 of each band of a raw image [h, w, 3], or of a JPEG file."""
    if isinstance(encoded, bytes):
        return [zlib.crc32(encoded)]
    return [zlib.crc32(encoded[top : top + BAND].data) for top in range(0, len(encoded), BAND)]


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, progress: Progress) -> int:
    """Compare every file of a store with its checksum.

    Args:
        progress: Receives the split, files done, files in all, and 0.

    Returns:
        Bytes that were read.

    Raises:
        StoreError: A file is missing, damaged or of another version.
    """
    store = Store(folder)
    total = 0
    for split, entry in store.manifest.splits.items():
        files = (entry.index, *entry.shards)
        for done, stored in enumerate(files, start=1):
            progress(split.value, done, len(files), 0)
            if checksum(folder / stored.file) != stored.sha256:
                raise StoreError(damaged(folder / stored.file))
            total += stored.bytes
    return total


def _bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    """The one value of a binary column, without copying it."""
    _, offsets, data = column.buffers()
    start, end = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + 2]
    return np.frombuffer(data, dtype=np.uint8)[start:end]


def _numbers(column: pa.Array, kind: type[Number]) -> npt.NDArray[Number]:
    """A column of integers, in place. (pyarrow's `to_numpy` imports pandas, half a second, where it is installed.)"""
    return np.frombuffer(column.buffers()[1], dtype=kind)[column.offset : column.offset + len(column)]


def _box_name(box: Size | None) -> str:
    return "native" if box is None else f"{box[0]}x{box[1]}"
