"""A module of PyTorch as a half of a run (cutwire/half.h): its layers forward and back, its tensors by their names."""
from __future__ import annotations

import json
import traceback
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy
import torch

from .. import _lib, _net
from . import _random, _state, _targets
from ._targets import DTYPES as _DTYPES, OF_DTYPE as _OF_DTYPE, moved

ffi = _net.ffi

class _Entry(NamedTuple):
    """A tensor of the module, and its copy in this machine's memory, which C reads and writes."""

    kind: int
    name: str
    tensor: torch.Tensor
    stage: torch.Tensor


def _stage(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(tensor.shape, dtype=dtype, pin_memory=tensor.is_cuda)


def _entries(module: torch.nn.Module) -> List[_Entry]:
    """In the order of the state dict, which is that of C's own networks. What has two names counts by the first."""
    entries: List[_Entry] = []
    seen = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) in seen or not isinstance(tensor, torch.Tensor):
            continue
        seen.add(id(tensor))
        if tensor.is_complex():
            raise TypeError(f"{name} is {tensor.dtype}: complex numbers cannot travel; keep torch.view_as_real of it, or "
                            "register a buffer with persistent=False")
        if tensor.is_floating_point() and (tensor.requires_grad or not isinstance(tensor, torch.nn.Parameter)):
            if tensor.dtype == torch.float64:
                raise TypeError(f"{name} is float64: what is trained over the network is fp32, bf16 or fp16; call .float()")
            kind = _net.WEIGHT if tensor.requires_grad else _net.BUFFER
            entries.append(_Entry(kind, name, tensor, _stage(tensor, torch.float32)))
            if tensor.requires_grad:
                entries.append(_Entry(_net.GRADIENT, name, tensor, _stage(tensor, torch.float32)))
        else:
            dtype = tensor.dtype if tensor.dtype in _DTYPES else (
                torch.float32 if tensor.is_floating_point() else torch.int64)
            entries.append(_Entry(_net.FIXED, name, tensor, _stage(tensor, dtype)))
    return entries


def tensor_of(c: Any) -> torch.Tensor:
    """A copy of a cw_tensor."""
    dtype = _OF_DTYPE[c.dtype]
    sizes = _net.sizes_of(c.shape)
    count = int(numpy.prod(sizes, dtype=numpy.int64))
    if not count:
        return torch.zeros(sizes, dtype=dtype)
    size = count * torch.tensor([], dtype=dtype).element_size()
    return torch.frombuffer(bytearray(ffi.buffer(c.data, size)), dtype=dtype).reshape(sizes)


def c_tensor(t: torch.Tensor) -> Dict[str, Any]:
    """A view for C, whose memory the caller keeps."""
    return {"dtype": _DTYPES[t.dtype], "shape": _net.shape_of(t.shape), "data": ffi.cast("void *", t.data_ptr())}


def _floats(pointer: Any, count: int) -> torch.Tensor:
    """`count` floats at pointer, as they lie there."""
    return torch.frombuffer(ffi.buffer(pointer, count * 4), dtype=torch.float32)


def cut(x: Any, samples: int, first: int, n: int) -> Any:
    """Samples [first, first + n) of the tensors of tuples, lists and dicts of any depth."""
    if isinstance(x, torch.Tensor):
        return x[first:first + n] if x.dim() and x.shape[0] == samples else x
    if isinstance(x, Mapping):
        return {k: cut(v, samples, first, n) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        parts = [cut(v, samples, first, n) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x


def call(module: torch.nn.Module, inputs: Any) -> Any:
    """A tuple's or list's items are the arguments, a dict's or another mapping's the keyword arguments."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, (tuple, list)) else module(inputs)


def _idle(module: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a module that learns nothing."""
    learns = next((name for name, p in module.named_parameters() if p.requires_grad), None)
    if learns is not None:
        raise TypeError(f"optimizer=None is for a module that learns nothing, and {learns} of this one does: give an "
                        "optimizer, or freeze the module by requires_grad_(False)")
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(0))], lr=0.0)


