"""Saved views as data: what MLflow's UI stores, and the links that open them."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from mfm_tune.report.pictures import _picture
from mfm_tune.tracking.pictures import MONTAGE, confusion_files, picture_files, picture_name
from mfm_tune.tracking.printed import printed_numbers
from mfm_tune.tracking.views import (
    ViewKind,
    experiment_note,
    experiment_views,
    failures_view,
    pictures_view,
    table_view,
    table_views,
)
from tests.mfm_tune.tracking.tracking_ledger import Fiction

STUDY = Fiction().study()
LEDGER = "0123456789ab"
LIMIT = 20_000  # characters that an experiment's tag takes


def unpacked(tag: str) -> dict[str, Any]:
    """A saved view's state."""
    kind, _, packed = json.loads(tag)["state"].partition(";")
    assert kind == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_each_table_has_three_views_that_fit() -> None:
    """Cells, seeds and curves of both tables, under keys of ours, small enough to be stored, names unique."""
    tags = table_views(STUDY, ["a", "b"], LEDGER)
    assert sorted(tags) == sorted(
        f"mlflow.sharedViewState.mfm-fiction-{table}-{kind.value}-{LEDGER}" for table in "ab" for kind in ViewKind
    )
    assert max(map(len, tags.values())) < LIMIT
    assert len({json.loads(tag)["name"] for tag in tags.values()}) == 6


def test_only_the_tables_that_stand_in_an_experiment_get_views() -> None:
    """A table whose configs are of another benchmark has none here."""
    assert all("-b-" in tag for tag in table_views(STUDY, ["b"], LEDGER))


def test_groups_are_levels_and_take_finished_trials_only() -> None:
    """The seeds' view averages by the table's level, and a stopped trial never enters its average."""
    view = table_view(STUDY, STUDY["tables"][0], ViewKind.SEEDS)
    state = unpacked(view.tag(1)[1])
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "mfm.in.fiction.a"}]
    assert "tags.`mfm.outcome` = 'finished'" in state["searchFilter"]
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["final/student/miou", "final/teacher/miou"]


def test_writing_a_view_twice_gives_the_same_text() -> None:
    """The mirror compares texts to write a view only where it changed."""
    assert table_views(STUDY, ["a"], LEDGER) == table_views(STUDY, ["a"], LEDGER)
    assert experiment_views({"mixed": 10}, [STUDY], LEDGER) == experiment_views({"mixed": 10}, [STUDY], LEDGER)


@pytest.mark.parametrize("kind", list(ViewKind))
def test_links_lead_to_view_or_filter(kind: ViewKind) -> None:
    """The saved link names the key and no filter, beside which MLflow would not look at it; the plain one filters."""
    view = table_view(STUDY, STUDY["tables"][0], kind)
    saved = parse_qs(urlsplit(urlsplit(view.link("7", saved=True)).fragment).query)
    assert saved["viewStateShareKey"] == [view.key]
    assert "searchFilter" not in saved
    assert saved["workflowType"] == ["machine_learning"]
    plain = parse_qs(urlsplit(urlsplit(view.link("7", saved=False)).fragment).query)
    assert plain["searchFilter"] == [view.search]
    assert plain["orderByKey"] == [view.order]


def test_curves_are_followed_by_pseudo_labels_where_they_were_measured() -> None:
    """Over all classes beside the learning curves; by class below, coverage and precision side by side, all stored."""
    classes = [f"class {number}" for number in range(19)]
    names = [
        f"pseudo_label/{kind}{name}"
        for kind in ("precision", "coverage")
        for name in ("", *(f"/{each}" for each in classes))
    ]
    key, tag = table_view(STUDY, STUDY["tables"][0], ViewKind.CURVES, names).of(LEDGER).tag(STUDY["time"])
    assert table_views(STUDY, ["a"], LEDGER, names)[key] == tag
    assert len(tag) < LIMIT
    state = unpacked(tag)
    sections = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    assert sections == {"main": "Main", "by-class": "Pseudo-labels by class"}
    shown = [(chart["metricSectionId"], chart["metricKey"]) for chart in state["compareRunCharts"]]
    assert shown[:6] == [
        ("main", "student/miou"),
        ("main", "teacher/miou"),
        ("main", "pseudo_label/coverage"),
        ("main", "pseudo_label/precision"),
        ("by-class", "pseudo_label/coverage/class 0"),
        ("by-class", "pseudo_label/precision/class 0"),
    ]
    assert {key for _, key in shown[2:]} == set(names)
    plain = unpacked(table_view(STUDY, STUDY["tables"][0], ViewKind.CURVES).tag(1)[1])
    assert [section["uuid"] for section in plain["compareRunSections"]] == ["main"]
    many = [*names, *(f"pseudo_label/coverage/{'class ' * 5}{number}" for number in range(400))]
    _, tag = table_view(STUDY, STUDY["tables"][0], ViewKind.CURVES, many).tag(1)
    assert len(tag) < LIMIT
    assert [chart["metricKey"] for chart in unpacked(tag)["compareRunCharts"]] == [key for _, key in shown[:4]]


def test_failures_and_pictures() -> None:
    """Failures leave out what finished and what runs; the pictures' view names pictures and their steps."""
    assert "!= 'finished'" in failures_view().search
    state = unpacked(pictures_view({"mixed": 700, "source": 700}).tag(1)[1])
    assert [(chart["imageKeys"], chart["step"]) for chart in state["compareRunCharts"]] == [
        (["mixed"], 700),
        (["source"], 700),
    ]


