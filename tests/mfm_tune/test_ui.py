"""`python -m mfm_tune.ui`: a closed server on loopback, links that land, a storage folder that was moved."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mfm_tune import ui
from mfm_tune.errors import OptionError, StorageError
from mfm_tune.ledger.cells import declared_cells
from mfm_tune.ledger.records import trial_key
from mfm_tune.ledger.state import read_ledger
from mfm_tune.tracking.first_page import SCRIPT
from mfm_tune.tracking.links import Link, links
from mfm_tune.tracking.mirror import Target, caught_up, ledger_identity, quiet_environment
from mfm_tune.tracking.runs import trial_run_key
from mfm_tune.tracking.server import server, wait_until_gone
from mfm_tune.tracking.views import View, reads_views
from tests.mfm_tune.tracking.tracking_ledger import DACS, DATA, FINGERPRINT, Fiction, expected, rows, stored, write
from tests.mfm_tune.tracking.tracking_places import Shown, asked, dead_address, no_web_server


def links_of(shown: Shown) -> list[Link]:
    """The links that the command prints."""
    ledger = shown.storage / "ledger.jsonl"
    return links(read_ledger(ledger), ledger_identity(ledger), shown.address)


def test_a_link_for_each_table(shown: Shown) -> None:
    """Three links a table, failures, pictures; each by filter, and to the saved view of this experiment."""
    found = {link.text: link for link in links_of(shown)}
    assert list(found) == [
        *(f"fiction (a) Width: {kind}" for kind in ("cells", "seeds", "curves")),
        *(f"fiction (b) Case: {kind}" for kind in ("cells", "seeds", "curves")),
        "failures",
        "pictures",
    ]
    assert all("viewStateShareKey=mfm-" in str(link.view) for link in found.values())
    assert all("searchFilter=" in link.address for link in found.values())


def test_filters_find_what_the_links_promise(shown: Shown) -> None:
    """The filters are valid for this MLflow, and find the runs of their table."""
    from mfm_tune.tracking.views import ViewKind, failures_view, pictures_view, table_view

    study = read_ledger(shown.storage / "ledger.jsonl").studies["fiction", "smoke"]
    name = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=shown%20(smoke)"
    experiment = asked(shown.address, name)["experiment"]["experiment_id"]

    def count(search: str, order: str) -> int:
        body = {"experiment_ids": [experiment], "filter": search, "order_by": [order], "max_results": 100}
        return len(asked(shown.address, "/api/2.0/mlflow/runs/search", body).get("runs", []))

    counts = {
        (table["name"], kind): count(view.search, f"{view.order} ASC")
        for table in study["tables"]
        for kind in ViewKind
        for view in [table_view(study, table, kind)]
    }
    cells, seeds, curves = ViewKind.CELLS, ViewKind.SEEDS, ViewKind.CURVES
    assert counts == {
        ("a", cells): 2, ("a", seeds): 6, ("a", curves): 6,
        ("b", cells): 2, ("b", seeds): 4, ("b", curves): 4,  # two ended early
    }  # fmt: skip
    found = {
        level: count(f"params.`{axis}` = '{level}'", "attributes.start_time ASC")
        for axis, level in (("dim", "128"), ("dim", "256"), ("case", "Baseline"), ("case", "none"))
    }
    assert found == {"128": 4, "256": 4, "Baseline": 4, "none": 0}  # three trials and the cell
    assert count("datasets.name = 'stubs' AND datasets.context = 'evaluation'", "attributes.start_time ASC") == 12
    assert count("params.dim_trained = '8' AND tags.`mfm.kind` = 'cell'", "params.dim ASC") == 1
    assert count(failures_view().search, f"{failures_view().order} DESC") == 2
    assert count(pictures_view({}).search, pictures_view({}).order) == 12


def test_a_trial_stands_below_its_cell_and_the_cell_below_its_study(shown: Shown) -> None:
    """On the page of all runs."""
    ledger = ledger_identity(shown.storage / "ledger.jsonl")  # other tests use the server too
    query = """SELECT k.run_uuid, k.value FROM tags k JOIN tags l ON l.run_uuid = k.run_uuid AND l.key = 'mfm.ledger'
        WHERE k.key = ? AND l.value = ?"""
    names = dict(rows(shown.database, query, "mfm.key", ledger))
    found = rows(shown.database, query, "mlflow.parentRunId", ledger)
    parents = {names[run]: names[parent] for run, parent in found}
    study = "study/fiction/smoke"
    assert parents["cell/fiction/smoke/a/128"] == study
    assert parents[f"trial/{trial_key('000000000128', 0, FINGERPRINT)}"] == "cell/fiction/smoke/a/128"
    assert parents[f"trial/{trial_key(DACS, 1, FINGERPRINT)}"] == "cell/fiction/smoke/b/Baseline"
    assert study not in parents


def test_another_version_gets_plain_filters(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the views' form was not tried, there are the links that carry their filters themselves."""
    monkeypatch.setattr("mfm_tune.tracking.links.server_version", lambda _: "4.0.1")
    found = links_of(shown)
    assert found
    assert all("searchFilter=" in link.address and "viewStateShareKey" not in link.address for link in found)
    assert all(link.view is None for link in found)