class Half:
    """What both sides have: tensors, optimizer, schedule."""

    tickets = 1  #: micro-batches whose way back may be due at once

    def __init__(self, module: torch.nn.Module, optimizer: Optional[torch.optim.Optimizer], scheduler: Any, every: str,
                 follow_lr: bool) -> None:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"a torch.nn.Module is wanted, not {type(module).__name__}")
        if optimizer is None:
            optimizer = _idle(module)
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError("an optimizer of torch is wanted whose step() needs no closure, not "
                            f"{type(optimizer).__name__}")
        if every not in ("epoch", "step"):
            raise ValueError(f"scheduler_every: {every!r} is neither 'epoch' nor 'step'")
        self.plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        if self.plateau and every == "step":
            raise ValueError("ReduceLROnPlateau steps once an epoch: scheduler_every='epoch'")
        self.module, self.optimizer, self.scheduler, self.every = module, optimizer, scheduler, every
        self.follow_lr = follow_lr
        self.entries = _entries(module)
        self.without: Dict[str, bool] = {}  #: weights that the last backward gave no gradient
        self.device = next((e.tensor.device for e in self.entries), torch.device("cpu"))
        floats = {e.tensor.dtype for e in self.entries if e.tensor.is_floating_point()}
        self.dtype = floats.pop() if len(floats) == 1 else torch.float32  #: what the module computes in
        self.epochs = 0  #: that the schedule has seen
        self.random: _random.Random = _random.Random(self.device)
        self.failure: Optional[BaseException] = None
        self._modes: List[Tuple[torch.nn.Module, bool]] = []
        self._box = ffi.new("cw_half **")
        self._handle = ffi.new_handle(self)
        self._kept: List[Any] = []

    # ---- life ----

    def open(self, last: bool, behind_relu: bool = False, any_targets: bool = False) -> Any:
        """The cw_half *, until close()."""
        if not self.module.training:
            self.module.train()
        self._modes = [(m, m.training) for m in self.module.modules()]
        names = [ffi.new("char[]", e.name.encode()) for e in self.entries]
        tensors = ffi.new("cw_half_tensor[]", [
            {"kind": e.kind, "name": n, "tensor": c_tensor(e.stage)} for e, n in zip(self.entries, names)])
        callbacks = ffi.new("cw_half_callbacks *", {
            "tickets": self.tickets, "behind_relu": behind_relu, "tensors": tensors, "tensor_count": len(self.entries),
            "forward": _forward, "loss": _loss if last else ffi.NULL, "backward": _backward, "step": _step,
            "fetch": _fetch, "store": _store, "output": ffi.NULL if last else _output, "any_targets": any_targets,
            "rate": _rate if last else ffi.NULL, "list_state": _list_state, "take_state": _take_state})
        err = ffi.new("cw_error *")
        _net.check(_net.lib().cw_half_create(callbacks, self._handle, self._box, err), err)
        return self._box[0]

    def close(self) -> None:
        _net.lib().cw_half_destroy(self._box)
        for module, mode in self._modes:
            module.training = mode

    def set_mode(self, mode: int) -> None:
        """As the module was given while training, so that parts of it may be in eval()."""
        if mode == _net.EVAL:
            self.module.eval()
            return
        for module, training in self._modes:
            module.training = training

    # ---- tensors ----

    def fetch(self, kind: int) -> None:
        for e in self.entries:
            if e.kind != kind:
                continue
            if kind != _net.GRADIENT:
                e.stage.copy_(e.tensor.detach())
                continue
            grad = e.tensor.grad
            self.without[e.name] = grad is None
            e.stage.zero_() if grad is None else e.stage.copy_(grad.to_dense() if grad.is_sparse else grad)

    @torch.no_grad()
    def store(self, kind: int) -> None:
        for e in self.entries:
            if e.kind != kind:
                continue
            if kind != _net.GRADIENT:
                e.tensor.copy_(e.stage)
            elif self.without.get(e.name) and not e.stage.any():
                e.tensor.grad = None  # as in a plain loop: no weight decay, no momentum
            else:
                e.tensor.grad = e.stage.to(e.tensor.device, e.tensor.dtype, copy=True)

    def clear_gradients(self) -> None:
        for e in self.entries:
            if e.kind == _net.WEIGHT:
                e.tensor.grad = None

    # ---- optimizer and schedule ----

    def step(self, lr: float) -> None:
        if self.follow_lr:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
        self.optimizer.step()
        if self.scheduler is not None and self.every == "step":
            self.scheduler.step()

    def rate(self, lr: float) -> float:
        return lr if self.follow_lr else float(self.optimizer.param_groups[0]["lr"])

    def reach_epoch(self, epoch: int, measured: Optional[float] = None) -> None:
        """So many epochs are over. measured: of the last one, for a schedule that waits for that; None: it waits on."""
        while self.epochs < epoch:
            self.epochs += 1
            if self.scheduler is None or self.every != "epoch":
                continue
            if not self.plateau:
                self.scheduler.step()
            elif measured is not None:
                self.scheduler.step(measured)

    def list_state(self) -> Any:
        tensors, rest = _state.of_optimizer(self.optimizer)
        rest["scheduler"] = _state.of_scheduler(self.scheduler)
        rest["epochs"] = self.epochs
        tensors.update(self.random.list())
        text = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
        named = list(tensors.items()) + [("json", text)]
        names = [ffi.new("char[]", name.encode()) for name, _ in named]
        listed = ffi.new("cw_half_tensor[]", [
            {"kind": _net.STATE, "name": n, "tensor": c_tensor(t)} for n, (_, t) in zip(names, named)])
        self._kept = [listed, names, named]
        return listed, len(named)

    def take_state(self, items: Dict[str, torch.Tensor]) -> None:
        text = items.pop("json", None)
        if text is None:
            raise ValueError("the optimizer's state has no json: it is not of this package")
        rest = json.loads(bytes(text.to(torch.uint8).tolist()).decode())
        self.random.take(items)
        _state.to_optimizer(self.optimizer, items, rest)
        _state.to_scheduler(self.scheduler, rest.get("scheduler"))
        self.epochs = int(rest.get("epochs", 0))

    # ---- the way forward and back, of the sides below ----

    def forward(self, c: Any, x: Any, y: Any) -> None:
        raise NotImplementedError

    def backward(self, c: Any, dy: Any, dx: Any) -> None:
        raise NotImplementedError

    def output(self, c: Any, y: Any) -> None:
        raise NotImplementedError

    def loss(self, c: Any, targets: Any, out: Any) -> None:
        raise NotImplementedError


