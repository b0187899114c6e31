"""Names and values as MLflow takes them, and the config fields that become params. Imports no MLflow."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from mfm_tune.identity import Canonical, difference

MOST_PARAMS = 60
OWN_PARAMS = ("config_id", "seed")
LONGEST_VALUE = 500
LONGEST_KEY = 240  # MLflow takes 250, and a digest may follow


def leaves(config: Any) -> Iterator[tuple[str, Canonical]]:
    """The fields of a canonical config by dotted name."""
    for change in difference({}, config):
        yield change.field, change.second


def param_name(name: str) -> str:
    """A config field's name as MLflow allows it: `auxiliary[Mfm].rebuilder.dim` is `auxiliary.Mfm.rebuilder.dim`."""
    return clean_key(name.replace("[", ".").replace("]", ""))


def axis_param(axis: str) -> str:
    """The param of an axis; its value is the printed level."""
    return f"axis_{axis}" if axis in OWN_PARAMS else clean_key(axis)


def value_text(value: Canonical) -> str:
    """A config value as text."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:LONGEST_VALUE]


@lru_cache(maxsize=4096)  # the same few names at every report
def clean_key(name: str) -> str:
    """A name that MLflow takes as a key. One that had to change carries a digest, so that no two names become one."""
    cleaned = re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)[:LONGEST_KEY]
    if posixpath.normpath(cleaned) != cleaned or cleaned.startswith((".", "/")):  # MLflow takes keys for paths
        cleaned = posixpath.normpath(cleaned.replace("..", "__").strip("/")).lstrip("./") or "_"
    if cleaned == name:
        return name
    return f"{cleaned}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


class VaryingFields:
    """Which config fields differ within an experiment. It only grows, since MLflow's params cannot be changed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._values: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._configs: set[str] = set()

    def add(self, config_id: str, config: Any) -> bool:
        """Take in a config; True where further fields differ now."""
        if config_id in self._configs:
            return False
        self._configs.add(config_id)
        before = len(self.names)
        for name, value in leaves(config):
            self._count[name] = self._count.get(name, 0) + 1
            text = value_text(value)
            if self._values.setdefault(name, text) != text:
                self._note(name)
        for name, count in self._count.items():  # a part that some configs do not have
            if name.endswith(".class") and count < len(self._configs):
                self._note(name)
        return len(self.names) > before

    def _note(self, name: str) -> None:
        if name not in self.names and len(self.names) < MOST_PARAMS:
            self.names.append(name)
