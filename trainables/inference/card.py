"""The card of an exported model: what it is, how well it does, and how to use it, as a page beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.atomic import replacing
from trainables.inference.model import CONFIG, WEIGHTS, Model, parameter_count
from trainables.settings_json import plain

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model comes from.

    Args:
        text: In a sentence: `Trial KEY of "lambda 0.5".`
        score: What was measured of it, in a sentence.
        config: The whole config that was trained; empty where unknown.
        licence: Of the weights, in a sentence.
    """

    text: str
    score: str
    config: Mapping[str, Any]
    licence: str


def write_card(model: Model, origin: Origin, folder: Path) -> None:
    """Write the page. One that is there is replaced."""
    with replacing(folder / CARD) as temporary:
        temporary.write_text(card(model, origin, folder.name), encoding="utf-8")


def card(model: Model, origin: Origin, folder: str) -> str:
    """The page in Markdown; `folder` is what the model's folder is called in its examples."""
    described = model.description
    rows, columns = described.size
    windows = f", in windows of {described.slide[0]} x {described.slide[1]}" if described.slide else ""
    data = "unknown" if described.data is None else json.dumps(plain(described.data))
    config = json.dumps(origin.config or described.to_json()["network"], indent=1)
    return f"""# {type(described.network).__name__} for {len(described.classes)} classes

{origin.text}

| | |
| --- | --- |
| score | {origin.score} |
| parameters | {parameter_count(model.segmentor):,} |
| training steps | {described.step or "unknown"} |
| image size | fitted into {rows} x {columns} pixels{windows} |
| normalisation | mean {_numbers(described.mean)}, std {_numbers(described.std)} (RGB pixel values, 0 to 255) |
| classes | {", ".join(described.classes)} |
| data | `{data}` |
| licence of the weights | {origin.licence} |

## Use

```python
import torch
from pathlib import Path
from trainables.inference.model import load_model

model = load_model(Path("{folder}"))
image = torch.zeros(1, {rows}, {columns}, 3, dtype=torch.uint8)  # RGB
with torch.no_grad():
    classes = model.segmentor.predict(model.normalised(image)).argmax(dim=1)
```

Or `python -m trainables.predict {folder} IMAGES --out OUT`, and `python -m trainables.evaluate {folder} --data
NAME=STORE`. The folder has `{WEIGHTS}` (weights) and `{CONFIG}` (everything else); nothing in it is pickled code.

## Cite

The paper of Masked Feature Modeling where the config below has `Mfm` among its auxiliary tasks, the papers of the
network, the method and the data sets, and mfm_tune, with which it was trained.

## Config

```json
{config}
```
"""


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.5g}" for value in values)
