"""One row of Table 1 at its published architecture and crops, batch 1 + 1, in a process of its own.

python -m tests.search_spaces.full_size DACS_MFM
"""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import replace

import torch

from search_spaces.table1 import STUDIES, Method
from tests.benchmarks.step import Run
from trainables.evaluation import predict
from trainables.training import self_training_step
from trainables.trial import set_numerics


def main(name: str) -> None:
    """Take a step and label an image of the evaluation's size; print the losses and the peak memory."""
    set_numerics(torch.get_num_threads())
    table = STUDIES["paper"].tables[0]
    config = replace(table.axis.make(Method[name]), batch_size=1)
    run = Run(config, torch.device("cpu"))
    started = time.perf_counter()
    losses = self_training_step(run.state, run.settings, run.source, run.target)
    values = {key: float(value) for key, value in losses.items()}
    assert all(math.isfinite(value) for value in values.values()), values
    trained = time.perf_counter()
    rows, columns = config.data.evaluation_size
    image = torch.randn(1, 3, rows, columns).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = predict(run.state.student.eval(), image, config.evaluation)
    assert logits.shape == (1, 19, rows, columns)
    assert bool(torch.isfinite(logits).all())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    labelled = time.perf_counter()
    print(f"{name}: step {trained - started:.0f} s, image {labelled - trained:.0f} s, peak {peak:.1f} GB, {values}")


if __name__ == "__main__":
    main(sys.argv[1])
