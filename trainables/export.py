"""Write the plain segmentor of a trial, or of a published checkpoint, as a model of its own.

python -m trainables.export runs/trials/0123456789ab/s0-01234567 models/mine
python -m trainables.export hrda.pth models/hrda --network hrda

The first form takes a trial's folder, or its `final.safetensors` or `checkpoint.safetensors`. The second takes a whole
published checkpoint of DAFormer, HRDA or MIC (or DeepLab-V2 of that family), or of SegFormer with MiT-B5, for
Cityscapes' 19 classes. `--format torch-export` or `onnx` writes the model as a graph as well, for programs without this
package, once its logits are equal; the folder of an exported model is a source for that, too. A card (README.md) with
score, config and licence lies beside each model, and a note of it in the storage folder of its trial, by which trackers
find it. Nothing in a file is unpickled as code; classes of your own are those of the files that `--code my_study.py`
names, here as in predict and evaluate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mfm_tune.console import Parser, steady_streams
from mfm_tune.results.scores import Score, score_of
from trainables import tensor_file
from trainables.atomic import replacing
from trainables.command_line import exit_status, new_folder
from trainables.config import HRDA, DAFormer, DeepLabV2, Network, SegFormer
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.description import Description
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.inference.card import CARD, Origin, write_card
from trainables.inference.graph import FILES, Format, write_graph
from trainables.inference.model import (
    CONFIG,
    WEIGHTS,
    Model,
    build_model,
    is_saved,
    load_model,
    parameter_count,
    save_model,
)
from trainables.models.pretrained import load_published
from trainables.tensor_file import CHECKPOINT, FINAL
from trainables.user_code import add_code_option, load_code

STUDENT = "student."
NOTES = "exports"  # folder of the storage, where mfm_tune looks for models of trials
NOTE = {"files": [WEIGHTS, CONFIG, CARD, *FILES.values()], "scores": "student/", "loader": "trainables.predict"}
UNSCORED = "not known here; python -m trainables.evaluate measures it"
UNKNOWN_LICENCE = "not known here: that of the weights it began with, and the terms of its data"


# Networks of published checkpoints; MIC's is HRDA's.
PUBLISHED: dict[str, Network] = {
    "deeplabv2": DeepLabV2(),
    "daformer": DAFormer(),
    "segformer": SegFormer(),
    "hrda": HRDA(),
}
LARGE = ("segformer", "hrda")  # published for whole images of Cityscapes, in windows of 1024 x 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for bad input."""
    return exit_status(lambda: _run(_parser().parse_args(argv)))


def _run(given: argparse.Namespace) -> None:
    load_code(given.code)
    name, kind = given.network, Format(given.format)
    exported = kind is not Format.SAFETENSORS and (given.source / CONFIG).is_file()
    if exported and name is not None:
        raise ValueError(
            f"--network must be given with a published checkpoint, but {given.source} is an exported model, which has "
            "its network; leave it out."
        )
    if exported:
        model = load_model(given.source)
    else:
        model = model_of(given.source) if name is None else published_model(given.source, name)
    print(f"Writing {parameter_count(model.segmentor):,} parameters to {given.out} ...", file=sys.stderr, flush=True)
    score = None if exported or name is not None else score_of(_folder_of(given.source))
    if score is not None:
        _withdraw_notes(_note_of(given.source, score).parent, given.out)
    if not exported or given.source.resolve() != given.out.resolve():
        _remove_graphs(given.out, model)
        save_model(model, given.out)
        model = load_model(given.out)
        write_card(model, _origin(given.source, name, score, exported=exported), given.out)
    try:
        if kind is not Format.SAFETENSORS:
            difference = write_graph(model, kind, given.out)
            print(f"Its logits are those of the network, to {difference:.0e} of the largest one.", file=sys.stderr)
    finally:  # a network that cannot be a graph is a model all the same
        if score is not None:
            _leave_note(_note_of(given.source, score), given.out, model.description.step)
    print(given.out)


def _folder_of(source: Path) -> Path:
    """The folder of the trial whose folder or file is given, absolute and without `..`."""
    return Path(os.path.abspath(source if source.is_dir() else source.parent))


def _remove_graphs(folder: Path, model: Model) -> None:
    """Remove the graphs of other weights, before the folder gets those of a model."""
    graphs = [path for path in (folder / name for name in FILES.values()) if path.is_file()]
    if not graphs or is_saved(model, folder):
        return
    for path in graphs:
        path.unlink()
        print(f"Removed {path}: it is of the weights that are replaced.", file=sys.stderr)


def _note_of(source: Path, score: Score) -> Path:
    return _folder_of(source).parents[2] / NOTES / f"{score.key}.json"


def _withdraw_notes(notes: Path, out: Path) -> None:
    """Remove the notes that lead to a folder, whichever trial they are of: what they name is replaced now."""
    for note in notes.glob("*.json"):
        with suppress(OSError, ValueError, AttributeError):  # it cannot be removed, or is none of ours
            if json.loads(note.read_text()).get("model") == str(out.absolute()):
                note.unlink()


