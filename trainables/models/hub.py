"""Weights by name from a hub that speaks Hugging Face's protocol, kept in the hub's own cache.

The only module that uses the network, and only where `HubWeights.download` is called. The variables of the hub's own
tools name the hub and its cache (HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE). A file is taken when it has the
size and the checksum that the hub names and is whole as safetensors; anything else is removed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.experiment.weights import Published, PublishedEncoder

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

SHA256, SHA1 = 64, 40  # hexadecimal digits of an ETag: of a large file's content, of a small file as git names it
CHUNK = 2**20


class HubWeights:
    """The published weights of an encoder. Nothing is imported, and no file looked at, before it is asked for."""

    def __init__(self, encoder: PublishedEncoder) -> None:
        self._encoder = encoder

    @property
    def name(self) -> str:
        """What `--data` calls the file."""
        return self._encoder.weights_name

    @cached_property
    def published(self) -> Published:
        """Where the file is published.

        Raises:
            ValueError: Nothing is published for the encoder.
        """
        return self._encoder.published()

    def description(self) -> str:
        """What, from where, and under which licence."""
        licence = f"licence {self.published.licence}" if self.published.licence else "licence unknown"
        return f"{self.published.repository} ({self.published.file}) of {hub()}, {licence}"

    def cached(self) -> str | None:
        """Where the file lies in the hub's cache on this machine; None where it does not, or is not whole."""
        path = self._in_cache()
        return str(path) if path is not None and _is_whole(path) else None

    def download(self, say: Callable[[str], None]) -> str:
        """Get the file, after saying what it is, from where, its licence and size. Returns its path in the hub's cache.

        Raises:
            ValueError: It cannot be had, or is not what the hub says that it is; nothing of it is left.
        """
        damaged = self._in_cache()
        if damaged is not None:
            if _is_whole(damaged):
                return str(damaged)
            _remove(damaged)
        try:
            return str(self._fetched(say))
        except ValueError:
            raise
        except Exception as error:  # the client's errors are of many kinds, and of others in each of its versions
            raise ValueError(f"The weights '{self.name}' cannot be downloaded: {self._reason(error)}") from error
        finally:
            self._leave_nothing_half()

    def _fetched(self, say: Callable[[str], None]) -> Path:
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

        published, cache = self.published, _cache()
        constants.HF_HUB_DISABLE_TELEMETRY = True  # else every request names the libraries that are installed
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tries again, and tells of each time
        promised = get_hf_file_metadata(hf_hub_url(published.repository, published.file))
        size = "of unknown size" if promised.size is None else f"{promised.size / 1e6:,.1f} MB"
        say(f"Downloading '{self.name}': {self.description()}, {size}, into {cache}.")
        path = Path(hf_hub_download(published.repository, published.file, cache_dir=cache))
        fault = _fault(path, promised)
        if fault:
            _remove(path)
            raise ValueError(
                f"The weights '{self.name}' from {hub()} {fault}, and were removed again; start the same command once "
                f"more, or give a file by --data {self.name}=PATH."
            )
        return path

    def _in_cache(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.published.repository, self.published.file, cache_dir=_cache())
        return Path(found) if isinstance(found, str) else None

    def _leave_nothing_half(self) -> None:
        """Remove the repository's folder in the cache where it holds no file: what an end in the middle leaves."""
        folder = _cache() / f"models--{self.published.repository.replace('/', '--')}"
        if not any(path.is_file() for part in ("blobs", "snapshots") for path in (folder / part).rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)

    def _reason(self, error: Exception) -> str:
        """Why a download failed, and what to do about it."""
        from huggingface_hub import errors

        repository, or_file = self.published.repository, f"or give a file by --data {self.name}=PATH."
        match error:
            case errors.OfflineModeIsEnabled():
                return f"HF_HUB_OFFLINE forbids the network; unset it, {or_file}"
            case errors.GatedRepoError():
                return (
                    f"{repository} is given to those alone who have accepted its licence; accept it on its page at "
                    f"{hub()}, log in by `hf auth login`, {or_file}"
                )
            case errors.RepositoryNotFoundError():
                return (
                    f"{hub()} has no repository {repository}, or not for everyone; log in by `hf auth login`, {or_file}"
                )
            case errors.EntryNotFoundError() if not isinstance(error, errors.LocalEntryNotFoundError):
                return (
                    f"{repository} has no {self.published.file}, and nothing but .safetensors is taken from a hub; get "
                    f"and convert what it has, {or_file.removeprefix('or ')}"
                )
            case _:
                why = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
                return f"{hub()} cannot be reached, or broke off ({why}); start the same command again, {or_file}"


def hub() -> str:
    """The hub's address, without a password."""
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _fault(path: Path, promised: HfFileMetadata) -> str:
    """In what a file is not what the hub promised, as the end of a sentence; empty where it is."""
    size = path.stat().st_size
    if promised.size is not None and size != promised.size:
        return f"have {size:,} bytes instead of {promised.size:,}"
    etag = promised.etag or ""
    if len(etag) in (SHA256, SHA1) and _digest(path, etag) != etag:
        return "do not have the checksum that it names"
    return "" if _is_whole(path) else "are no whole .safetensors file"


def _digest(path: Path, etag: str) -> str:
    """The file's checksum, of the kind that an ETag is."""
    digest = hashlib.sha256() if len(etag) == SHA256 else hashlib.sha1(usedforsecurity=False)
    if len(etag) == SHA1:
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether the header is one of safetensors and the file as long as it announces."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            return bool(tensors.keys())
    except (SafetensorError, OSError):
        return False


def _remove(path: Path) -> None:
    """Take a file out of the cache, with the blob that its name there points to."""
    blob = Path(os.path.realpath(path))
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
