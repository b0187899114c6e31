"""A Ray of our own: who may use it, where its files lie, and what is said when it does not start or is lost."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mfm_tune.errors import OptionError, UserError
from mfm_tune.tune.environment import check_process, set_environment
from mfm_tune.tune.folder import LONGEST, private_folder
from mfm_tune.tune.reach import check_address
from tests.mfm_tune.stub_launch import REPOSITORY, Launched, processes_with
from tests.mfm_tune.stub_space import write_space

SLOW = 'STUDY = study("smoke", make=lambda v: StubConfig(level=v, steps=4000, interval=2, sleep_s=0.05), seeds=(0,))'
VISITOR = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print("ran", ray.get(ray.remote(lambda: "here").options(num_cpus=0).remote(), timeout=60))
"""


# --------------------------------------------------------------------------------------------------------------------
# What the environment asks of it
# --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An empty environment of a process that has not imported ray."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr("os.environ", empty := {})
    return empty


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": ""},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": " "},
        {"RAY_AUTH_MODE": "Token", "RAY_AUTH_TOKEN_PATH": "/of/nobody"},
        {"RAY_ENABLE_K8S_TOKEN_AUTH": "true"},
    ],
)
def test_a_local_ray_has_a_token_whatever_the_environment_says(
    environment: dict[str, str], given: Mapping[str, str]
) -> None:
    """One that only this run knows, given in the environment, so that Ray writes none into the home directory."""
    environment |= given
    set_environment(None)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_ENABLE_K8S_TOKEN_AUTH" not in environment


def test_what_the_user_has_set_for_ray_stays_where_it_opens_nothing(environment: dict[str, str]) -> None:
    """A token of the user's is used, usage reports are the user's choice, and a cluster is as its owner says."""
    environment |= {"RAY_USAGE_STATS_ENABLED": "1", "RAY_AUTH_TOKEN": "ours"}
    set_environment(None)
    assert (environment["RAY_USAGE_STATS_ENABLED"], environment["RAY_AUTH_TOKEN"]) == ("1", "ours")
    environment.clear()
    set_environment("10.0.0.1:6379")
    assert "RAY_AUTH_MODE" not in environment
    assert "RAY_AUTH_TOKEN" not in environment
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"


def test_an_address_that_is_looked_up_is_this_machines(environment: dict[str, str]) -> None:
    """`--address auto` is asked for, and wins against what Ray would take instead."""
    environment["RAY_ADDRESS"] = "10.0.0.1:6379"
    set_environment("auto")
    assert "RAY_ADDRESS" not in environment


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_a_misspelt_mode_of_authentication_is_refused(environment: dict[str, str], address: str | None) -> None:
    """Ray would take it for none, without a word."""
    environment["RAY_AUTH_MODE"] = "tokens"
    with pytest.raises(OptionError, match="RAY_AUTH_MODE must be token or disabled, got 'tokens'"):
        set_environment(address)


# --------------------------------------------------------------------------------------------------------------------
# Its folder
# --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        yield Path(folder)


