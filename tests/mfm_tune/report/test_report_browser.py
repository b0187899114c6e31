"""The page in headless Chromium: nothing sticks out, light and dark as the reader's system asks for."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from mfm_tune.report.write import write_report, write_search_report
from tests.mfm_tune.made_search import full_search
from tests.mfm_tune.report.test_report import full_ledger, full_study, ledger_with_pictures

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
MEASURE = """
<script>
for (const each of document.querySelectorAll("details")) each.open = true;
const root = document.documentElement;
const out = [...document.querySelectorAll("main *, header *")].filter(
    each => !each.closest(".scroll, svg") && each.getBoundingClientRect().right > root.clientWidth + 1);
const clipped = [...document.querySelectorAll("svg text")].filter(each => {
    const box = each.getBoundingClientRect(), svg = each.closest("svg").getBoundingClientRect();
    return box.left < svg.left - 2 || box.right > svg.right + 2;
});
document.title = "measured " + JSON.stringify({
    width: root.clientWidth,
    scroll: root.scrollWidth,
    out: out.map(each => each.outerHTML.slice(0, 80)),
    clipped: clipped.map(each => each.textContent),
    broken: [...document.images].filter(each => !each.naturalWidth).length,
});
</script></body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(NAMES)} on the PATH")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it, pictures too."""
    folder, study = tmp_path_factory.mktemp("page"), full_study()
    pictured = ledger_with_pictures(study, folder, {0: (0,), 1: (0,)})
    ledger = full_ledger(study)
    for key, record in pictured.state.trials.items():
        ledger.state.trials[key] = record
    return write_report(study, ledger.state, folder / "report", storage=folder).html


@pytest.fixture(scope="module")
def search_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search that is through."""
    folder, made = tmp_path_factory.mktemp("search"), full_search()
    return write_search_report(made.search, made.state, folder / "report", storage=folder).html


def run(chromium: str, page: Path, profile: Path, *options: str) -> str:
    """Open a page and return what Chromium prints."""
    command = [chromium, *QUIET, f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("which", ["page", "search_page"])
def test_nothing_sticks_out_of_a_narrow_or_a_wide_page(
    which: str, chromium: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page: Path = request.getfixturevalue(which)
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    text, policies = policy.subn("", page.read_text(encoding="utf-8"))
    assert policies == 1
    measured = tmp_path / "measured.html"
    for width in (390, 1280):  # a frame is as narrow as asked for, a window perhaps not
        copy = text.replace("</body>", MEASURE)
        measured.write_text(copy, encoding="utf-8")
        frame = tmp_path / f"frame-{width}.html"
        frame.write_text(
            f'<iframe src="measured.html" style="width:{width}px;height:900px;border:0"></iframe>'
            "<script>onload = () => { document.title = frames[0].document.title; }</script>"
        )
        options = ("--window-size=1400,1000", "--allow-file-access-from-files", "--dump-dom")
        dom = run(chromium, frame, tmp_path / f"profile-{width}", *options)
        found = re.search(r"<title>measured (.*?)</title>", dom)
        assert found is not None, dom[:2000]
        measured_values = json.loads(html.unescape(found[1]))
        assert measured_values.pop("scroll") <= width
        assert measured_values == {"width": width, "out": [], "clipped": [], "broken": 0}


@pytest.mark.parametrize(("scheme", "setting"), [("light", 1), ("dark", 0)])
def test_the_page_follows_the_readers_scheme(
    scheme: str, setting: int, chromium: str, page: Path, tmp_path: Path
) -> None:
    shot = tmp_path / "shot.png"
    options = (f"--blink-settings=preferredColorScheme={setting}", "--window-size=1280,900", f"--screenshot={shot}")
    run(chromium, page, tmp_path / "profile", *options)
    with Image.open(shot) as image:
        grey = image.convert("L")
        paper, darkest, lightest = grey.getpixel((2, 890)), *grey.getextrema()
    assert isinstance(paper, int)
    assert (paper > 240) if scheme == "light" else (paper < 40)
    assert lightest - darkest > 180  # the text is there, and stands out
