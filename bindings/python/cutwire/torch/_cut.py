"""A cut in a model of PyTorch: what crosses it goes through real codecs, both ways."""
from __future__ import annotations

import dataclasses
import time
from typing import Any, Optional, Tuple, Union

import torch
from torch.autograd.function import once_differentiable

from .. import _lib, _seeds
from .._codec import Codec
from ._decode import decode

UP, DOWN = "ec:err=0.15", "ec:step=4.5,round=stochastic,scope=sample"

# Layers whose output is 0 only where they multiply their gradient by 0, if that holds for their input.
_PASSING = {"MaxPool1DBackward0", "MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0",
            "SqueezeBackward1", "SqueezeBackward0", "UnsqueezeBackward0", "AvgPool2DBackward0", "AvgPool3DBackward0",
            "AdaptiveAvgPool2DBackward0", "AdaptiveAvgPool3DBackward0", "MeanBackward1", "NativeDropoutBackward0",
            "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "CloneBackward0",
            "PermuteBackward0", "TransposeBackward0", "TBackward0", "ToCopyBackward0", "AliasBackward0"}


@dataclasses.dataclass
class Stats:
    """What has crossed a cut. Bytes are of payloads; `raw` is the same tensors uncoded, in their own dtype."""

    uplink_bytes: int = 0
    downlink_bytes: int = 0
    uplink_raw_bytes: int = 0
    downlink_raw_bytes: int = 0
    calls: int = 0  #: tensors, in either direction
    seconds: float = 0.0  #: spent on encoding and decoding them


def is_behind_relu(z: torch.Tensor) -> bool:
    """Whether z is what a ReLU or ReLU6 gave, perhaps through pooling, dropout or another shape: found in the graph that
    autograd has recorded. False where it has recorded none, or the layer is not known, or a ReLU worked in place on a
    view (behind a Linear of three dimensions)."""
    node = z.grad_fn
    while node is not None:
        name = type(node).__name__
        if name == "ReluBackward0" or (name == "HardtanhBackward0" and getattr(node, "_saved_min_val", None) == 0):
            return True
        inputs = [n for n, _ in node.next_functions if n is not None]
        if len(inputs) != 1 or not (name in _PASSING or _scales(node, name)):
            return False
        node = inputs[0]
    return False


def _scales(node: Any, name: str) -> bool:
    """Whether a node multiplies by constants that are not negative: dropout on the CPU."""
    if name != "MulBackward0":
        return False
    factor = node._saved_other if node.next_functions[0][0] is not None else node._saved_self
    return factor is not None and bool((factor >= 0).all())


def read_mask(wish: Any, up: Codec) -> Optional[bool]:
    """"auto" is None."""
    if wish == "auto":
        return None
    if wish not in (True, False):
        raise ValueError(f"mask_gradient: {wish!r} is none of True, False, 'auto'")
    if wish and not up.traits.keeps_zero:
        raise _lib.Error(f"mask_gradient: nothing comes in as 0 with {up.spec}", "CW_ERR_SPEC", 3)
    return bool(wish)


def diverged(error: _lib.Error, what: str) -> _lib.Error:
    """NaN means here that training has diverged; other errors stay."""
    if error.status != _lib.ERR_NONFINITE:
        return error
    return _lib.Error(f"{what}: NaN or infinity in it: training has diverged: lower the learning rate, or look for bad "
                      "input", "CW_ERR_DIVERGED", 19, error.offset)


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


@dataclasses.dataclass
class _Position:
    """Where the random streams are."""

    epoch: int = 0
    train: int = 0  #: batches of the epoch so far
    evaluated: int = 0

    def next_step(self, training: bool) -> int:
        if training:
            self.train += 1
            return self.train - 1
        self.evaluated += 1
        return self.evaluated - 1


