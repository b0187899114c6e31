"""Files of tensors without pickled code: safetensors with numbers and a checksum of it all in the header, atomic."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainables.atomic import replacing

CHECKPOINT, FINAL = "checkpoint.safetensors", "final.safetensors"  # of a trial: where it is; its student at the end

Arrays = dict[str, Tensor]
CHECKSUM = "sha256"  # of tensors and numbers; among the numbers, as safetensors writes several entries in any order


class UnusableFile(ValueError):
    """A checkpoint is damaged, cut off, none at all, or of something else: a clause that names the file."""


def copied(arrays: Arrays) -> Arrays:
    """What tensors hold now, in the host's memory and in the order of their dimensions; copied once."""
    order = torch.contiguous_format
    return {name: array.detach().to("cpu", memory_format=order, copy=True) for name, array in arrays.items()}


def save(path: Path, arrays: Arrays, numbers: dict[str, Any]) -> None:
    """Write tensors, which stay who they are, as `write` does."""
    write(path, copied(arrays), numbers)


def write(path: Path, arrays: Arrays, numbers: dict[str, Any], keep: Path | None = None) -> None:
    """Write tensors and JSON-able numbers to a file that is either the old one or the new one, never half of each.

    Args:
        path: The file.
        arrays: Tensors by name, as `copied` gives them.
        numbers: Beside them; the entry `of` says what the file belongs to.
        keep: Where the old file goes.

    Raises:
        OSError: The disk has not twice the file's size free (ENOSPC), or cannot be written; the old file stays.
    """
    size = sum(array.numel() * array.element_size() for array in arrays.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < 2 * size + 2**20:
        needed = f"{2 * size / 2**20:.0f} MiB must be free to replace it safely, got {free / 2**20:.0f} MiB"
        raise OSError(errno.ENOSPC, needed, str(path))
    summed = numbers | {CHECKSUM: _checksum(arrays, numbers)}
    with replacing(path, keep) as temporary:  # on the disk: the ledger's end of a trial must not outlive its weights
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask says; safetensors makes files that only their owner can read
        try:
            save_file(arrays, temporary, metadata={"numbers": json.dumps(summed)})
        except SafetensorError as error:  # it hides the operating system's error in its text, such as that of a quota
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
        temporary.chmod(mode)


def load(path: Path, of: str | None = None) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save` wrote.

    Args:
        path: The file.
        of: What it must belong to, with a checksum; without it, a file of an earlier version needs none.

    Raises:
        UnusableFile: It is damaged, cut off, no such file, or of something else.
        OSError: It cannot be read.
    """
    if path.is_dir():
        raise UnusableFile(f"{path} is a folder, not a checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads((file.metadata() or {}).get("numbers", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RecursionError) as error:
        why = str(error)[:120]  # safetensors lists all types that there are
        raise UnusableFile(f"{path} is not a checkpoint of this project, or was cut off ({why})") from error
    if not isinstance(numbers, dict):
        raise UnusableFile(f"{path} is not a checkpoint of this project (its header holds no numbers)")
    checksum = numbers.pop(CHECKSUM, None)
    if of is not None and numbers.get("of") != of:
        raise UnusableFile(f"{path} is of something else ({str(numbers.get('of'))[:60]})")
    if (of is not None or checksum is not None) and checksum != _checksum(arrays, numbers):
        raise UnusableFile(f"{path} is damaged (its checksum is wrong)")
    return arrays, numbers


def holds(path: Path, arrays: Arrays, numbers: dict[str, Any]) -> bool:
    """Whether a file was written with these very tensors and numbers, by the checksum in its header."""
    try:
        with safe_open(path, framework="pt") as file:
            noted = json.loads((file.metadata() or {}).get("numbers", "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return False
    return isinstance(noted, dict) and noted.get(CHECKSUM) == _checksum(copied(arrays), numbers)


def put_aside(path: Path) -> None:
    """Rename a file that cannot be used, so that another one can take its place."""
    os.replace(path, path.with_suffix(".damaged"))


def _checksum(arrays: Arrays, numbers: dict[str, Any]) -> str:
    """SHA-256 of numbers, names, types, shapes and bits."""
    digest = hashlib.sha256(json.dumps(numbers).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
