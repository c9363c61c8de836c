"""The gradients of a client's half, as a run with `--update SPEC` sends them."""
from __future__ import annotations

import dataclasses
import time
import types
from typing import Any, Dict, List, Optional, Union

import torch

from .. import _lib, _seeds
from .._codec import Codec
from ._cut import Stats, _codec, _rank, diverged
from ._decode import decode


class GradientCompression:
    """What compress_gradients gives. Called between backward() and the optimizer's step, it sends the gradients of the
    module's parameters to the server: each becomes what decodes there."""

    def __init__(self, module: torch.nn.Module, spec: Union[str, Codec], error_feedback: bool, seed: int,
                 client: Optional[int], threads: Optional[int]) -> None:
        self.module, self.codec, self.error_feedback = module, _codec(spec), error_feedback
        self.seed, self.client, self.threads = seed, client, threads
        self._epoch = self._step = 0
        self._residual: Optional[torch.Tensor] = None
        self._stats = Stats()

    def set_epoch(self, epoch: int) -> None:
        """The random streams of this epoch, counted from 0, from its first step on."""
        self._epoch, self._step = int(epoch), 0

    @property
    def stats(self) -> Stats:
        """Gradients up; nothing comes down, since the average over one client is what it has sent. A copy."""
        return dataclasses.replace(self._stats)

    def __call__(self) -> None:
        """Raises cutwire.Error (CW_ERR_DIVERGED) for NaN or infinity."""
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        if not parameters:
            return
        with torch.no_grad():
            for p in parameters:
                p.grad = p.grad.to_dense() if p.grad.is_sparse else p.grad  # as over the network
            flat = torch.cat([p.grad.detach().float().reshape(-1) for p in parameters]).reshape(1, 1, -1)
            if self._residual is not None:
                if self._residual.numel() != flat.numel():
                    raise ValueError(f"{flat.numel()} gradients come after {self._residual.numel()}: error feedback needs "
                                     "the same parameters in each step")
                flat += self._residual.to(flat.device)
            sent = self._send(flat).to(flat.device)
            if self.error_feedback:
                self._residual = flat - sent
            self._put(parameters, sent)
        self._step += 1

    def state_dict(self) -> Dict[str, Any]:
        """Where the random streams are, and with error feedback what has not been sent: a checkpoint needs it."""
        return {"epoch": self._epoch, "step": self._step, "residual": self._residual}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """KeyError for what state_dict() did not make."""
        self._epoch, self._step, self._residual = state["epoch"], state["step"], state["residual"]

    @staticmethod
    def _put(parameters: List[torch.nn.Parameter], flat: torch.Tensor) -> None:
        pieces = flat.reshape(-1).split([p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces):
            parameter.grad.copy_(piece.view_as(parameter))

    def _send(self, x: torch.Tensor) -> torch.Tensor:
        begin = time.perf_counter()
        threads = torch.get_num_threads() if self.threads is None else self.threads
        client = _rank() if self.client is None else self.client
        seed = _seeds.codec_seed(self.seed, _seeds.CLIENT_GRAD, client, self._epoch, self._step)
        try:
            blob = self.codec.encode(x, seed=seed, threads=threads)
        except _lib.Error as e:
            raise diverged(e, "the client half's gradient") from e
        y = decode(blob, threads=threads)
        self._stats.uplink_bytes += len(blob)
        self._stats.uplink_raw_bytes += 4 * x.numel()
        self._stats.calls += 1
        self._stats.seconds += time.perf_counter() - begin
        return y


def compress_gradients(module: torch.nn.Module, spec: Union[str, Codec] = "ec:step=0.75,round=stochastic", *,
                       optimizer: Optional[torch.optim.Optimizer] = None, error_feedback: bool = False, seed: int = 1,
                       client: Optional[int] = None, threads: Optional[int] = None) -> GradientCompression:
    """Sends the gradients of a client's half through a codec to the server, as training over the network does with one
    client. Both then apply what decodes there.

        update = cwt.compress_gradients(head)
        ...
        loss.backward(); update(); optimizer.step()

    With `optimizer` its step() calls update() itself. All gradients travel as one vector of fp32, in the order of
    module.parameters(); parameters without a gradient are left out. `seed`, `client`, `threads`: as of Cut.

    With `error_feedback` what one step does not send is added to the gradient of the next (Seide et al. 2014, Karimireddy
    et al. 2019). Biased codecs need it: ms, sp, and all that round to nearest. Not so random rounding, where it is
    unbiased. It holds one vector of fp32, which state_dict() has.
    """
    update = GradientCompression(module, spec, error_feedback, seed, client, threads)
    if optimizer is not None:
        _call_before_step(optimizer, update)
    return update


def _call_before_step(optimizer: Any, update: GradientCompression) -> None:
    if hasattr(optimizer, "register_step_pre_hook"):  # PyTorch 2.0
        optimizer.register_step_pre_hook(lambda *_: update())
        return
    step = optimizer.step

    def wrapped(_: Any, *args: Any, **kwargs: Any) -> Any:
        update()
        return step(*args, **kwargs)

    optimizer.step = types.MethodType(wrapped, optimizer)  # a method: schedulers look for its owner
