"""What the documentation gives to be used is whole: the cluster files are what Ray, Slurm and a shell expect."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import ray.autoscaler
import yaml

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_file_for_rays_cluster_launcher_is_one() -> None:
    """By the schema that Ray comes with; workers join the head of the file, and everyone has the one token."""
    given = yaml.safe_load((DOCS / "cluster" / "launcher.yaml").read_text())
    jsonschema.validate(given, json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text()))
    head, worker = given["head_start_ray_commands"][-1], given["worker_start_ray_commands"][-1]
    token = re.compile(r"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=(\S+)")
    assert token.search(head).group(1) == token.search(worker).group(1)  # type: ignore[union-attr]
    assert "ray start --head --port=6379" in head
    assert "ray start --address=$RAY_HEAD_IP:6379" in worker
    assert given["max_workers"] == len(given["provider"]["worker_ips"])


def test_the_slurm_script_is_one() -> None:
    """A shell can parse it, and Slurm's directives stand before the first command."""
    script = DOCS / "cluster" / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert directives
    assert max(directives) < next(number for number, line in enumerate(lines) if line and not line.startswith("#"))


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links of the README and the documents."""
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_that_the_architecture_names_are_there() -> None:
    """Each path with a folder, from the root or from the package that the page is about."""
    root = DOCS.parent
    for page in (DOCS / "architecture.md", root / "CONTRIBUTING.md"):
        for named in re.findall(r"`([\w]+/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
            assert any((folder / named).is_file() for folder in (root, root / "mfm_tune")), f"{page.name}: {named}"