def _leave_note(path: Path, out: Path, step: int) -> None:
    """Write where the model of a trial lies, for trackers (`mfm_tune.ledger.storage.Export`); the newest is kept."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"model": str(out.absolute()), "step": step, **NOTE}) + "\n")
    except OSError as error:
        print(f"No tracker will list the model: {path} cannot be written ({error.strerror}).", file=sys.stderr)


def _origin(source: Path, network: str | None, score: Score | None, *, exported: bool) -> Origin:
    """What the card says of where a model comes from."""
    if exported:
        return Origin(text=f"From the model {source.name}.", score=UNSCORED, config={}, licence=UNKNOWN_LICENCE)
    if network is not None:
        text = f"A published checkpoint of {network} ({source.name})."
        return Origin(text=text, score="as its publisher gives it", config={}, licence="that of its publisher")
    if score is None:
        return Origin(text=f"From {source.name}.", score=UNSCORED, config={}, licence=UNKNOWN_LICENCE)
    names = f" of {', '.join(score.names)}" if score.names else ""
    text = (
        f"The student of trial `{score.key}` (seed {score.seed}, step {score.step}){names}; config `{score.config_id}`."
    )
    return Origin(text=text, score=_score_text(score), config=score.config, licence=_licence(score.config))


def _score_text(score: Score) -> str:
    """The trial's own value, then the mean over seeds with its interval."""
    own = "not measured" if score.own is None else score.text(score.own)
    text, seeds = f"{score.metric} {own} on the labelled target images", score.seeds
    if seeds.mean is None:
        return text
    if seeds.low is None or seeds.high is None:
        return f"{text} (the only finished seed)"
    mean, low, high = map(score.text, (seeds.mean, seeds.low, seeds.high))
    return f"{text}; over {seeds.n} seeds {mean} (95 % interval {low} to {high})"


def _licence(config: Mapping[str, Any]) -> str:
    """What is known of the licence of what training began with."""
    initial = config.get("initial")
    kind = initial.get("class") if isinstance(initial, dict) else initial
    data = "data sets have terms of their own, which may forbid commercial use"
    if kind in (None, "WarmStart"):
        return f"began with random numbers, so none of others' weights; {data}"
    return (
        f"began with published weights (`{json.dumps(initial)}`), whose licence holds for what was made of them; {data}"
    )


def model_of(source: Path) -> Model:
    """The student of a trial's folder, or of one of its two checkpoint files.

    Raises:
        ValueError: There is no such file, it is cut off, or it is something else.
    """
    path = _file_of(source)
    try:
        arrays, numbers = tensor_file.load(path)
    except tensor_file.UnusableFile as fault:
        raise ValueError(f"{fault}; give another checkpoint, or train that trial again.") from fault
    if "model" not in numbers:
        raise ValueError(
            f"{path} must say which network it holds, but does not: it is no checkpoint of a trial, or one of an "
            "earlier version; give a trial's folder, or name a published checkpoint's network by --network."
        )
    if any(name.startswith(STUDENT) for name in arrays):
        arrays = {name.removeprefix(STUDENT): array for name, array in arrays.items() if name.startswith(STUDENT)}
    try:
        description = Description.from_json(numbers["model"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return build_model(description, arrays, str(path))


def _file_of(source: Path) -> Path:
    if (source / CONFIG).is_file():
        raise ValueError(f"{source} is an exported model already; use it as it is, or give --format for a graph.")
    files = [source / FINAL, source / CHECKPOINT] if source.is_dir() else [source]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ValueError(
            f"RUN_OR_CHECKPOINT must be a trial's folder with {FINAL} or {CHECKPOINT}, or such a file, got {source}; "
            "trials lie in the storage folder under trials/<config>/s<seed>-<code>."
        )
    return found


def published_model(path: Path, name: str) -> Model:
    """A published checkpoint, to be used as it was published: fitted into 512 x 1024 pixels, or twice that.

    Args:
        path: The file.
        name: One of `PUBLISHED`.

    Raises:
        ValueError: The file is missing, unreadable, or of another architecture.
    """
    settings = PUBLISHED[name]
    segmentor = settings.build(len(CITYSCAPES_CLASSES))
    load_published(segmentor, path)
    large = name in LARGE
    description = Description(
        network=settings,
        classes=CITYSCAPES_CLASSES,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        size=(1024, 2048) if large else (512, 1024),
        slide=(1024, 1024) if large else None,
    )
    return Model(segmentor.eval(), description)


def _parser() -> Parser:
    parser = Parser(prog="python -m trainables.export", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add(
        "source",
        metavar="RUN_OR_CHECKPOINT",
        type=Path,
        help="a trial's folder, one of its checkpoints, or a published one",
    )
    add("out", metavar="OUT", type=new_folder, help="folder of the model: model.safetensors and config.json")
    add("--network", choices=list(PUBLISHED), help="the network of a published checkpoint")
    add(
        "--format",
        choices=[each.value for each in Format],
        default=Format.SAFETENSORS.value,
        help="also as a graph: model.pt2 (PyTorch) or model.onnx, from RGB pixel values [1, 3, H, W] to logits",
    )
    add_code_option(parser)
    return parser


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