@dataclasses.dataclass
class _Crossing:
    """One batch: which it is, and what its way back needs."""

    client: int
    epoch: int
    step: int
    training: bool
    mask: bool
    sent: Optional[torch.Tensor] = None  #: uint8 on the CPU: 0 where the activation came in as 0


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, cut: "Cut", crossing: _Crossing) -> torch.Tensor:
        ctx.cut, ctx.crossing = cut, crossing
        return cut._go_up(z, crossing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> Tuple[Optional[torch.Tensor], None, None]:
        return ctx.cut._go_down(dy, ctx.crossing), None, None


class Cut(torch.nn.Module):
    """Sends activations through the codec `up`, and on the way back gradients through `down`, as payloads whose bytes are
    counted. Input and output have the same shape, dtype and device; dimension 0 is the sample.

        net = torch.nn.Sequential(head, cwt.Cut(), tail)

    up             codec of the activations
    down           codec of the gradients
    eval_up        codec of the activations in eval(); None: up
    mask_gradient  send no gradient where the activation came in as 0. "auto": where the input is a ReLU's output
                   (is_behind_relu), up keeps zeros and down is lossy. True is right only behind a ReLU
    seed, client   of the random streams, which are those of a client in `cutwire train`. client None: the rank in
                   torch.distributed, else 0. Several cuts in one model want seeds of their own
    threads        that code; None: torch.get_num_threads(). The bytes do not depend on them

    It has no parameters and adds nothing to a state dict. A gradient is never sent in eval() without a backward.
    Activations that are not needed for a gradient go up all the same.

    Raises cutwire.Error: CW_ERR_SPEC at once, CW_ERR_DIVERGED for NaN or infinity; TypeError for what is no float tensor.
    """

    def __init__(self, up: Union[str, Codec] = UP, down: Union[str, Codec] = DOWN, *,
                 eval_up: Union[None, str, Codec] = None, mask_gradient: Union[str, bool] = "auto", seed: int = 1,
                 client: Optional[int] = None, threads: Optional[int] = None) -> None:
        super().__init__()
        self.up, self.down = _codec(up), _codec(down)
        self.eval_up = self.up if eval_up is None else _codec(eval_up)
        self._mask = read_mask(mask_gradient, self.up)
        self.seed, self.client, self.threads = seed, client, threads
        self._position, self._stats = _Position(), Stats()

    def set_epoch(self, epoch: int) -> None:
        """The random streams of this epoch, counted from 0, from its first batch on. Without it they go on and on."""
        self._position.epoch, self._position.train, self._position.evaluated = int(epoch), 0, 0

    @property
    def stats(self) -> Stats:
        """What has crossed since the beginning, or reset_stats(): a copy."""
        return dataclasses.replace(self._stats)

    def reset_stats(self) -> None:
        self._stats.__dict__.update(Stats().__dict__)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if not isinstance(z, torch.Tensor):
            raise TypeError(f"Cut: one tensor crosses it, not a {type(z).__name__}; let the head return the tensor alone")
        position = self._position
        client = _rank() if self.client is None else self.client
        crossing = _Crossing(client, position.epoch, position.next_step(self.training), self.training, self._masks(z))
        result: torch.Tensor = _Through.apply(z, self, crossing)
        return result

    def _masks(self, z: torch.Tensor) -> bool:
        if self._mask is not None:
            return self._mask
        return self.up.traits.keeps_zero and not self.down.traits.lossless and is_behind_relu(z)

    def _encode(self, codec: Codec, x: torch.Tensor, flow: int, crossing: _Crossing, support: Any, name: str) -> bytes:
        seed = _seeds.codec_seed(self.seed, flow, crossing.client, crossing.epoch, crossing.step)
        try:
            blob: bytes = codec.encode(x, seed=seed, threads=self._threads(), support=support,
                                       evaluate=not crossing.training)
        except _lib.Error as e:
            raise diverged(e, name) from e
        return blob

    def _threads(self) -> int:
        return torch.get_num_threads() if self.threads is None else self.threads

    def _go_up(self, z: torch.Tensor, crossing: _Crossing) -> torch.Tensor:
        begin = time.perf_counter()
        codec = self.up if self.training else self.eval_up
        blob = self._encode(codec, z, _seeds.UPLINK, crossing, None, "the activations")
        crossing.sent = torch.empty(z.shape, dtype=torch.uint8) if crossing.mask else None
        y = decode(blob, device=z.device, threads=self._threads(), sent=crossing.sent).to(z.dtype)
        self._count("uplink", blob, z, begin)
        return y

    def _go_down(self, dy: torch.Tensor, crossing: _Crossing) -> torch.Tensor:
        begin = time.perf_counter()
        sent = crossing.sent
        if sent is not None:
            dy = dy.masked_fill(sent.to(dy.device) == 0, 0)
        support = sent if self.down.traits.takes_support else None
        blob = self._encode(self.down, dy, _seeds.DOWNLINK, crossing, support, "the gradient at the cut")
        dz = decode(blob, device=dy.device, threads=self._threads(), support=support).to(dy.dtype)
        self._count("downlink", blob, dy, begin)
        return dz

    def _count(self, way: str, blob: bytes, x: torch.Tensor, begin: float) -> None:
        stats = self._stats.__dict__
        stats[f"{way}_bytes"] += len(blob)
        stats[f"{way}_raw_bytes"] += x.numel() * x.element_size()
        stats["calls"] += 1
        stats["seconds"] += time.perf_counter() - begin

    def extra_repr(self) -> str:
        return f"up={self.up.spec!r}, down={self.down.spec!r}"


def _codec(spec: Union[str, Codec]) -> Codec:
    return spec if isinstance(spec, Codec) else Codec(spec)


# A compiler of graphs has no business in C code: it leaves a cut as it is.
if hasattr(torch, "compiler") and hasattr(torch.compiler, "disable"):
    Cut.forward = torch.compiler.disable(Cut.forward)  # type: ignore[method-assign]