@pytest.mark.parametrize(("version", "reads"), [("3.17.2", True), ("3.18.0", False), ("", False), ("x", False)])
def test_which_versions_read_our_views(version: str, reads: bool) -> None:
    """Only those that were tried."""
    assert reads_views(version) is reads


def test_pages_open_for_training_unless_the_user_chose_otherwise(shown: Shown) -> None:
    """The first page has the choices before its own scripts."""
    with urllib.request.urlopen(f"{shown.address}/") as answer:
        text = answer.read().decode()
    assert text.index(SCRIPT) < text.index("<script defer")
    assert '"mlflow.workflowType_v1": "machine_learning"' in SCRIPT


def test_a_moved_storage_shows_its_artefacts(shown: Shown) -> None:
    """The folder was made elsewhere and moved: report, config, pictures and matrix of the runs are still served."""
    query = """SELECT k.run_uuid FROM tags k JOIN tags l ON l.run_uuid = k.run_uuid AND l.key = 'mfm.ledger'
        WHERE k.key = 'mfm.key' AND k.value LIKE ? AND l.value = ?"""
    ledger = ledger_identity(shown.storage / "ledger.jsonl")  # other tests use the server too
    ((study,),) = rows(shown.database, query, "study/fiction/smoke", ledger)
    ((trial,),) = rows(shown.database, query, f"trial/{DACS}-s0%", ledger)
    listed = asked(shown.address, f"/api/2.0/mlflow/artifacts/list?run_id={study}")["files"]
    assert [file["path"] for file in listed] == ["report.html"]
    with urllib.request.urlopen(f"{shown.address}/get-artifact?path=report.html&run_uuid={study}") as answer:
        assert b"The report of a made-up study" in answer.read()
    images = asked(shown.address, f"/api/2.0/mlflow/artifacts/list?run_id={trial}&path=images")["files"]
    assert len(images) == 6  # three steps, each with its thumbnail
    with urllib.request.urlopen(f"{shown.address}/get-artifact?path=confusion/student.json&run_uuid={trial}") as answer:
        assert json.load(answer)["columns"][0] == "label \\ prediction"


def test_the_server_is_closed(shown: Shown) -> None:
    """It listens on loopback alone, and the routes that could run something on this machine are not there."""
    port = int(shown.address.rpartition(":")[2])
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {entry[1].split(":")[0] for entry in sockets if entry[3] == "0A" and int(entry[1][-4:], 16) == port}
    assert listening == {"0100007F"}
    for path in ("/ajax-api/3.0/mlflow/assistant/config", "/v1/traces", "/gateway/"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{shown.address}{path}")
        assert caught.value.code in (404, 405)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1:{}", 200),
        ("localhost:8080", 200),
        ("192.168.0.1:{}", 403),
        ("10.0.0.1", 403),
        ("evil.example:{}", 403),
    ],
)
def test_the_server_answers_to_the_names_of_loopback_alone(shown: Shown, host: str, answer: int) -> None:
    """So no page of a stranger reads or changes the mirror by making its own name, or a private address, ours. A tunnel
    from another machine may end at another port."""
    port = int(shown.address.rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host.format(port)})
    assert connection.getresponse().status == answer
    connection.close()


