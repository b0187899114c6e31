"""How many trials run side by side: the forecast and the engine count alike."""

from __future__ import annotations

import pytest

from mfm_tune.execution.resources import fitting, local_slots


@pytest.mark.parametrize(
    ("gpus_per_trial", "on_two"),
    [
        (0, 64),
        (0.1, 20),
        (0.2, 10),
        (0.3, 6),
        (0.35, 4),
        (1 / 3, 6),
        (0.5, 4),
        (0.51, 2),
        (0.7, 2),
        (1, 2),
        (2, 1),
        (3, 0),
    ],
)
def test_a_forecast_counts_places_as_ray_does(
    gpus_per_trial: float, on_two: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tenths are a GPU, and no trial lies on two. A machine on which no trial fits is forecast as one place."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert fitting(64.0, 2.0, cpus_per_trial=1, gpus_per_trial=gpus_per_trial) == on_two
    assert local_slots(1, gpus_per_trial) == max(1, on_two)


def test_the_scarcer_of_cores_and_gpus_decides() -> None:
    """Whole trials only."""
    assert fitting(7.0, 4.0, cpus_per_trial=2, gpus_per_trial=0.25) == 3
    assert fitting(64.0, 3.0, cpus_per_trial=1, gpus_per_trial=2) == 1