def test_the_note_links_each_table() -> None:
    """What stands above the runs leads to every table."""
    note = experiment_note("3", [STUDY], LEDGER, saved=True)
    for table in STUDY["tables"]:
        assert f"mfm-fiction-{table['name']}-cells" in note


def test_the_note_links_filters_where_views_are_not_read() -> None:
    """By another version of MLflow."""
    note = experiment_note("3", [STUDY], LEDGER, saved=False)
    assert note.count("searchFilter=") == 7
    assert "viewStateShareKey" not in note


def test_the_note_of_many_studies_fits() -> None:
    """Tables that have no room are counted; they have their views all the same."""
    studies = [{**STUDY, "study": f"study-{number}"} for number in range(100)]
    note = experiment_note("3", studies, LEDGER, saved=True)
    assert len(note) < LIMIT
    assert "study-5-a-cells" in note
    assert re.search(r"and \d+ tables more", note)
    assert "mfm-failures" in note


def test_pictures_have_names_that_a_replay_repeats() -> None:
    """The uuid in a name follows from trial, name and step, in the form that MLflow's grid reads."""
    name = picture_name("key", "prediction-0", 10, 5)
    assert name == picture_name("key", "prediction-0", 10, 5)
    assert name != picture_name("other", "prediction-0", 10, 5)
    assert name.startswith("images/prediction-0+step+10+timestamp+5+")


def test_pictures_of_a_trial_are_shown_together(tmp_path: Path) -> None:
    """In one montage, about square, large, without the palette; the pictures' view shows it alone."""
    names = [f"{kind}-{number}" for number in range(3) for kind in ("image", "label", "prediction")]
    names += ["source", "target", "mixed", "pseudo-label"]
    for name in (*names, "palette"):
        Image.new("RGB", (64, 32), "red" if name == "label-0" else "blue").save(tmp_path / f"{name}.png")
    report = {"pictures": {name: f"{name}.png" for name in (*names, "palette")}, "step": 10, "time": 5}
    files = picture_files("key", report, tmp_path)
    with Image.open(io.BytesIO(files[f"{picture_name('key', MONTAGE, 10, 5)}.png"])) as whole:
        width, height = whole.size
        assert max(width, height) > 1000
        assert 0.8 <= width / height <= 1.25
        row = [whole.getpixel((width * column // 3 + width // 6, 5)) for column in range(2)]
    assert row == [(0, 0, 255), (255, 0, 0)]
    (chart,) = unpacked(pictures_view({MONTAGE: 10, **dict.fromkeys(names, 10)}).tag(1)[1])["compareRunCharts"]
    assert chart["imageKeys"] == [MONTAGE]


def broken_pictures() -> dict[str, bytes]:
    """Files that are no PNG, half of one, or one with other bytes in it."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "png")
    whole = buffer.getvalue()
    data = whole.index(b"IDAT")
    piece = whole[data : data + 8]  # what follows is no name of a chunk
    garbled = (
        whole[: data - 4] + b"\0\0\0\4" + piece + zlib.crc32(piece).to_bytes(4, "big") + b"\0\0\0\4" + b"\xff" * 12
    )
    return {"text": b"no picture", "half": whole[: data + 9], "garbled": garbled, "empty": b""}


@pytest.mark.parametrize("kind", ["text", "half", "garbled", "empty"])
def test_a_broken_picture_is_left_out(kind: str, tmp_path: Path) -> None:
    """By the mirror, and by the report: neither ends with it."""
    (tmp_path / "image-0.png").write_bytes(broken_pictures()[kind])
    report = {"pictures": {"image-0": "image-0.png"}, "step": 10, "time": 5}
    assert picture_files("key", report, tmp_path) == {}
    assert _picture(tmp_path, {"image-0": Path("image-0.png")}, "image-0", "", "") is None


def test_a_confusion_matrix_is_a_table_of_counts() -> None:
    files = confusion_files({"student": [[4, 0], [0, 0]]}, ("road", "car"))
    assert json.loads(files["confusion/student.json"])["data"] == [["road", 4, 0], ["car", 0, 0]]
    assert files.keys() == {"confusion/student.json"}


def test_a_cells_numbers_are_printed_as_in_a_table() -> None:
    """Rounded, with the interval of a difference; a dash before the first finished seed."""
    numbers = {"n_seeds": 3.0, "mean": 55.14159, "std": 0.449, "paper": 55.9, "minus DACS": -1.26}
    ends = {"minus DACS/low": -4.91, "minus DACS/high": 2.39}
    tags = printed_numbers(numbers | ends, "student/miou")
    assert tags == {"mfm.mean": "55.1 ± 0.4", "mfm.minus DACS": "−1.3 [−4.9, +2.4]"}
    assert printed_numbers({"n_seeds": 1.0, "mean": 55.0}, "student/miou") == {"mfm.mean": "55.0"}
    assert printed_numbers({}, "student/miou") == {"mfm.mean": "–"}
    entropy = {"mean": 0.2418, "std": 0.004, "minus DACS": -0.0602}
    tags = printed_numbers(entropy, "criterion/entropy")
    assert tags == {"mfm.mean": "0.242 ± 0.004", "mfm.minus DACS": "−0.060"}