def test_a_server_that_runs_already_is_only_linked(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    """With --tracking-uri the links are printed, and nothing is started."""
    assert ui.main(["--storage", str(shown.storage), "--tracking-uri", shown.address]) == 0
    assert f"{shown.address}/#/experiments/" in capsys.readouterr().out


@pytest.mark.slow
def test_the_address_is_printed_before_the_ledger_is_delivered(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process delivers meanwhile; the links come when it is done, and it ends with the command, as that does
    where its server is killed."""
    path = write(tmp_path, Fiction(benchmark="shown").events())
    delivered = []

    @contextmanager
    def server_at_once(target: Target, port: int) -> Iterator[str]:
        delivered.append(caught_up(target))
        assert target.database is not None
        rows(target.database, "SELECT run_uuid FROM tags")  # made by then
        yield shown.address

    monkeypatch.setattr(ui, "server", server_at_once)
    monkeypatch.setattr(ui, "wait_until_gone", lambda _: delivered.append(caught_up(Target(tmp_path))))
    with pytest.raises(StorageError, match=r"MLflow's server at .* ended; give the command again"):
        ui.show(Target(tmp_path), 0)
    assert delivered == [False, True]
    assert stored(tmp_path / "mlflow.db") == expected(path)
    said = capsys.readouterr().out
    assert re.search(rf"MLflow for .*: {shown.address} .*\nIts pages fill .*\n  fiction \(a\) Width: cells", said)


@pytest.mark.slow
def test_the_command_ends_on_ctrl_c_and_leaves_nothing(shown: Shown, tmp_path: Path) -> None:
    """It prints its links, ends with code 0 on Ctrl-C, and its server with it."""
    storage = shutil.copytree(shown.storage, tmp_path / "copy")
    command = [sys.executable, "-m", "mfm_tune.ui", "--storage", str(storage)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=quiet_environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip().startswith("pictures"):
            break
    port = re.search(r"http://127\.0\.0\.1:(\d+)", lines[0])
    assert port is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port.group(1)}/health", timeout=5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "There is no ledger in"),
        (["--tracking-uri", "here"], "--tracking-uri must be"),
        (["--tracking-uri", "http://127.0.0.1:port"], "--tracking-uri must be"),
        (["--port", "x"], "--port"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    """Exit code 2, one line, no traceback."""
    assert ui.main(["--storage", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_a_server_that_is_killed_is_noticed() -> None:
    """While it listens it is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        waiting = threading.Thread(target=wait_until_gone, args=(address, 0.01), daemon=True)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_port_that_is_taken_is_refused(shown: Shown) -> None:
    """The sentence names the port."""
    port = int(shown.address.rpartition(":")[2])
    with pytest.raises(OptionError, match=f"--port {port} cannot be had"), server(Target(shown.storage), port):
        pass


@pytest.mark.parametrize("other", [dead_address, no_web_server])
def test_a_server_that_does_not_answer_is_named(
    other: Callable[[], str | AbstractContextManager[str]], tmp_path: Path
) -> None:
    """Links to an address where nothing listens, or something else than a web server, are refused in a sentence."""
    path, made = write(tmp_path, Fiction(seeds=1).events()), other()
    with (
        nullcontext(made) if isinstance(made, str) else made as address,
        pytest.raises(StorageError, match="does not answer as it should"),
    ):
        links(read_ledger(path), ledger_identity(path), address)


def test_a_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The server needs a place for its log: one sentence with the path that cannot be had."""
    (tmp_path / "tracking").write_text("no folder")
    sentence = rf"did not start \(File exists: {tmp_path}/tracking\); make"
    with pytest.raises(StorageError, match=sentence), server(Target(tmp_path)):
        pass


# -- a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def chromium() -> str:
    """Headless Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium, which is not installed")
    return found


def page(chromium: str, address: str, profile: Path, wanted: str, size: str = "1500,1000") -> str:
    """The text of a page once it holds what is wanted, tags included; the browser is given a few tries."""
    text = ""
    for budget in (15_000, 40_000, 80_000):
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"),
            *(f"--window-size={size}", f"--virtual-time-budget={budget}", "--dump-dom", address),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, "LANG": "C"})
        text = done.stdout
        if wanted in text:
            return text
        time.sleep(1)
    return text


