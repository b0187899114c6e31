"""Who may import whom, by package, and where each library may be imported. Read from the syntax trees.

The tables below are the law of the house. docs/architecture.md shows the first one, and what is imported today;
`python -m tests.test_floors` writes both anew.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("mfm_tune", "trainables", "search_spaces")
ARCHITECTURE = ROOT / "docs" / "architecture.md"

# Package -> what it is for, and the packages that it may import besides what every package may: the declarations.
DECLARATIONS = {
    "console",
    "space",
    "published",
    "comparison",
    "search_space",
    "distributions",
    "criteria",
    "digits",
    "fields",
    "program",
    "identity",
    "user_files",
    "errors",
}
COMMANDS = {"run", "ui", "sync", "diff", "optuna", "export_runs"}
PLATFORM = {
    "commands": ("one command, from options to exit code", "*"),
    "report": ("prints results, computes none", "display results search planning ledger"),
    "display": ("what is seen while trials run", "search planning ledger"),
    "tracking": ("the MLflow mirror of the ledger", "results ledger"),
    "results": ("numbers from the ledger", "search planning ledger"),
    "search": ("proposes candidates, ranks them, hands the best to a study", "execution planning ledger"),
    "tune": ("runs trials through Ray Tune", "execution planning ledger"),
    "execution": ("runs trials, whatever the engine", "planning ledger"),
    "planning": ("a declaration becomes trials, minus what the ledger has, with its cost", "ledger"),
    "ledger": ("what was run and how it ended", ""),
}

# The same for training, whose modules at the top are of three kinds: settings and draws that all may import; the step;
# what a person or a search space names.
TRAINING = {
    "models": ("segmentors: encoders, heads, HRDA, the Rebuilder", ""),
    "data": ("domains, crops, stores; data sets, packing, the embedded benchmark", ""),
    "adaptation": ("teacher, pseudo-labels, mixing, augmentation", "data models"),
    "tasks": ("auxiliary losses: MFM and its peers", "adaptation data models"),
    "inference": ("exported models", "models data"),
    "running": ("one trial: blocks, checkpoints, initial weights, Ray's trainable", "*"),
}
GROUND = {
    *("config", "experiment", "recipes", "description", "randomness", "geometry", "step_data", "losses", "tensor_file"),
    *("atomic", "command_line", "settings_json", "user_code"),
}
STEP = {"training", "cuda_graphs", "evaluation", "optimization", "selection"}
CARD = ("trainables.export", "mfm_tune.results.scores")  # a model's card has the score that the ledger has of it
ENDS = {"program", "tune", "export", "predict", "evaluate"}

# Which modules may import a library, by the beginning of their names. Nobody else may.
DOORS = {
    "ray": ("mfm_tune.tune.", "trainables.tune"),
    "mlflow": ("mfm_tune.tracking.",),
    "tensorboardX": ("mfm_tune.tracking.run_files",),
    "wandb": ("mfm_tune.tracking.run_files",),
    "optuna": ("mfm_tune.search.",),
    "jinja2": ("mfm_tune.report.",),
    "matplotlib": ("mfm_tune.report.",),
    "pandas": ("mfm_tune.results.frames",),
    "rich": ("mfm_tune.display.", "mfm_tune.report.terminal"),
    "torch": ("trainables.",),
    "onnxruntime": ("trainables.inference.graph",),
    "timm": ("trainables.models.", "trainables.adaptation.teacher"),
    "huggingface_hub": ("trainables.models.hub",),
    "trainables": ("trainables.", "search_spaces."),
    "mfm_tune": ("mfm_tune.", "search_spaces.", "trainables."),
    "search_spaces": ("search_spaces.",),
    "tests": (),
}


def modules() -> dict[str, ast.Module]:
    """All modules of the three rooms by dotted name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Everything a module imports, wherever the statement is; imports for the type checker alone are left out.

    Settings may make what they describe, late: what a function of `trainables.experiment` imports of its own room is
    left out, too.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef) and name.startswith("trainables.experiment."):
            yield from (each for each in imports("", node) if not each.startswith("trainables."))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively, which hides the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(name, node)


