"""A module's passes as CUDA graphs: recorded at their first call, replayed at every further one.

A step of DAFormer + MFM launches 24,600 kernels; on an H100 launching takes four times as long as running them. A
replayed graph is one launch. The kernels and their order are those of eager passes, and so are the numbers; only where
a module runs twice in one pass (HRDA's encoder) its gradients are added up in another order.
"""

from __future__ import annotations

import copy
import gc
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainables.models.frozen_norms import BATCH_NORMS

Forward = Callable[..., tuple[Tensor, ...]]
WARM_UP = 3  # passes before the recording, in which libraries choose and load their kernels
THREAD_LOCAL = "thread_local"  # threads that load data go on while a pass is recorded


class GraphedModule:
    """Takes the place of a module's `forward` while the module is in the mode (training or not) that it has now.

    The gradients of its parameters are added up within the graphs, in tensors that stay where they are. Inputs may
    differ in shape from call to call, and in anything else that changes the kernels: each form has recordings of its
    own, as many as are in use at once between a forward pass and its backward pass.

    Args:
        module: On a CUDA device; returns a tuple of tensors. Weights and buffers may change, in place.
        compiled: Record the passes as `torch.compile` makes them; the other mode runs compiled, too, a copy does not.

    Attributes:
        eager: Why passes run eagerly after all: a recording ran out of memory, or what the module does cannot be
            recorded. None while they are replayed.
    """

    def __init__(self, module: nn.Module, *, compiled: bool = False) -> None:
        self._module = module
        self.eager: str | None = None
        self._forward: Forward = torch.compile(module.forward, dynamic=False) if compiled else module.forward
        self._training = module.training
        self._modules = list(module.modules())
        self._norms = [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS)]
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._recordings: dict[Hashable, list[Recording]] = defaultdict(list)
        module.forward = self

    def begin_step(self) -> None:
        """Set the gradients to zero; what a pass of the last step has left behind may be overwritten."""
        if self._gradients:
            torch._foreach_zero_(self._gradients)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        for recordings in self._recordings.values():
            for recording in recordings:
                recording.idle = True

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs, propagated back once at most, within the step (else `RuntimeError`)."""
        if self.eager is not None or self._module.training is not self._training:
            return self._forward(*inputs)
        recordings = self._recordings[self._form(inputs)]
        recording = next((one for one in recordings if one.idle), None)
        if recording is None:
            try:
                recording = self._record(inputs)
            except RuntimeError as error:  # running out of memory is one
                self._give_up(error)
                return self._forward(*inputs)
            recordings.append(recording)
        if recording.backward is None:
            return tuple(output.clone() for output in recording.run(inputs))
        recording.idle = False
        outputs: tuple[Tensor, ...] = _Replay.apply(recording, recording.anchor, *inputs)
        return outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        """The `forward` of a copied module: a recording reads the weights of the module that it was made of."""
        return MethodType(type(self._module).forward, copy.deepcopy(self._module, memo))

    def _give_up(self, error: RuntimeError) -> None:
        """Go on eagerly, and give the memory of the recordings back."""
        self.eager = str(error).splitlines()[0]
        self._recordings.clear()  # one whose backward pass is still to come lives until then
        gc.collect()
        torch.cuda.empty_cache()

    def _form(self, inputs: Sequence[Tensor]) -> Hashable:
        """All that decides which kernels a call runs, but for what never changes."""
        arithmetic = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        momenta = tuple(layer.momentum for layer in self._norms)  # 0 freezes the running statistics
        shapes = tuple((each.shape, each.stride(), each.dtype, each.requires_grad) for each in inputs)
        modes = tuple(layer.training for layer in self._modules)
        return shapes, torch.is_grad_enabled(), arithmetic, momenta, modes

    def _record(self, inputs: Sequence[Tensor]) -> Recording:
        """Record, and leave running statistics and random numbers as they were, whether it can be recorded or not."""
        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        random = torch.cuda.get_rng_state()
        arithmetic = torch.autocast(
            "cuda",
            dtype=torch.get_autocast_dtype("cuda"),
            enabled=torch.is_autocast_enabled("cuda"),
            cache_enabled=False,  # a cast weight must be cast anew in every replay
        )
        here = torch.cuda.stream(torch.cuda.current_stream())  # a recording that fails would leave another one current
        try:
            with arithmetic, here:
                return Recording(self._forward, inputs, self._parameters, self._gradients)
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            torch.cuda.set_rng_state(random)


class Recording:
    """The graphs of one forward pass and, with gradients, of its backward pass.

    Args:
        forward: What to record.
        inputs: Of a call; values do not matter.
        parameters: That have gradients.
        gradients: Where to add them, one for each parameter.

    Attributes:
        idle: Whether the activations of the last run are no longer needed.
        runs: Forward passes so far.
        anchor: A tensor that makes outputs require gradients.
        backward: The graph of the backward pass, if there is one.
    """

    def __init__(
        self, forward: Forward, inputs: Sequence[Tensor], parameters: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> None:
        self.idle = True
        self.runs = 0
        self._propagated = 0  # the run whose activations a backward pass has used up
        self.backward: torch.cuda.CUDAGraph | None = None
        self._inputs = [each.detach().clone().requires_grad_(each.requires_grad) for each in inputs]
        needing = [each for each in self._inputs if each.requires_grad]
        wanted = [*needing, *parameters]
        with_gradients = torch.is_grad_enabled() and bool(wanted)
        self._warm_up(forward, wanted if with_gradients else [])

        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode=THREAD_LOCAL):
            self._outputs = forward(*self._inputs)
        if not with_gradients:
            return

        self.anchor = torch.zeros((), device=self._outputs[0].device, requires_grad=True)
        self._output_gradients = [torch.zeros_like(output) for output in self._outputs]
        self.backward = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.backward, pool=self._graph.pool(), capture_error_mode=THREAD_LOCAL):
            with torch.autocast("cuda", enabled=False):  # as eager backward passes run
                found = torch.autograd.grad(self._outputs, wanted, self._output_gradients, allow_unused=True)
            self._input_gradients = found[: len(needing)]
            used = [(to, of) for to, of in zip(gradients, found[len(needing) :], strict=True) if of is not None]
            torch._foreach_add_([to for to, _ in used], [of for _, of in used])
        self._outputs = tuple(output.detach() for output in self._outputs)

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Replay the forward pass; its outputs, which the next run overwrites."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.detach().copy_(given.detach())
        self._graph.replay()
        self.runs += 1
        return self._outputs

    def run_backward(self, run: int, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Replay the backward pass of a run, which adds to the parameters' gradients; the gradients of the inputs.

        Raises:
            RuntimeError: The run's activations are gone: another run or a backward pass has overwritten them.
        """
        assert self.backward is not None
        if run != self.runs or run == self._propagated:
            raise RuntimeError(
                "A replayed pass is propagated back once, and within its step; add up losses before `backward`, or "
                "train with Execution(cuda_graphs=False)."
            )
        self._propagated = run
        for own, given in zip(self._output_gradients, gradients, strict=True):
            own.copy_(given)
        self.backward.replay()
        self.idle = True
        of_inputs = iter(self._input_gradients)
        found = (next(of_inputs) if each.requires_grad else None for each in self._inputs)
        return tuple(None if each is None else each.clone() for each in found)

    def _warm_up(self, forward: Forward, wanted: Sequence[Tensor]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                outputs = forward(*self._inputs)
                if wanted:
                    zeros = [torch.zeros_like(output) for output in outputs]
                    torch.autograd.grad(outputs, wanted, zeros, allow_unused=True)
                del outputs
        torch.cuda.current_stream().wait_stream(stream)


class _Replay(torch.autograd.Function):
    """A replayed pass as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, recording: Recording, anchor: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = tuple(output.clone() for output in recording.run(inputs))
        ctx.recording, ctx.run = recording, recording.runs
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.recording.run_backward(ctx.run, gradients)