class Head(Half):
    """The layers before the cut. Inputs are what the feed took from the loader last."""

    tickets = 64  # as many as there may be
    inputs: Any = None
    samples = 0  #: in them
    sent: Optional[torch.Tensor] = None
    random: _random.OfLoader

    def __init__(self, module: torch.nn.Module, optimizer: Optional[torch.optim.Optimizer], scheduler: Any, every: str,
                 follow_lr: bool) -> None:
        super().__init__(module, optimizer, scheduler, every, follow_lr)
        if self.plateau:
            raise TypeError("ReduceLROnPlateau waits for what only the server measures: give it to the server, and "
                            "follow_lr=True here")
        self.random = _random.OfLoader(self.device)
        self.open_z: Dict[int, torch.Tensor] = {}  #: what has gone up, by its ticket, until its gradient comes

    def forward(self, c: Any, x: Any, y: Any) -> None:
        training = c.mode == _net.TRAIN
        self.set_mode(c.mode)
        with torch.set_grad_enabled(training):
            z = call(self.module, moved(self._part(c.first, c.n), self.device))
        if not isinstance(z, torch.Tensor) or not z.is_floating_point() or z.dim() < 1:
            raise TypeError(f"the head gave {type(z).__name__}: one tensor of floats is to cross the cut, with the samples "
                            "in dimension 0")
        if training:
            self.open_z[c.ticket] = z
        self.sent = z.detach().to("cpu", torch.float32).contiguous()

    def _part(self, first: int, n: int) -> Any:
        """The inputs of a micro-batch: of tensors with the batch's samples in dimension 0 as many."""
        if n == self.samples:
            return self.inputs
        return cut(self.inputs, self.samples, first, n)

    def output(self, c: Any, y: Any) -> None:
        assert self.sent is not None
        y.dtype, y.shape = _lib.F32, _net.shape_of(self.sent.shape)
        y.data = ffi.cast("void *", self.sent.data_ptr())

    def backward(self, c: Any, dy: Any, dx: Any) -> None:
        z = self.open_z.pop(c.ticket, None)
        if z is None:
            raise RuntimeError("no forward is open")
        self.clear_gradients()
        if z.requires_grad:
            z.backward(_floats(dy, z.numel()).reshape(z.shape).to(z.device, z.dtype, copy=True))