MODULES = modules()
IMPORTS = {name: sorted(set(imports(name, tree))) for name, tree in MODULES.items()}


def imported_modules(name: str) -> set[str]:
    """The modules of our own that a module imports."""
    return {
        candidate
        for imported in IMPORTS[name]
        for candidate in (imported, imported.rpartition(".")[0])
        if candidate in MODULES and candidate != name
    }


def package_of(name: str) -> str:
    """The package of a module within its room: `mfm_tune.ledger.state` -> `ledger`; a module at the top is its own."""
    return name.split(".")[1]


def arrows(room: str) -> dict[str, set[str]]:
    """Package -> the packages of the same room that it imports."""
    found: dict[str, set[str]] = {}
    for name in MODULES:
        if name.startswith(f"{room}.") and not name.endswith("__init__"):
            own = package_of(name)
            others = {package_of(each) for each in imported_modules(name) if each.startswith(f"{room}.")}
            found.setdefault(own, set()).update(others - {own})
    return found


def law() -> str:
    """The packages of the platform from the top down, what each is for, and what it may import."""
    lines = ["| package of `mfm_tune` | purpose | may import |", "| --- | --- | --- |"]
    for package, (purpose, allowed) in PLATFORM.items():
        may = "all below" if allowed == "*" else ", ".join(allowed.split()) or "declarations alone"
        lines.append(f"| `{package}` | {purpose} | {may} |")
    return "\n".join(lines)


def drawing() -> str:
    """The packages of the platform from the top down, each with those that it imports, nearest first."""
    drawn = arrows("mfm_tune")
    used = {package: " ".join(each for each in PLATFORM if each in drawn[package]) for package in PLATFORM}
    lines = [f"    {package:9}  ->  {others}" for package, others in used.items()]
    return "\n".join(line.rstrip(" ->") for line in lines)


@pytest.mark.parametrize("package", PLATFORM)
def test_a_package_of_the_platform_imports_only_what_lies_below_it(package: str) -> None:
    """As the table allows; what a study declares may be imported by all."""
    allowed = PLATFORM[package][1]
    may = set(PLATFORM) if allowed == "*" else set(allowed.split())
    assert arrows("mfm_tune")[package] - may - DECLARATIONS == set()


def test_everything_in_the_platform_has_its_place() -> None:
    """A new package or a new file at the top cannot escape the rule by being new."""
    assert set(arrows("mfm_tune")) == {*PLATFORM, *DECLARATIONS, *COMMANDS}


@pytest.mark.parametrize("name", sorted(DECLARATIONS))
def test_declarations_import_nothing_but_each_other_and_the_standard_library(name: str) -> None:
    """So that declaring a study costs nothing."""
    assert arrows("mfm_tune")[name] <= DECLARATIONS
    own = {each.split(".")[0] for each in IMPORTS[f"mfm_tune.{name}"]} - {"mfm_tune"}
    assert own <= sys.stdlib_module_names


@pytest.mark.parametrize("drawn", [law(), drawing()], ids=["law", "drawing"])
def test_the_documents_show_the_packages_as_they_are(drawn: str) -> None:
    """`python -m tests.test_floors` writes them anew."""
    assert drawn in ARCHITECTURE.read_text(encoding="utf-8")


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_only_where_its_door_is(library: str) -> None:
    """Ray, MLflow, Optuna, torch and the rooms themselves each have few places that may import them."""
    users = [
        name
        for name, imported in IMPORTS.items()
        if any(each == library or each.startswith(library + ".") for each in imported)
        and not any(f"{name}.".startswith(door) or name.startswith(door) for door in DOORS[library])
    ]
    assert users == []


@pytest.mark.parametrize("package", TRAINING)
def test_a_package_of_training_imports_only_what_lies_below_it(package: str) -> None:
    """As the table allows; `running` is the top of it."""
    allowed = TRAINING[package][1]
    if allowed != "*":
        assert arrows("trainables")[package] - set(allowed.split()) - GROUND == set()


