"""The floors of the house: which room may import which, and what may be imported where. Read from the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("mfm_tune", "trainables", "search_spaces")

# Which modules may import a library, by the beginning of their names. Nobody else may.
DOORS = {
    "ray": ("mfm_tune.tune.", "trainables.running.tune"),
    "mlflow": ("mfm_tune.tracking.", "mfm_tune.sync", "mfm_tune.ui"),
    "scipy": ("mfm_tune.results.statistics",),
    "optuna": ("mfm_tune.search.",),
    "matplotlib": ("mfm_tune.report.",),
    "torch": ("trainables.",),
    "timm": ("trainables.models.", "trainables.adaptation.teacher"),
    "trainables": ("trainables.", "search_spaces."),
    # Of the platform, training takes the check of fields and the id of a config.
    "mfm_tune": (
        "mfm_tune.",
        "search_spaces.",
        "trainables.experiment.",
        "trainables.description",
        "trainables.running.",
    ),
    "search_spaces": ("search_spaces.",),
    "tests": (),
}

# The floors of training, from the ground up; a module may import from its own floor and from those below.
FLOORS = (
    (
        "trainables.config",
        "trainables.experiment",
        "mfm_tune.fields",
        "trainables.randomness",
        "trainables.geometry",
        "trainables.step_data",
        "trainables.recipes",
        "trainables.data.classes",
    ),
    ("trainables.running.environment", "trainables.command_line"),
    ("trainables.losses", "trainables.models", "trainables.data"),
    (
        "trainables.adaptation",
        "trainables.tasks",
        "trainables.evaluation",
        "trainables.optimization",
        "trainables.selection",
    ),
    ("trainables.cuda_graphs",),
    ("trainables.training",),
    ("trainables.running.checkpoint", "trainables.running.initial", "trainables.running.pictures"),
    ("trainables.running.trial",),
    (
        "trainables.running.tune",
        "trainables.running.probe",
        "trainables.export",
        "trainables.predict",
        "trainables.evaluate",
        "trainables.inference.model",
    ),
    ("trainables.program",),
)


def modules() -> dict[str, ast.Module]:
    """All modules of the three rooms by dotted name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Everything a module imports, wherever the statement stands; imports for the type checker alone are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively, which hides the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(name, node)


MODULES = modules()
IMPORTS = {name: sorted(set(imports(name, tree))) for name, tree in MODULES.items()}


def floor(name: str) -> int | None:
    """The floor of a module of training: the longest beginning that is named above."""
    matches = [
        (len(beginning), level)
        for level, beginnings in enumerate(FLOORS)
        for beginning in beginnings
        if name == beginning or name.startswith(beginning + ".")
    ]
    return max(matches)[1] if matches else None


def imported_modules(name: str) -> set[str]:
    """The modules of our own that a module imports."""
    return {
        candidate
        for imported in IMPORTS[name]
        for candidate in (imported, imported.rpartition(".")[0])
        if candidate in MODULES and candidate != name
    }


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


def test_training_takes_the_check_of_fields_from_the_platform_and_nothing_else() -> None:
    """Settings of search spaces and of training are checked by one module, a leaf."""
    settings = [name for name in MODULES if name.startswith(("trainables.config", "trainables.experiment"))]
    taken = {each for name in settings for each in imported_modules(name) if each.startswith("mfm_tune")}
    assert taken == {"mfm_tune.fields"}
    assert imported_modules("mfm_tune.fields") == set()


def test_every_module_of_training_has_a_floor() -> None:
    """A new file cannot escape the rule by being new."""
    homeless = [
        name
        for name in MODULES
        if name.startswith("trainables.") and not name.endswith(("__init__", "__main__")) and floor(name) is None
    ]
    assert homeless == []


def test_imports_of_training_point_down() -> None:
    """No module of training imports from a floor above its own."""
    upwards = [
        f"{name} imports {other}"
        for name in MODULES
        if floor(name) is not None
        for other in sorted(imported_modules(name))
        if floor(other) is not None and floor(other) > floor(name)  # type: ignore[operator]
    ]
    assert upwards == []


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