HOLD = """
import sys, time
from mfm_tune.tune.folder import private_folder
with private_folder() as folder:
    folder.mkdir()
    (folder / "session").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a private folder, and that folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip()).parent
    finally:
        process.kill()
        process.communicate()


def test_nobody_else_enters_the_folder_and_nothing_of_it_is_left(short: Path) -> None:
    """Ray makes what it is given writable for all; it lies within a folder that is its owner's alone."""
    with private_folder() as folder:
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.parent.parent == short
    assert list(short.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next_run_and_nothing_else_does(short: Path) -> None:
    """Not the folder of a run that goes on, nor one of that name which is no run's."""
    (short / "mfm-ray-mine").mkdir(mode=0o700)
    (short / "mfm-ray-mine" / "notes").touch()
    (short / "mfm-ray-link").symlink_to(short / "mfm-ray-mine")
    with holder() as (killed, left), holder() as (_, held):
        killed.kill()
        killed.wait()
        assert left.exists()
        with private_folder() as folder:
            others = {path.name for path in short.iterdir()} - {folder.parent.name}
        assert others == {held.name, "mfm-ray-mine", "mfm-ray-link"}
        assert (held / "r" / "session").exists()
    assert (short / "mfm-ray-mine" / "notes").exists()


def test_a_folder_of_another_user_is_left_alone(short: Path) -> None:
    """Whatever lies in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder away")
    with holder() as (killed, left):
        os.chown(left, 65534, 65534)
        killed.kill()
        killed.wait()
    with private_folder():
        assert left.exists()


def test_a_temporary_folder_that_is_too_long_for_sockets_is_gone_round(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's may be long; one that is named for Ray is refused in a sentence."""
    long = short / ("l" * LONGEST)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", None)
    with private_folder() as folder:
        assert folder.parent.parent == Path("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with (
        pytest.raises(OptionError, match=rf"RAY_TMPDIR must be an absolute path of at most {LONGEST} bytes"),
        private_folder(),
    ):
        pass
    monkeypatch.setenv("RAY_TMPDIR", str(short / "no"))
    with (
        pytest.raises(UserError, match=r"\(/tmp/.*/no: No such file or directory\); set RAY_TMPDIR"),
        private_folder(),
    ):
        pass


# --------------------------------------------------------------------------------------------------------------------
# A real one
# --------------------------------------------------------------------------------------------------------------------


class Driver:
    """`mfm_tune.run` on a slow study, in a process of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.storage = folder / "storage"
        self.mark = str(folder)
        self.before = self.reports()
        command = [sys.executable, "-m", "mfm_tune.run", str(write_space(folder, SLOW)), "--storage", str(self.storage)]
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [*command, "--no-tracking"], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**known, "STUB_LAUNCH": self.mark, **environment},
        )  # fmt: skip

    def trains(self) -> bool:
        """Whether a first report of its own came; it must not have ended."""
        assert self.process.poll() is None, self.process.communicate()
        return self.reports() > self.before

    def reports(self) -> int:
        """How many reports the ledger has."""
        ledger = self.storage / "ledger.jsonl"
        return ledger.read_text().count('"report"') if ledger.exists() else 0

    def part(self, program: str) -> int:
        """The process id of the raylet or the GCS that it started."""
        started = processes_with("STUB_LAUNCH", self.mark)
        return next(
            pid
            for pid in started
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(program.encode())
        )

    def gone(self) -> bool:
        """Whether it and all that it started have ended."""
        return processes_with("STUB_LAUNCH", self.mark) == []


def visit(port: str, **environment: str) -> bool:
    """Whether a Ray on this machine runs a task of another process."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "-c", VISITOR, f"127.0.0.1:{port}"], capture_output=True, text=True,
        env={**known, **environment, "RAY_NUM_REDIS_GET_RETRIES": "2"},
    )  # fmt: skip
    return "ran here" in ran.stdout


def wait_until(holds: Callable[[], bool], *, seconds: float = 240) -> None:
    """Wait for something that will be so, or fail."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_ray_is_closed_to_strangers_and_leaves_nothing_behind(short: Path, tmp_path: Path) -> None:
    """In an environment that asks for no authentication: a stranger gets no task in, other users see no socket, no
    token is written into the home directory, and the next run removes what a killed one has left."""
    home = tmp_path / "home"
    home.mkdir()
    asked = {"HOME": str(home), "TMPDIR": str(short), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    driver = Driver(tmp_path, **asked)
    wait_until(driver.trains)
    folder = next(short.glob("mfm-ray-*"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.glob("r/session_*/sockets/raylet*"))
    environ = Path(f"/proc/{driver.part('gcs_server')}/environ").read_text().split("\0")
    token = next(line.removeprefix("RAY_AUTH_TOKEN=") for line in environ if line.startswith("RAY_AUTH_TOKEN="))
    port = next(folder.glob("r/session_*/gcs_server_port_*")).read_text()
    assert visit(port, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    assert not visit(port, RAY_AUTH_MODE="disabled")
    assert not visit(port, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="5" * 64)
    driver.process.kill()
    driver.process.communicate()
    assert folder.exists()
    wait_until(driver.gone)

    again = Driver(tmp_path, **asked)
    wait_until(again.trains)
    assert not folder.exists()
    again.process.send_signal(signal.SIGTERM)
    again.process.communicate(timeout=240)
    assert again.process.returncode == 128 + signal.SIGTERM
    wait_until(again.gone)
    assert list(short.glob("mfm-ray-*")) == []
    assert {path.name for path in home.iterdir()} <= {".cache", ".config"}  # matplotlib's own, of fonts
    assert [path for path in home.rglob("*") if "ray" in path.name or "token" in path.name] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", ["gcs_server", "raylet"])
def test_a_part_of_ray_that_is_killed_ends_the_run_with_a_sentence(program: str, tmp_path: Path) -> None:
    """Instead of a line of Ray's log; no outcome is made up, and nothing is left running."""
    driver = Driver(tmp_path)
    wait_until(driver.trains)
    os.kill(driver.part(program), signal.SIGKILL)
    _, said = driver.process.communicate(timeout=240)
    assert driver.process.returncode == 1
    assert re.fullmatch(
        r"Ray's (GCS|raylet) at \S+:\d+ does not answer any more: it was killed, .* give the same command again\.\n",
        said,
    )
    assert Launched(driver.storage).keys_of("end") == []
    wait_until(driver.gone)


