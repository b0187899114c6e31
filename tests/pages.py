"""Python files that the documents show, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"


def blocks(page: Path) -> dict[str, str]:
    """Each Python block of a page under the comment that names it, `<!-- tested: NAME -->`."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- tested: ([^>]+) -->\n```python\n(.*?)```", text, re.DOTALL))
