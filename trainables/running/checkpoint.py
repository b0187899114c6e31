"""A state of training as named tensors, and back; and the thread that writes them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables import tensor_file
from trainables.optimization import set_learning_rate
from trainables.tensor_file import Arrays, UnusableFile
from trainables.training import State

NETWORKS = ("student.", "teacher.", "tasks.", "mixer.")


class Writer:
    """Writes the checkpoints of a trial in a thread, one after the other, while training or evaluation goes on.

    Args:
        path: The newest checkpoint.
        previous: The one before.
    """

    def __init__(self, path: Path, previous: Path) -> None:
        self._path, self._previous = path, previous
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def begin(self, arrays: Arrays, numbers: dict[str, Any]) -> None:
        """Copy the tensors, and have them written; waits for the checkpoint before.

        Raises:
            OSError: The checkpoint before could not be written.
        """
        self.wait()
        held = tensor_file.copied(arrays)
        self._writing = self._thread.submit(tensor_file.write, self._path, held, numbers, self._previous)

    def wait(self) -> None:
        """Return when all is on the disk.

        Raises:
            OSError: It could not be written; the checkpoint before stays.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Let what is begun end."""
        self._thread.shutdown()


def arrays_of(state: State) -> Arrays:
    """Everything that training changed, as named tensors."""
    arrays = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    if state.teacher is not None:
        arrays |= {f"teacher.{name}": value for name, value in state.teacher.network.state_dict().items()}
    for prefix, module in _with_memory(state).items():
        arrays |= {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        arrays |= {f"optimizer.{index}.{name}": value for name, value in moments.items() if value is not None}
    return arrays


def restore(state: State, arrays: Arrays, step: int) -> None:
    """Put `arrays_of` back into a state that has not been trained.

    Raises:
        UnusableFile: The arrays are those of another architecture; the state is untouched.
    """
    memory = _memory(state)
    kept = {name: value for name, value in arrays.items() if name in memory}
    own = {name: array.shape for name, array in arrays_of(state).items() if name not in kept}
    given = {name: array.shape for name, array in arrays.items() if name.startswith(NETWORKS) and name not in kept}
    if own != given:
        first = min(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise UnusableFile(f"the checkpoint is of another architecture (first: {first})")
    _make_room(memory, kept, next(state.student.parameters()).device)
    state.student.load_state_dict(_under(arrays, "student."))
    if state.teacher is not None:
        state.teacher.network.load_state_dict(_under(arrays, "teacher."))
    for prefix, module in _with_memory(state).items():
        module.load_state_dict(_under(arrays, prefix))
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(arrays, "optimizer.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], value)
    known = state.optimizer.state_dict()
    known["state"] = moments
    state.optimizer.load_state_dict(known)
    state.step = step
    if step > 0:
        set_learning_rate(state.optimizer, state.config.schedule, step - 1)  # that of the latest step, for its report


def _with_memory(state: State) -> dict[str, nn.Module]:
    """What remembers something from step to step beside the networks, by the beginning of its names."""
    return {"tasks.": state.tasks} | ({} if state.mixer is None else {"mixer.": state.mixer})


def _memory(state: State) -> dict[str, tuple[nn.Module, str]]:
    """Name -> (module, attribute) of the buffers of tasks and the mixer, empty ones (None) included."""
    return {
        f"{prefix}{path}{'.' if path else ''}{name}": (module, name)
        for prefix, whole in _with_memory(state).items()
        for path, module in whole.named_modules()
        for name in module._buffers
    }


def _make_room(memory: dict[str, tuple[nn.Module, str]], kept: Arrays, device: torch.device) -> None:
    """Give buffers the shape and type of what they held: these come with training."""
    for name, value in kept.items():
        module, attribute = memory[name]
        own = getattr(module, attribute)
        if own is None or own.shape != value.shape or own.dtype != value.dtype:
            setattr(module, attribute, torch.empty_like(value, device=device))


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in its parameter's memory layout: a fused optimiser goes through both in memory order."""
    if value.shape != parameter.shape:
        return value  # the step count
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