@pytest.mark.slow
@pytest.mark.browser
def test_each_link_lands_on_its_view(shown: Shown, chromium: str, tmp_path: Path) -> None:
    """In the browser, each table's view shows the table's runs, grouped where it says so, and its charts."""
    found = {link.text: str(link.view) for link in links_of(shown)}
    for letter, name, levels in (("a", "Width", ("128", "256")), ("b", "Case", ("Baseline", "Masking + Rebuilding"))):
        axis = {"a": "dim", "b": "case"}[letter]
        table = f"fiction ({letter}) {name}"
        cells = page(chromium, found[f"{table}: cells"], tmp_path / "profile", "matching run")
        assert all(f"{letter}/{axis} {level}" in cells or "Masking" in level for level in levels)
        assert f"{table}: cells" in cells  # the view's name stands in the menu
        assert re.search(r">2<[^>]*>? *(<[^>]*>)* *matching runs", cells)
        seeds = page(chromium, found[f"{table}: seeds"], tmp_path / "profile", "Group: ")
        assert all(f"Group: {level}" in re.sub(r"<[^>]*>", "", seeds) for level in levels[:1])
        curves = page(chromium, found[f"{table}: curves"], tmp_path / "profile", "teacher/miou")
        assert "student/miou" in curves
        assert "js-plotly-plot" in curves
    ((trial,),) = rows(
        shown.database, "SELECT run_uuid FROM tags WHERE key = 'mlflow.runName' AND value = 'a/dim 128/s0'"
    )
    run = page(chromium, f"{found['failures'].split('?')[0]}/{trial}", tmp_path / "profile", "dim_trained")
    assert "dim_trained" in run
    assert "Evaluations" not in run  # what the page is called among the tabs for language models
    assert "collects usage data" not in run
    failures = page(chromium, found["failures"], tmp_path / "profile", "matching runs")
    assert "DACS/s1" in failures
    assert "default/s2" in failures
    pictures = page(chromium, found["pictures"], tmp_path / "profile", "prediction-0")
    assert "get-artifact" in pictures or "blob:" in pictures or "<img" in pictures


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("axis", "level"), [("dim", "128"), ("case", "Baseline")])
def test_search_by_a_printed_level_finds_what_the_table_shows(
    axis: str, level: str, shown: Shown, chromium: str, tmp_path: Path
) -> None:
    """In the browser: the runs of the row's trials, as the ledger has them, and the row itself; no other."""
    state = read_ledger(shown.storage / "ledger.jsonl")
    row = next(cell for cell in declared_cells(state.studies["fiction", "smoke"]) if cell.level == level)
    assert row.axis == axis
    trials = [trial_run_key(key) for key, record in state.trials.items() if record.config_id == row.config_id]
    assert len(trials) == 3
    query = """SELECT k.run_uuid FROM tags k JOIN tags l ON l.run_uuid = k.run_uuid AND l.key = 'mfm.ledger'
        WHERE k.key = 'mfm.key' AND k.value = ? AND l.value = ?"""
    ledger = ledger_identity(shown.storage / "ledger.jsonl")
    wanted = {rows(shown.database, query, key, ledger)[0][0] for key in (*trials, row.key)}
    search = View(key="", name="", search=f"params.`{axis}` = '{level}'", order="tags.`mfm.key`")
    experiment = links_of(shown)[0].address.split("/experiments/")[1].partition("/")[0]
    found = page(chromium, f"{shown.address}{search.link(experiment, saved=False)}", tmp_path, "matching run")
    assert set(re.findall(r"/runs/([0-9a-f]{32})", found)) == wanted
    assert re.search(r">4<[^>]*>? *(<[^>]*>)* *matching runs", found)


@pytest.mark.slow
@pytest.mark.browser
def test_pages_show_data_sets_and_models(shown: Shown, chromium: str, tmp_path: Path) -> None:
    """The page of a trial that was exported has both, and the page of models has its name and scores."""
    address = links_of(shown)[0].address.partition("/runs?")[0]
    ((run,),) = rows(shown.database, "SELECT source_run_id FROM logged_models WHERE artifact_location LIKE '%shown%'")
    text = page(chromium, f"{address}/runs/{run}", tmp_path, "DACS-s0")
    plain = re.sub(r"<[^>]*>", "", text)
    assert "DACS-s0" in plain  # among logged models
    assert f"{DATA[0]['name']} ({DATA[0]['digest']})" in plain
    models = re.sub(r"<[^>]*>", "", page(chromium, f"{address}/models", tmp_path, "DACS-s0"))
    assert "DACS-s0" in models
    assert "DACS/s0" in models  # the run that it comes from
