"""The README's picture is made by a script from a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.docs.report_picture import PICTURE, SIZE, chromium, take_picture

PAGE = "<!doctype html><html><body style='margin:0;background:#2060a0'><h1>Table 2</h1></body></html>"


def test_the_picture_has_the_scripts_size() -> None:
    """One that was made otherwise would go stale."""
    with Image.open(PICTURE) as image:
        assert image.size == SIZE


@pytest.mark.browser
def test_a_picture_shows_the_top_of_a_page(tmp_path: Path) -> None:
    """In the page's colours."""
    browser = chromium()
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    take_picture(page, tmp_path / "page.png", browser)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == SIZE
        assert image.convert("RGB").getpixel((SIZE[0] - 5, SIZE[1] // 2)) == (0x20, 0x60, 0xA0)
