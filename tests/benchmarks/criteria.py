"""What label-free criteria add to the time of scoring a student and a teacher, in turns, in processor time.

python -m tests.benchmarks.criteria [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from trainables.data.domains import open_domains
from trainables.evaluation import evaluate, source_miou
from trainables.randomness import Streams
from trainables.recipes import MINI, dacs, with_selection_criteria
from trainables.running.initial import new_student
from trainables.selection import TargetCriteria


def main(rounds: int) -> None:
    """Print the least time of each, and the ratio."""
    torch.set_num_threads(1)
    device, config = torch.device("cpu"), with_selection_criteria(dacs(MINI))
    settings = config.evaluation
    assert settings.criteria is not None
    domains = open_domains(config, {}, device)
    networks = [new_student(config, Streams(seed), len(domains.classes), device) for seed in (0, 1)]

    def judged() -> None:
        assert settings.criteria is not None
        criteria = TargetCriteria(settings.criteria, len(domains.classes), device)
        evaluate(networks, domains, settings, device, criteria)
        criteria.read()

    ways: dict[str, Callable[[], object]] = {
        "scores alone": lambda: evaluate(networks, domains, settings, device),
        "with criteria": judged,
        "held-out source": lambda: source_miou(networks[0], domains, settings, device),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - started)
    for name, seconds in best.items():
        print(f"{name:16} {seconds:6.2f} s  {seconds / best['scores alone']:5.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
