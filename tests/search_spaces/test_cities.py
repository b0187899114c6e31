"""Pairs of real photographs: each trains from stores that `prepare` made of native layouts, and scores its classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mfm_tune import run
from mfm_tune.space import Study
from search_spaces import cities, cities_camvid_idd, cities_carla_camvid, cities_carla_idd, cities_idd_camvid
from tests.trainables.data import native_files as native
from trainables.config import Experiment
from trainables.data.__main__ import main
from trainables.running.trial import Trial

SIZE = (144, 192)
PAIRS = [  # with the mean that each has besides that over all classes, and whether there can be an oracle
    (cities.STUDIES["smoke"], None, True),
    (cities_camvid_idd.STUDIES["smoke"], "miou5", True),
    (cities_idd_camvid.STUDIES["smoke"], "miou5", True),
    (cities_carla_idd.STUDIES["smoke"], "miou5", True),
    (cities_carla_camvid.STUDIES["smoke"], "miou8", False),
]
FRAMES = [  # split and frame of CamVid's drives by day and at dusk, early and late
    ("train", "0006R0_f00930"),
    ("train", "0001TP_006690"),
    ("train", "0001TP_008550"),
    ("val", "0016E5_07959"),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a few images of each data set, whose labels are blocks of all ids."""
    root = tmp_path_factory.mktemp("cities")
    photographs = root / "photographs"
    for number, (split, frame) in enumerate(FRAMES):
        pixels = native.smooth(*SIZE, number)
        native.camvid(root, split, frame, pixels, native.blocks(*SIZE, list(range(12)), number, 17))
        native.idd_lite(root, split, f"{number}/{frame}", pixels, native.blocks(*SIZE, list(range(7)), number, 17))
    for number, place in enumerate(("source", "target/train", "target/val")):
        native.write(photographs / place / "images" / "a.png", native.png(native.smooth(*SIZE, number)))
        ids = native.blocks(*SIZE, list(range(19)), number, 17)
        if place != "target/train":
            native.write(photographs / place / "labels" / "a.png", native.png(ids))
    folders = dict.fromkeys(("camvid-day", "camvid-dusk", "camvid-seven"), root / "CamVid")
    folders |= {"idd-lite": root, "carla-seven": photographs, "realpair": photographs}
    for name, folder in folders.items():
        size = "native" if name == "realpair" else "144x192"
        assert main(["prepare", name, "--root", str(folder), "--out", str(root / name), "--size", size]) == 0
    return {name: str(root / name) for name in folders}


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "mean", "oracle"), PAIRS, ids=[study.name for study, _, _ in PAIRS])
def test_a_pair_trains_from_its_stores_and_scores_what_its_tables_print(
    pair: Study, mean: str | None, oracle: bool, stores: dict[str, str], tmp_path: Path
) -> None:
    """A step of DACS + MFM and of the oracle, where the target's training images have labels."""
    data = {name: stores[name] for name in pair.needs}
    pair.program.check_data(list(pair.configs().values()), data)
    rows = {cell.level: cell.config for cell in pair.cells() if cell.table != "batch-norm"}
    assert ("oracle" in rows) is oracle
    for row in ("oracle", "DACS + MFM") if oracle else ("DACS + MFM",):
        trial = Trial(one_step(rows[row]), seed=0, folder=str(tmp_path / row), shared=str(tmp_path), data=data)
        report = trial.advance()
        assert report["outcome"] == "finished"
    printed = [key for key, _ in pair.tables[0].columns]
    assert set(printed) <= report["metrics"].keys()
    assert [key for key in printed if "/iou/" not in key] == ([] if mean is None else [f"student/{mean}"])


def one_step(config: Experiment) -> Experiment:
    """The config with a schedule of one step."""
    schedule = replace(config.schedule, steps=1, warmup_steps=0)
    return replace(config, schedule=schedule, evaluation=replace(config.evaluation, interval=1))


@pytest.mark.slow
def test_a_store_of_another_data_set_is_told_as_such(
    stores: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And not as columns that are no metrics of its classes."""
    data = [f"camvid-seven={stores['camvid-day']}", f"idd-lite={stores['idd-lite']}"]
    assert run.main(["cities_camvid_idd", "--plan", "--data", *data]) == 2
    assert capsys.readouterr().err.endswith("camvid-day must be a store of camvid-seven, but is one of camvid-day.\n")
