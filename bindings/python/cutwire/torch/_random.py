"""The state of torch's random numbers in checkpoints, so that a run that goes on draws what it would have drawn.

It is that of the process: dropout draws from it, and a DataLoader that shuffles. On a GPU it is also that of the device.
A client alone gets its state back. Of several each draws its own: they would all draw the same from one state.
"""
from __future__ import annotations

import contextlib
from typing import Dict, Iterator, Optional

import torch

State = Dict[str, torch.Tensor]
_CPU, _CUDA = "random", "random.cuda"


class Random:
    """Of a side without a loader: as it is when the state is listed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> State:
        state = {_CPU: torch.get_rng_state()}
        if self._device.type == "cuda":
            state[_CUDA] = torch.cuda.get_rng_state(self._device)
        return state

    def set(self, state: State) -> None:
        """ValueError: it is none."""
        try:
            if _CPU in state:
                torch.set_rng_state(state[_CPU])
            if _CUDA in state and self._device.type == "cuda":
                torch.cuda.set_rng_state(state[_CUDA], self._device)
        except (TypeError, RuntimeError) as e:
            raise ValueError(f"no state of torch's random numbers: {e}") from e

    def list(self) -> State:
        """Named tensors of bytes."""
        return self.now()

    def take(self, items: State) -> None:
        """Those names are taken out of items; who saved without them has none."""
        self.set(pop(items, ""))


def pop(items: State, prefix: str) -> State:
    return {name: items.pop(prefix + name) for name in (_CPU, _CUDA) if prefix + name in items}


class OfLoader(Random):
    """Of a client: also as it was when the epoch's loader was opened, for who goes on within that epoch. Evaluations
    change nothing: the state is saved before them, and goes on from there."""

    alone = False  #: the run's only client

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._epoch: State = {}  # when the epoch began
        self._before_evaluation: Optional[State] = None
        self._taken: Optional[State] = None  # of a run to go on with, and of its epoch
        self._taken_epoch: State = {}

    def list(self) -> State:
        state = self._before_evaluation or self.now()
        return {**state, **{f"epoch.{name}": value for name, value in self._epoch.items()}}

    def take(self, items: State) -> None:
        taken, epoch = pop(items, ""), pop(items, "epoch.")
        if self.alone:
            self._taken, self._taken_epoch = taken, epoch

    @contextlib.contextmanager
    def training(self, batch: int) -> Iterator[None]:
        """While a loader is opened for training, and so many batches are passed over."""
        taken, before = self._taken, self._before_evaluation
        self._taken = self._before_evaluation = None
        if taken is not None:
            self.set(self._taken_epoch if batch else taken)
        elif before is not None:
            self.set(before)
        self._epoch = self.now()
        yield
        if taken is not None and batch:
            self.set(taken)

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """While a loader is opened for an evaluation."""
        if self._before_evaluation is None:
            self._before_evaluation = self.now()
        yield