class Tail(Half):
    """The layers after the cut, and the loss."""

    def __init__(self, module: torch.nn.Module, optimizer: Optional[torch.optim.Optimizer], scheduler: Any, every: str,
                 loss_fn: Callable[..., torch.Tensor], metric: Optional[Callable[..., Any]], follow_lr: bool) -> None:
        super().__init__(module, optimizer, scheduler, every, follow_lr)
        self.loss_fn, self.metric = loss_fn, metric
        self.counted = metric is not None  #: whether there is an accuracy
        self.x: Optional[torch.Tensor] = None
        self.out: Any = None
        self.value: Optional[torch.Tensor] = None

    def forward(self, c: Any, x: Any, y: Any) -> None:
        sizes = _net.sizes_of(c.shape)
        training = c.mode == _net.TRAIN
        self.set_mode(c.mode)
        count = int(numpy.prod(sizes, dtype=numpy.int64))
        z = _floats(x, count).reshape(sizes)
        self.x = z.requires_grad_() if training else None
        with torch.set_grad_enabled(training):
            self.out = self.module(z.to(self.device, self.dtype, copy=True))  # no leaf: its first layer may work in place

    def _target(self, targets: Any, n: int) -> Any:
        if targets.labels:
            labels = torch.frombuffer(bytearray(ffi.buffer(targets.labels, 4 * n)), dtype=torch.int32)
            return labels.long().to(self.device)
        if not targets.tensor:
            return None
        given = tensor_of(targets.tensor)
        if _targets.is_packed(given):
            return moved(_targets.unpack(given), self.device)
        return given.to(_OF_DTYPE[targets.tensor_as]).to(self.device)

    def _correct(self, target: Any) -> int:
        out = self.out
        if self.metric is not None:
            return int(self.metric(out, target))
        if not isinstance(out, torch.Tensor) or not isinstance(target, torch.Tensor) or out.dim() != 2 or \
                target.dim() != 1 or target.is_floating_point():
            return 0
        self.counted = True
        return int((out.argmax(1) == target).sum())

    def loss(self, c: Any, targets: Any, out: Any) -> None:
        target = self._target(targets, c.n)
        with torch.set_grad_enabled(c.mode == _net.TRAIN):
            value = self.loss_fn(self.out, target)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            gave = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"loss_fn gave {gave}: a tensor of one number is wanted, the mean over the batch's samples, as "
                            "of a loss with reduction='mean'")
        with torch.no_grad():
            out.correct = min(max(self._correct(target), 0), c.n)
        out.mean = float(value)
        self.value = value if c.mode == _net.TRAIN else None
        self.out = None

    def backward(self, c: Any, dy: Any, dx: Any) -> None:
        value, x, self.value, self.x = self.value, self.x, None, None
        if value is None or x is None:
            raise RuntimeError("no forward is open")
        self.clear_gradients()
        value.backward()
        into = _floats(dx, x.numel())
        into.zero_() if x.grad is None else into.copy_(x.grad.reshape(-1))


# ---- what C calls ----


def fail(owner: Any, err: Any) -> int:
    """The exception at hand is kept for who runs the loop; C, and the other side, get its last line."""
    import sys

    kind, value, _ = sys.exc_info()
    owner.failure = value
    _net.fill(err, " ".join("".join(traceback.format_exception_only(kind, value)).split()))
    return value.status if isinstance(value, _lib.Error) else _net.ERR_BACKEND


@ffi.callback("cw_status(void *, const cw_half_call *, const float *, float *, cw_error *)", error=_net.ERR_BACKEND)
def _forward(ctx: Any, c: Any, x: Any, y: Any, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.forward(c, x, y)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, const cw_half_call *, const cw_targets *, cw_loss *, cw_error *)", error=_net.ERR_BACKEND)
def _loss(ctx: Any, c: Any, targets: Any, out: Any, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.loss(c, targets, out)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, const cw_half_call *, const float *, float *, cw_error *)", error=_net.ERR_BACKEND)
def _backward(ctx: Any, c: Any, dy: Any, dx: Any, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.backward(c, dy, dx)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, float, cw_error *)", error=_net.ERR_BACKEND)
def _step(ctx: Any, lr: float, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.step(lr)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("float(void *, float)", error=0.0)
def _rate(ctx: Any, lr: float) -> float:
    return ffi.from_handle(ctx).rate(lr)


@ffi.callback("cw_status(void *, int, cw_error *)", error=_net.ERR_BACKEND)
def _fetch(ctx: Any, kind: int, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.fetch(kind)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, int, cw_error *)", error=_net.ERR_BACKEND)
def _store(ctx: Any, kind: int, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.store(kind)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, const cw_half_call *, cw_tensor *, cw_error *)", error=_net.ERR_BACKEND)
def _output(ctx: Any, c: Any, y: Any, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.output(c, y)
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, const cw_half_tensor **, size_t *, cw_error *)", error=_net.ERR_BACKEND)
def _list_state(ctx: Any, tensors: Any, count: Any, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        tensors[0], count[0] = half.list_state()
        return _lib.OK
    except BaseException:
        return fail(half, err)


@ffi.callback("cw_status(void *, const cw_named_tensor *, size_t, cw_error *)", error=_net.ERR_BACKEND)
def _take_state(ctx: Any, items: Any, count: int, err: Any) -> int:
    half = ffi.from_handle(ctx)
    try:
        half.take_state({_lib.text(items[i].name): tensor_of(items[i].tensor) for i in range(count)})
        return _lib.OK
    except BaseException:
        return fail(half, err)
