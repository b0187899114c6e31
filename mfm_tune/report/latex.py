"""A table as LaTeX for booktabs: level, what was trained, value, the paper's value, differences, cost.

The file is a `tabular` with its footnotes as comments above it, to be read in by \\input; it needs only booktabs.
"""

from __future__ import annotations

from mfm_tune.report.tables import Printed, Row

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "…": r"\dots{}",
}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands; line ends become spaces."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def latex(table: Printed) -> str:
    """A table as a `tabular`."""
    headings = [*table.left_headings, *table.headings]
    columns = "l" * len(table.left_headings) + "r" * len(table.headings)
    lines = [f"% {' '.join(table.title.split())}: {table.metric}, mean ± std (seeds); differences with 95 % intervals"]
    lines += [f"% [{index}] {' '.join(note.split())}" for index, note in enumerate(table.footnotes, 1)]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(escaped(heading) for heading in headings) + r" \\", r"\midrule"]
    lines += [_row(table, row) for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(table: Printed, row: Row) -> str:
    left = [escaped(text) for text in table.left(row)]
    if row.notes:
        left[0] += rf"\textsuperscript{{{','.join(map(str, row.notes))}}}"
    # a line of a tabular that begins with [ would be read as an argument of the \\ before it
    cells = [f"{{}}{text}" if text.startswith("[") else text for text in left]
    return " & ".join([*cells, *(escaped(entry.text) for entry in row.entries)]) + r" \\"
