"""The command line `python -m trainables.data`: pack a data set into a store, check files, look into a store.

python -m trainables.data prepare gta --root /data/gta --out /stores/gta
python -m trainables.data check cityscapes --root /data/cityscapes
python -m trainables.data info /stores/gta
python -m trainables.data verify /stores/gta
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.command_line import SIZE, Parser
from trainables.data.datasets import dataset_names, find_dataset
from trainables.data.label_map import read_label_map
from trainables.data.packing.check import BrokenFiles, check, table
from trainables.data.packing.format import Store, verify
from trainables.data.packing.inspect import contact_sheet, describe
from trainables.data.packing.manifest import Codec
from trainables.data.packing.pack import prepare
from trainables.data.packing.plan import Job, Plan, make_plan
from trainables.data.packing.progress import ProgressLine, gigabytes
from trainables.data.packing.resize import Size
from trainables.data.readers import Reader
from trainables.data.splits import Split

FOLDER = "folder"  # one's own data, described by --label-map
NATIVE = "native"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        arguments = _parser().parse_args(argv)
        torch.set_num_threads(1)  # images are converted side by side, one thread each
        return int(arguments.run(arguments))
    except BrokenFiles as broken:
        print(table(broken.problems), file=sys.stderr)
        print(broken, file=sys.stderr)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 2


def _prepare(arguments: argparse.Namespace) -> int:
    progress = ProgressLine()
    job = _job(arguments)
    plan = make_plan(job, progress)
    print(_announcement(job, plan), flush=True)
    done = prepare(job, plan, progress)
    left_out = done.manifest.provenance["left_out"]
    size = gigabytes(sum(entry.bytes for entry in done.manifest.splits.values()))
    print(f"{job.out}: {size}, {done.decoded} images decoded now, {done.kept} before, files left out: {len(left_out)}.")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    reader = _reader(arguments)
    splits = _splits(arguments, reader)
    problems = check(reader, _root(arguments), splits, arguments.workers, ProgressLine())
    if problems:
        raise BrokenFiles(problems)
    print(f"{arguments.root}: every file of {_and(splits)} is there and can be read.")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    store = Store(arguments.store)
    print(describe(store.manifest))
    sheet = arguments.sheet or arguments.store.with_name(f"{arguments.store.name}.contact.png")
    contact_sheet(store).save(sheet)
    print(f"\nContact sheet: {sheet}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    progress = ProgressLine(unit="files")
    print(f"{arguments.store}: {gigabytes(verify(arguments.store, progress))} match their checksums.")
    return 0


def _announcement(job: Job, plan: Plan) -> str:
    """What will be packed and how much disk it takes, before the first image."""
    counts = " and ".join(f"{len(entries)} images of {split.value}" for split, entries in plan.samples.items())
    folder = job.out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    size = f"{job.codec.value} {gigabytes(plan.bytes)}"
    if plan.bytes != plan.native_bytes:
        size += f" ({gigabytes(plan.native_bytes)} with --size {NATIVE})"
    return f"{job.out}: {counts}, {size}; {gigabytes(shutil.disk_usage(folder).free)} of disk are free."


# -- arguments ---------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m trainables.data", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    packing = commands.add_parser("prepare", help="pack a data set into a store; a stopped run is continued")
    _add_native(packing)
    packing.add_argument("--out", type=Path, required=True, metavar="STORE", help="the store's folder")
    packing.add_argument(
        "--size", type=_size, default=argparse.SUPPRESS, metavar="ROWSxCOLUMNS",
        help="box that training images are fitted into, or native (which serves every size); default: the paper's",
    )  # fmt: skip
    packing.add_argument(
        "--evaluation-size", type=_size, default=argparse.SUPPRESS, metavar="ROWSxCOLUMNS",
        help="the same for images that are evaluated, whose labels keep their own size; default: as for training",
    )  # fmt: skip
    packing.add_argument("--codec", choices=[codec.value for codec in Codec], default=Codec.RAW.value)
    packing.add_argument("--quality", type=_quality, default=95, help="of JPEG, 1 to 100; default: 95")
    packing.add_argument("--skip-broken", action="store_true", help="leave broken files out instead of refusing")
    packing.set_defaults(run=_prepare)
    checking = commands.add_parser("check", help="decode every native file and list what is wrong")
    _add_native(checking)
    checking.set_defaults(run=_check)
    showing = commands.add_parser("info", help="what a store holds: class shares, and a contact sheet of overlays")
    showing.add_argument("store", type=Path)
    showing.add_argument("--sheet", type=Path, metavar="PNG", help="default: beside the store")
    showing.set_defaults(run=_info)
    verifying = commands.add_parser("verify", help="compare every byte of a store with its checksums")
    verifying.add_argument("store", type=Path)
    verifying.set_defaults(run=_verify)
    return parser


def _add_native(parser: argparse.ArgumentParser) -> None:
    names = dataset_names()
    parser.add_argument("dataset", choices=[*names, FOLDER], metavar="DATASET", help=f"{', '.join(names)} or {FOLDER}")
    parser.add_argument("--root", type=Path, required=True, metavar="FOLDER", help="where its native files lie")
    parser.add_argument("--label-map", type=Path, metavar="JSON", help=f"describes one's own data, for {FOLDER}")
    parser.add_argument("--splits", nargs="+", choices=[split.value for split in Split], help="default: all it has")
    parser.add_argument("--workers", type=_count, default=os.cpu_count() or 1, help="threads; default: one a core")


def _job(arguments: argparse.Namespace) -> Job:
    reader = _reader(arguments)
    box = getattr(arguments, "size", reader.training_size)
    return Job(
        reader=reader,
        root=_root(arguments),
        out=arguments.out,
        splits=_splits(arguments, reader),
        box=box,
        evaluation_box=getattr(arguments, "evaluation_size", box),
        codec=Codec(arguments.codec),
        quality=arguments.quality,
        workers=arguments.workers,
        skip_broken=arguments.skip_broken,
    )


def _reader(arguments: argparse.Namespace) -> Reader:
    if (arguments.dataset == FOLDER) != (arguments.label_map is not None):
        raise ValueError(
            f"--label-map must be given with {FOLDER} and with nothing else, got {arguments.dataset}; "
            "it names one's own folders and label ids."
        )
    if arguments.dataset == FOLDER:
        return read_label_map(arguments.label_map)
    return find_dataset(arguments.dataset)


def _root(arguments: argparse.Namespace) -> Path:
    root: Path = arguments.root
    if not root.is_dir():
        raise ValueError(f"--root must be the folder of the native files, but {root} is not there.")
    return root


def _splits(arguments: argparse.Namespace, reader: Reader) -> tuple[Split, ...]:
    if arguments.splits is None:
        return reader.splits
    chosen = tuple(split for split in Split if split.value in arguments.splits)
    missing = [split for split in chosen if split not in reader.splits]
    if missing:
        raise ValueError(f"--splits must be of {_and(reader.splits)} for {reader.dataset}, got {missing[0].value}.")
    return chosen


def _size(text: str) -> Size | None:
    found = SIZE.fullmatch(text)
    if found is None and text != NATIVE:
        raise argparse.ArgumentTypeError(f"must be ROWSxCOLUMNS, such as 720x1280, or {NATIVE}, got {text!r}")
    return None if found is None else (int(found[1]), int(found[2]))


def _quality(text: str) -> int:
    return _within(text, 1, 100)


def _count(text: str) -> int:
    return _within(text, 1, 1024)


def _within(text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be an integer from {low} to {high}, got {text!r}")
    return int(text)


def _and(splits: Sequence[Split]) -> str:
    return " and ".join(split.value for split in splits)


if __name__ == "__main__":
    sys.exit(main())