def test_everything_in_training_has_its_place() -> None:
    """A new package or a new file at the top cannot escape the rule by being new."""
    assert set(arrows("trainables")) == {*TRAINING, *GROUND, *STEP, *ENDS}


def test_the_step_rests_on_methods_and_never_on_what_runs_it() -> None:
    """Nothing below `running` knows of checkpoints, Ray or the commands."""
    drawn = arrows("trainables")
    below = {*GROUND, *STEP, *(set(TRAINING) - {"running", "inference"})}
    assert {name: drawn[name] & ({"running"} | ENDS) for name in below if drawn[name] & ({"running"} | ENDS)} == {}
    assert all(drawn[name] <= GROUND for name in GROUND)


def test_training_takes_five_leaves_from_the_platform_and_nothing_else() -> None:
    """The check of fields, the id of a config, the name that a file of one's own has as a module, errors, of which the
    trainable takes the sentence about a full disk, and what commands share."""
    taken = {
        each for name in MODULES if name.startswith("trainables.") for each in imported_modules(name)
        if each.startswith("mfm_tune.") and (name, each) != CARD
    }  # fmt: skip
    assert taken == {f"mfm_tune.{leaf}" for leaf in ("fields", "identity", "user_files", "errors", "console")}
    assert CARD[1] in imported_modules(CARD[0])
    assert imported_modules("mfm_tune.fields") == imported_modules("mfm_tune.user_files") == set()


def test_settings_may_make_what_they_describe_but_late() -> None:
    """Modules of training within a function; at the top of the file, and other libraries, as everybody else."""
    late = ast.parse("class A:\n def build(self):\n  from trainables.models.hrda import B\n  import torch")
    early = ast.parse("from trainables.models.hrda import B")
    assert list(imports("trainables.experiment.own", late)) == ["torch"]
    assert list(imports("trainables.experiment.own", early)) == ["trainables.models.hrda.B"]
    assert list(imports("trainables.data.own", late)) == ["trainables.models.hrda.B", "torch"]


def test_no_two_modules_need_each_other() -> None:
    """The imports of all rooms have no cycle, those within functions included."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a cycle of imports: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in imported_modules(name):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_private_parts_of_libraries_are_not_used() -> None:
    """Of Ray, Optuna and MLflow only public modules and names are imported."""
    private = [
        f"{name}: {imported}"
        for name, names in IMPORTS.items()
        for imported in names
        if imported.split(".")[0] in ("ray", "optuna", "mlflow")
        and any(part.startswith("_") for part in imported.split("."))
    ]
    assert private == []


@pytest.mark.slow
def test_training_needs_neither_ray_nor_mlflow() -> None:
    """A training step runs where neither can be imported."""
    code = (
        "import sys, tempfile\n"
        "for name in ('ray', 'mlflow', 'optuna'): sys.modules[name] = None\n"
        "from dataclasses import replace\n"
        "from trainables.recipes import SMOKE, dacs_mfm\n"
        "from trainables.running.trial import Trial\n"
        "config = dacs_mfm(replace(SMOKE, schedule=replace(SMOKE.schedule, steps=1)))\n"
        "folder = tempfile.mkdtemp()\n"
        "report = Trial(config, seed=0, folder=folder, shared=folder, data={}).advance()\n"
        "assert report['outcome'] == 'finished', report\n"
        "assert not any(name.split('.')[0] in ('ray', 'mlflow') for name, m in sys.modules.items() if m)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


if __name__ == "__main__":
    text = ARCHITECTURE.read_text(encoding="utf-8")
    for begins, drawn in (
        (r"\| package of `mfm_tune` .*\n(?:\|.*\n)+", law()),
        (r"    commands   ->.*\n(?:    .*\n)+", drawing()),
    ):
        text = re.sub(begins, lambda _, drawn=drawn: drawn + "\n", text)  # type: ignore[misc]
    ARCHITECTURE.write_text(text, encoding="utf-8")
