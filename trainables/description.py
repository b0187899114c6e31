"""What a network needs beside its weights to be used, as JSON: architecture, classes, normalisation, image size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

from mfm_tune.fields import AtLeast0, Line, Positive, Settings, Size, shown
from trainables.config import Data, Experiment
from trainables.experiment.kinds import AnyNetwork
from trainables.settings_json import UnknownClass, is_ours, plain, read_settings

FORMAT = 1
LARGEST = 2**14  # of a side in pixels, of a width in channels: what is larger is a damaged file, and fills the memory
MOST_CLASSES = 255  # ids of a label map, which has a byte a pixel; 255 is none
LONGEST = 200  # characters of a reason


@dataclass(frozen=True, kw_only=True)
class Description(Settings):
    """A trained segmentor without its weights.

    Args:
        network: Settings to build it from.
        classes: Names of its outputs.
        mean, std: Normalisation of images (pixel values, RGB).
        size: Box (rows, columns) that an image is fitted into before the network sees it.
        slide: (rows, columns) of sliding windows with half-window strides; None feeds the whole image.
        channels_last: Memory format of weights and images; another one moves the last bits of the logits.
        step: Training steps taken; 0 where unknown.
        data: What it was trained on; None where unknown.
    """

    network: AnyNetwork
    classes: tuple[Line, ...]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    size: Annotated[tuple[int, int], Size()]
    slide: Annotated[tuple[int, int], Size()] | None = None
    channels_last: bool = False
    step: AtLeast0 = 0
    data: Data | None = None

    def _check_together(self) -> None:
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"Description.classes must be at most {MOST_CLASSES} names, got {len(self.classes)}.")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"format": FORMAT} | {item.name: plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, content: Any) -> Description:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else, or of another version; an `UnknownClass` where it was made with settings
                of someone's own that are not imported here.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise ValueError(
                f"a model's description must have format {FORMAT}, got {shown(found)}; export the model again."
            )
        try:
            hints = get_type_hints(cls)
            read = cls(**{item.name: read_settings(content[item.name], hints[item.name]) for item in fields(cls)})
            sizes = () if read.data is None else (read.data.training_size, read.data.evaluation_size)
            largest = max(_whole_numbers((read.network, read.size, read.slide, sizes)))
            if largest > LARGEST:
                raise ValueError(f"{shown(largest)} is more than {LARGEST}")
        except UnknownClass:
            raise
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise ValueError(
                f"a model's description must be as this version writes it, but does not fit ({reason[:LONGEST]}); "
                "export the model again."
            ) from error
        return read


def describe(
    config: Experiment,
    classes: tuple[str, ...],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    step: int,
) -> Description:
    """The student of an experiment, after so many steps.

    Args:
        config: Of the experiment.
        classes, mean, std: Of its domains.
        step: Training steps taken.
    """
    return Description(
        network=config.network.without_weights(),  # its weights come with the model
        classes=classes,
        mean=mean,
        std=std,
        size=config.data.evaluation_size,
        slide=config.evaluation.slide,
        channels_last=config.execution.channels_last,
        step=step,
        data=config.data,
    )


def _whole_numbers(value: Any) -> Iterator[int]:
    """Sizes and counts, those in our own settings of networks included; what others mean by a number is theirs."""
    match value:
        case bool():
            return
        case int():
            yield value
        case tuple():
            for part in value:
                yield from _whole_numbers(part)
        case Settings() if is_ours(type(value)):
            yield from _whole_numbers(tuple(getattr(value, item.name) for item in fields(value)))  # type: ignore[arg-type]