# --------------------------------------------------------------------------------------------------------------------
# What cannot be started or joined
# --------------------------------------------------------------------------------------------------------------------


def refusal(
    folder: Path, *options: str, within: Sequence[str] = (), flags: Sequence[str] = (), **environment: str
) -> tuple[str, str]:
    """What a command prints that is refused with one sentence, and that sentence."""
    python = [*within, sys.executable, *flags, "-m", "mfm_tune.run"]
    command = [*python, str(write_space(folder, SLOW)), "--no-tracking", *options]
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*command, "--storage", str(folder / "storage")], cwd=REPOSITORY, capture_output=True, text=True,
        env={**known, "PYTHONPATH": str(REPOSITORY), **environment}, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stdout, done.stderr


def test_a_start_that_takes_too_long_is_said_in_a_sentence(tmp_path: Path) -> None:
    """By what Ray raises when it may not wait at all, in the second try, too."""
    _, said = refusal(tmp_path, RAY_gcs_server_port_wait_time_s="0")
    assert said.startswith("Ray did not start on this machine within its time, in two tries")


def test_without_a_loopback_device_ray_is_not_started(tmp_path: Path) -> None:
    """Its processes would wait for each other for minutes."""
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("needs network namespaces (unshare --net)")
    _, said = refusal(tmp_path, within=alone)
    assert "127.0.0.1 cannot be reached (Network is unreachable); bring the loopback device up" in said


def test_a_python_that_leaves_out_docstrings_is_refused_before_ray_stumbles_over_it(tmp_path: Path) -> None:
    """Ray cannot be imported by it."""
    _, said = refusal(tmp_path, flags=["-OO"])
    assert said.startswith("Ray reads docstrings, which python -OO leaves out; run python with -O or none")


def test_a_user_with_too_few_threads_is_refused_before_ray_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes could not start, and nothing would say so. The limit does not hold for root."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (60, 60))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match=r"\(ulimit -u\) is 60, and Ray needs some 250 .* give --inline"):
        check_process()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_process()


def test_a_deleted_working_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Relative paths lead nowhere, those of imports included; Ray's processes would start in it."""
    deleted = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'
    _, said = refusal(tmp_path, within=["sh", "-c", deleted, str(tmp_path / "gone")])
    assert said.startswith("The working directory was deleted; change to another folder.")


def test_an_address_where_nothing_listens_is_refused_before_ray_waits_for_it(tmp_path: Path) -> None:
    """Ray alone asks again and again for minutes."""
    _, said = refusal(tmp_path, "--address", "127.0.0.1:1")
    assert said.startswith("--address 127.0.0.1:1 cannot be joined: Connection refused; start the cluster")


def test_a_cluster_that_the_environment_names_is_said_before_it_is_joined(tmp_path: Path) -> None:
    """Else its refusal would speak of what nobody has given."""
    printed, said = refusal(tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert printed.startswith("RAY_ADDRESS names a cluster, 127.0.0.1:1: trials run there, unless --address says")
    assert said.startswith("--address 127.0.0.1:1 cannot be joined: Connection refused")


@pytest.mark.parametrize(
    "address", ["ray://127.0.0.1:10001", "local", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000", "::1:6379", ":1"]
)
def test_what_is_no_address_of_a_head_is_refused(address: str) -> None:
    """A driver must be on the cluster's network, not behind a Ray client; an IPv6 host stands in brackets."""
    with pytest.raises(OptionError, match="must be HOST:PORT"):
        check_address(address)


def test_an_address_where_ray_listens_is_left_to_ray(ray_head: str) -> None:
    """By number, by name, in the manner of IPv6, and `auto`, which Ray looks up."""
    port = ray_head.rpartition(":")[2]
    for address in (ray_head, f"127.0.0.1:{port}", f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", "auto"):
        check_address(address)


def test_what_listens_and_is_not_ray_is_refused() -> None:
    """A web server, such as Ray's own dashboard, to which Ray would speak for minutes; a name that nobody has."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(OptionError, match="cannot be joined: what listens there is not Ray; start the cluster"):
            check_address(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(OptionError, match=r"no-such-host.invalid:6379 cannot be joined: "):
        check_address("no-such-host.invalid:6379")
