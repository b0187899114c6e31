"""The options of `python -m trainables.data`, and the jobs that they describe."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mfm_tune.console import Parser, integer
from mfm_tune.fields import FileName
from trainables.command_line import new_file, new_folder, size_or_native
from trainables.data.class_table import read_class_table
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.datasets import dataset_names, find_dataset, load_dataset
from trainables.data.given import FOLDER
from trainables.data.label_map import read_label_map
from trainables.data.own_folders import OwnFolders, folder_reader
from trainables.data.packing.manifest import MANIFEST, Codec, Manifest
from trainables.data.packing.plan import JPEG_QUALITY, Job
from trainables.data.readers import Reader
from trainables.data.splits import Split

CITYSCAPES = "cityscapes"  # for --class-list
OWN = ("name", "images", "labels", "classes", "class_list", "val_images", "val_labels", "validation")


def make_parser(description: str) -> Parser:
    """The parser of all commands; the command is the argument `command`."""
    parser = Parser(prog="python -m trainables.data", description=description)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    packing = commands.add_parser("prepare", help="pack a data set into a store; a stopped run is continued")
    _add_native(packing)
    packing.add_argument("--out", type=new_folder, required=True, metavar="STORE", help="the store's folder")
    packing.add_argument(
        "--size", type=size_or_native, default=argparse.SUPPRESS, metavar="ROWSxCOLUMNS",
        help="box that training images are fitted into, or native (which serves every size); default: the paper's",
    )  # fmt: skip
    packing.add_argument(
        "--evaluation-size", type=size_or_native, default=argparse.SUPPRESS, metavar="ROWSxCOLUMNS",
        help="the same for images that are evaluated, whose labels keep their own size; default: as for training",
    )  # fmt: skip
    codecs = [codec.value for codec in Codec]
    packing.add_argument("--codec", choices=codecs, default=codecs[0], help="of images: exact, or a tenth of the disk")
    packing.add_argument(
        "--quality", type=partial(integer, high=100), metavar="N", help="of --codec jpeg, 1 to 100 (95)"
    )
    packing.add_argument("--skip-broken", action="store_true", help="leave broken files out instead of refusing")
    checking = commands.add_parser("check", help="decode every native file and list what is wrong")
    _add_native(checking)
    showing = commands.add_parser("info", help="what a store holds: class shares, and a contact sheet of overlays")
    showing.add_argument("store", type=Path, metavar="STORE", help="the store's folder")
    showing.add_argument(
        "--sheet", type=partial(new_file, ending=".png"), metavar="PNG", help="default: beside the store"
    )
    verifying = commands.add_parser("verify", help="compare every byte of a store with its checksums")
    verifying.add_argument("store", type=Path, metavar="STORE", help="the store's folder")
    return parser


def _add_native(parser: argparse.ArgumentParser) -> None:
    names = dataset_names()
    parser.add_argument("dataset", metavar="DATASET", help=f"{', '.join(names)}, {FOLDER}, or that of --code")
    parser.add_argument("--code", type=Path, metavar="FILE", help="Python file with a DATASET of one's own")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="where its native files lie")
    parser.add_argument("--splits", nargs="+", choices=[split.value for split in Split], help="default: all it has")
    parser.add_argument(
        "--workers", type=partial(integer, high=1024), default=os.cpu_count() or 1, help="threads; default: one a core"
    )
    own = parser.add_argument_group(f"one's own data ({FOLDER}); a place is a folder, or a quoted pattern with one *")
    own.add_argument("--name", help="what the store is called in --data NAME=STORE")
    own.add_argument("--images", metavar="PLACE", help="training images")
    own.add_argument("--labels", metavar="PLACE", help="their labels; without, they are unlabelled")
    own.add_argument("--classes", type=Path, metavar="TABLE", help="CSV with id,class or colour,class, or JSON")
    own.add_argument(
        "--class-list", metavar="STORE",
        help=f"number the classes as in this store, or as {CITYSCAPES}'; default: in the order of --classes",
    )  # fmt: skip
    own.add_argument("--val-images", metavar="PLACE", help="images that are evaluated")
    own.add_argument("--val-labels", metavar="PLACE", help="their labels")
    own.add_argument("--validation", type=_share, metavar="SHARE", help="evaluate the last images by name, such as 0.2")
    own.add_argument("--label-map", type=Path, metavar="JSON", help="describes folders in --root with trainIds")


def make_job(arguments: argparse.Namespace) -> Job:
    """What `prepare` packs.

    Raises:
        ValueError: The options do not fit together, or a file that they name cannot be used.
    """
    reader, root = find_reader(arguments)
    if arguments.out.exists() and not (arguments.out / MANIFEST).is_file():
        raise ValueError(f"--out must be new, or a store, but {arguments.out} has no {MANIFEST}; give another --out.")
    codec = Codec(arguments.codec)
    if arguments.quality is not None and codec is not Codec.JPEG:
        raise ValueError(f"--quality must be given with --codec jpeg, got it with {codec.value}; leave it out.")
    box = getattr(arguments, "size", reader.training_size)
    return Job(
        reader=reader,
        root=root,
        out=arguments.out,
        splits=find_splits(arguments, reader),
        box=box,
        evaluation_box=getattr(arguments, "evaluation_size", box),
        codec=codec,
        quality=arguments.quality or JPEG_QUALITY,
        workers=arguments.workers,
        skip_broken=arguments.skip_broken,
    )


def find_reader(arguments: argparse.Namespace) -> tuple[Reader, Path]:
    """The reader that the options describe, and the folder of its files.

    Raises:
        ValueError: The options do not fit together, or a file that they name cannot be used.
    """
    readers = _readers(arguments.code)
    if arguments.dataset not in (*readers, FOLDER):
        raise ValueError(
            f"DATASET: invalid choice: {arguments.dataset!r} (choose from {', '.join((*readers, FOLDER))}); give the "
            "file of one's own with --code."
        )
    given = [f"--{option.replace('_', '-')}" for option in OWN if getattr(arguments, option) is not None]
    if given and arguments.dataset == FOLDER and arguments.label_map is None:
        return _own_folders(arguments)
    if arguments.dataset != FOLDER and arguments.label_map is not None:
        given.append("--label-map")
    if given:
        other = "--label-map" if arguments.dataset == FOLDER else arguments.dataset
        raise ValueError(f"{given[0]} must be given with {FOLDER} alone, got it with {other}; leave it out.")
    if arguments.dataset == FOLDER and arguments.label_map is None:
        raise ValueError(
            f"--name, --images and --classes, or --root and --label-map must be given with {FOLDER}, got "
            f"{'none of them' if arguments.root is None else '--root alone'}; they name one's own folders and classes."
        )
    if arguments.root is None:
        raise ValueError(f"--root must be given with {arguments.dataset}: the folder of the native files.")
    if not arguments.root.is_dir():
        raise ValueError(f"--root must be the folder of the native files, but {arguments.root} is not there.")
    if arguments.dataset == FOLDER:
        return read_label_map(arguments.label_map), arguments.root
    return readers[arguments.dataset], arguments.root


def _readers(code: Path | None) -> dict[str, Reader]:
    own = [] if code is None else [load_dataset(code)]
    return {name: find_dataset(name) for name in dataset_names()} | {reader.dataset: reader for reader in own}


def _own_folders(arguments: argparse.Namespace) -> tuple[Reader, Path]:
    for option in ("name", "images", "classes"):
        if getattr(arguments, option) is None:
            raise ValueError(f"--{option} must be given with {FOLDER}; see --help.")
    if arguments.root is not None:
        raise ValueError(f"--root must not be given with --images, got {arguments.root}; leave it out.")
    if not FileName().fits(arguments.name):
        raise ValueError(f"--name must {FileName().wanted}, got {arguments.name!r}.")
    if (arguments.val_images is None) != (arguments.val_labels is None):
        raise ValueError("--val-images and --val-labels must be given together; add the missing one.")
    if arguments.validation is not None and (arguments.labels is None or arguments.val_images is not None):
        wrong = "without --labels" if arguments.labels is None else "with --val-images"
        raise ValueError(f"--validation must be given with --labels and without --val-images, got it {wrong}.")
    places = {name: getattr(arguments, name) for name in ("images", "labels", "val_images", "val_labels")}
    for option, place in places.items():
        check_place(f"--{option.replace('_', '-')}", place)
    folders = OwnFolders(**places, validation=arguments.validation)
    table = read_class_table(arguments.classes, _class_list(arguments.class_list))
    return folder_reader(arguments.name, folders, table), folders.root


def check_place(option: str, place: str | None) -> None:
    """See that an option names a folder, or a pattern of files in one.

    Raises:
        ValueError: It does not.
    """
    if place is None:
        return
    if "*" in str(Path(place).parent) or place.count("*") > 1:
        raise ValueError(f"{option} must be a folder, or a pattern with one * in the name of the files, got {place!r}.")
    folder = Path(place).parent if "*" in place else Path(place)
    if not folder.is_dir():
        raise ValueError(f"{option} must be a folder, or a pattern such as '{place}/*.png', but {folder} is not there.")


def _class_list(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return CITYSCAPES_CLASSES if text == CITYSCAPES else Manifest.read(Path(text), f"--class-list {text}").classes


def find_splits(arguments: argparse.Namespace, reader: Reader) -> tuple[Split, ...]:
    """The splits that are asked for, or all that the data set has.

    Raises:
        ValueError: It has no such split.
    """
    if arguments.splits is None:
        return reader.splits
    chosen = tuple(split for split in Split if split.value in arguments.splits)
    missing = [split for split in chosen if split not in reader.splits]
    if missing:
        raise ValueError(f"--splits must be of {listed(reader.splits)} for {reader.dataset}, got {missing[0].value}.")
    return chosen


def listed(splits: Sequence[Split]) -> str:
    """Splits as messages show them."""
    return " and ".join(split.value for split in splits)


def _share(text: str) -> float:
    if not re.fullmatch(r"0?\.[0-9]{1,9}", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and below 1, such as 0.2, got {text!r}")
    return float(text)
