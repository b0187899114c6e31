"""The picture of a report that the README shows, made by a run and a browser:

    python -m tests.docs.report_picture

It trains Table 2 at the smoke profile (a minute or two), opens the report in headless Chromium, and writes
docs/report.png. `--profile mini` takes longer and shows numbers that mean something; `--storage DIR` keeps the run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "report.png"
SIZE = (1100, 1480)  # pixels (columns, rows) of the page's top
COLOURS = 128  # keeps the file small; a report has few


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_report(storage: Path, profile: str) -> Path:
    """Train Table 2 and return the HTML report.

    Raises:
        CalledProcessError: The run failed.
    """
    command = (sys.executable, "-m", "mfm_tune.run", "search_spaces/table2.py", "--profile", profile)
    subprocess.run((*command, "--storage", str(storage), "--no-tracking"), cwd=ROOT, check=True)
    return storage / "reports" / f"table2-{profile}" / "report.html"


def take_picture(page: Path, out: Path, browser: str) -> None:
    """Write the top of a page as a PNG of few colours.

    Raises:
        CalledProcessError: The browser failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "page.png"
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
        window = "--window-size={},{}".format(*SIZE)
        profile = f"--user-data-dir={folder}/profile"
        command = (browser, *options, profile, window, f"--screenshot={raw}", page.resolve().as_uri())
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        with Image.open(raw) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> int:
    """Run, open, write."""
    parser = argparse.ArgumentParser(description="Make the picture of a report that the README shows.")
    parser.add_argument("--profile", default="smoke", choices=("smoke", "mini"))
    parser.add_argument("--storage", type=Path, help="keeps the run; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    browser = chromium()
    if browser is None:
        print("No Chromium is installed; install it, as with apt-get install chromium.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        take_picture(make_report((given.storage or Path(folder)).absolute(), given.profile), given.out, browser)
    print(f"{given.out} is made.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
