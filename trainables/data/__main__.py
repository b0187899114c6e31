"""The command line `python -m trainables.data`: pack a data set into a store, check files, look into a store.

python -m trainables.data prepare gta --root /data/gta --out /stores/gta
python -m trainables.data prepare folder --name mine --images DIR --labels DIR --classes classes.csv --out /stores/mine
python -m trainables.data check cityscapes --root /data/cityscapes
python -m trainables.data info /stores/gta
python -m trainables.data verify /stores/gta
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence

import torch

from mfm_tune.console import steady_streams
from trainables.command_line import NATIVE, exit_status
from trainables.data.arguments import find_reader, find_splits, listed, make_job, make_parser
from trainables.data.packing.check import BrokenFiles, check, class_warnings, table
from trainables.data.packing.format import Store, verify
from trainables.data.packing.inspect import contact_sheet, describe
from trainables.data.packing.pack import prepare
from trainables.data.packing.plan import Job, Plan, make_plan
from trainables.data.packing.progress import ProgressLine, gigabytes
from trainables.data.readers import Reader
from trainables.data.splits import Split


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    return exit_status(lambda: _run(make_parser((__doc__ or "").splitlines()[0]).parse_args(argv)))


def _run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # images are converted side by side, one thread each
    try:
        COMMANDS[arguments.command](arguments)
    except BrokenFiles as broken:
        if len(broken.problems) > 1:
            print(table(broken.problems), file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        raise


def _prepare(arguments: argparse.Namespace) -> None:
    progress = ProgressLine()
    job = make_job(arguments)
    plan = make_plan(job, progress)
    print(_announcement(job, plan), flush=True)
    if job.reader.places:
        print(_classes(job.reader), flush=True)
    done = prepare(job, plan, progress)
    left_out = done.manifest.provenance["left_out"]
    _warn(job.reader, {split: entry.pixels for split, entry in done.manifest.splits.items() if entry.labelled})
    size = gigabytes(sum(entry.bytes for entry in done.manifest.splits.values()))
    if done.warning:
        print(f"Warning: {done.warning}", file=sys.stderr)
    print(f"{job.out}: {size}, {done.decoded} images decoded now, {done.kept} before, files left out: {len(left_out)}.")
    if job.reader.places:
        name = job.reader.dataset
        print(f'A source or target of PackedPair as "{name}", with --data {name}={job.out}.')


def _check(arguments: argparse.Namespace) -> None:
    reader, root = find_reader(arguments)
    splits = find_splits(arguments, reader)
    checked = check(reader, root, splits, arguments.workers, ProgressLine())
    _warn(reader, checked.pixels)
    if checked.problems:
        raise BrokenFiles(checked.problems, reader.layout)
    print(f"{root}: every file of {listed(splits)} is there and can be read.")


def _info(arguments: argparse.Namespace) -> None:
    store = Store(arguments.store)
    print(describe(store.manifest))
    sheet = arguments.sheet or arguments.store.with_name(f"{arguments.store.name}.contact.png")
    contact_sheet(store).save(sheet)
    print(f"\nContact sheet: {sheet}")


def _verify(arguments: argparse.Namespace) -> None:
    progress = ProgressLine(unit="files")
    print(f"{arguments.store}: {gigabytes(verify(arguments.store, progress))} match their checksums.")


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


def _warn(reader: Reader, pixels: Mapping[Split, Sequence[int]]) -> None:
    for sentence in class_warnings(reader, pixels):
        print(f"Warning: {sentence}", file=sys.stderr)


def _classes(reader: Reader) -> str:
    """One's own classes with their ids."""
    return "Classes: " + ", ".join(f"{index} {name}" for index, name in enumerate(reader.classes)) + "."


COMMANDS = {"prepare": _prepare, "check": _check, "info": _info, "verify": _verify}

if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
