"""What a network needs beside its weights to be used, as JSON: architecture, classes, normalisation, image size."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, get_args, get_type_hints

from trainables.config import Data, EfficientNetLite, Experiment, Network, ToyCity

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Description:
    """A trained segmentor without its weights.

    Args:
        network: Settings to build it from.
        classes: Names of its outputs.
        mean, std: Normalisation of images (grey levels, RGB).
        size: Box (rows, columns) that an image is fitted into before the network sees it.
        slide: (rows, columns) of sliding windows with half-window strides; None feeds the whole image.
        channels_last: Memory format of weights and images; another one moves the last bits of the logits.
        step: Training steps taken; 0 where unknown.
        data: What it was trained on; None where unknown.
    """

    network: Network
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]
    slide: tuple[int, int] | None = None
    channels_last: bool = False
    step: int = 0
    data: Data | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"format": FORMAT} | {item.name: plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, content: Any) -> Description:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else, or of another version.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise ValueError(f"a model's description must have format {FORMAT}, got {found!r}; export the model again.")
        try:
            return cls(**{name: _read(content[name], hint) for name, hint in get_type_hints(cls).items()})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"a model's description must be as this version writes it, but does not fit ({error}); "
                "export the model again."
            ) from error


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
    network = config.network
    if isinstance(network, EfficientNetLite):
        network = replace(network, pretrained=False)  # its weights come with the model
    return Description(
        network=network,
        classes=classes,
        mean=mean,
        std=std,
        size=evaluation_size(config.data),
        slide=config.evaluation.slide,
        channels_last=config.execution.channels_last,
        step=step,
        data=config.data,
    )


def evaluation_size(data: Data) -> tuple[int, int]:
    """Box (rows, columns) that evaluation images are fitted into."""
    return data.image_size if isinstance(data, ToyCity) else data.evaluation_size


def plain(value: Any) -> Any:
    """Settings as JSON values; a dataclass is an object that names its class."""
    match value:
        case Enum():
            return value.value
        case tuple():
            return [plain(part) for part in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            own = {item.name: plain(getattr(value, item.name)) for item in fields(value)}
            return {"class": type(value).__name__} | own
        case _:
            return value


def _read(value: Any, hint: Any) -> Any:
    """What `plain` made of a field of this type, which says what settings it can hold."""
    match value:
        case dict():
            known = {each.__name__: each for each in get_args(hint) or (hint,) if isinstance(each, type)}
            if value["class"] not in known:
                raise ValueError(f"{value['class']!r} must be {' or '.join(known)}")
            kind = known[value["class"]]
            hints = get_type_hints(kind)
            return kind(**{key: _read(part, hints[key]) for key, part in value.items() if key != "class"})
        case list():
            return tuple(_read(part, None) for part in value)
        case _ if isinstance(hint, type) and issubclass(hint, Enum):
            return hint(value)
        case _:
            return value
