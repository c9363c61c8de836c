"""Batches of a DataLoader, or of any list of (inputs, targets), for a client (cutwire/feed.h)."""
from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Tuple

import torch

from .. import _lib, _net
from . import _targets
from ._half import Head, c_tensor, fail

ffi = _net.ffi

_PAIR = "each batch has to be a pair (inputs, targets)"


def _pair(item: Any) -> Tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"{_PAIR}, not {type(item).__name__}" + (f" of {len(item)}" if hasattr(item, "__len__") else ""))
    return item[0], item[1]


def _samples(inputs: Any) -> Optional[int]:
    """The length of the first tensor in it."""
    if isinstance(inputs, torch.Tensor):
        return int(inputs.shape[0]) if inputs.dim() else None
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, (tuple, list)) else ()
    return next((n for n in map(_samples, values) if n is not None), None)


def samples_of(item: Any) -> int:
    inputs, targets = _pair(item)
    n = _samples(inputs)
    n = _samples(targets) if n is None else n
    if n is None:
        raise TypeError(f"{_PAIR} of tensors with the samples in dimension 0; there is no tensor in it")
    return n


def _by_loader(loader: Any) -> Optional[Tuple[int, int]]:
    """What a DataLoader says of itself."""
    if not isinstance(loader, torch.utils.data.DataLoader) or loader.batch_size is None:
        return None
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return None
    count, batch = len(loader.sampler), int(loader.batch_size)
    return (count // batch * batch if loader.drop_last else count), batch


def measure(loader: Any) -> Tuple[int, int]:
    """Samples of an epoch and of a batch. Where a loader does not say it, its batches are counted by reading all once.
    ValueError: the batches differ in size; TypeError: it can be read only once."""
    known = _by_loader(loader)
    if known:
        return known
    batches = iter(loader)
    if batches is loader:
        raise TypeError("a loader is read once for each epoch: give a list or a DataLoader, not an iterator")
    sizes = [samples_of(item) for item in batches]
    if not sizes:
        return 0, 1
    if any(n != sizes[0] for n in sizes[:-1]) or sizes[-1] > sizes[0]:
        raise ValueError(f"batches of {sorted(set(sizes))} samples: all but the last have to have the same size")
    return sum(sizes), sizes[0]


class Feed:
    """One split of a client's data. The head takes its inputs from here; C gets the targets."""

    def __init__(self, loader: Any, head: Head, train: bool) -> None:
        self.loader, self.head, self.train = loader, head, train
        self.failure: Optional[BaseException] = None
        self._batches: Iterator[Any] = iter(())
        self._at: Optional[Tuple[int, int]] = None  #: epoch and next batch
        self._any_targets, self._whole = False, True
        self._classes = 0
        self._kept: Any = None
        self._dummy = ffi.new("float[1]")
        self._handle = ffi.new_handle(self)
        self.c = ffi.new("cw_feed *", {"ctx": self._handle, "open": _open, "seek": _seek, "next": _next})

    def open(self, plan: Any) -> int:
        samples, batch = measure(self.loader)
        self.c.batch = batch if samples else 0
        self._any_targets, self._classes = bool(plan.any_targets), plan.classes
        self.head.random.alone = plan.clients == 1
        self._whole = not self.train or plan.in_flight == 1
        return samples

    def seek(self, epoch: int, batch: int) -> None:
        if self.train:
            self.head.reach_epoch(epoch)
        if self._at == (epoch, batch) and batch:
            return  # within an epoch, where it stands
        sampler = getattr(self.loader, "sampler", None)
        if self.train and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        with self.head.random.training(batch) if self.train else self.head.random.evaluation():
            self._batches = iter(self.loader)
            for _ in range(batch):
                next(self._batches, None)
        self._at = (epoch, batch)

    def next(self, batch: Any) -> None:
        try:
            item = next(self._batches)
        except StopIteration:
            raise RuntimeError("the loader has fewer batches in this epoch than it announced") from None
        assert self._at is not None
        self._at = (self._at[0], self._at[1] + 1)
        self.head.inputs, targets = _pair(item)
        batch.n, batch.x = samples_of(item), self._dummy
        self.head.samples = batch.n
        if targets is not None:
            several = _targets.are_several(targets)
            self._put_targets(batch, _targets.pack(targets, batch.n) if several else torch.as_tensor(targets), several)

    def _put_targets(self, batch: Any, targets: torch.Tensor, packed: bool) -> None:
        if targets.dim() < 1 or targets.shape[0] != batch.n:
            raise ValueError(f"targets of shape {tuple(targets.shape)} for {batch.n} samples: they are dimension 0")
        labels = None if packed else _targets.as_labels(targets)
        if labels is not None:
            if int(labels.max()) >= self._classes:
                raise ValueError(f"label {int(labels.max())}: this run has {self._classes} classes, from 0 on")
            self._kept = labels
            batch.labels = ffi.cast("int32_t *", labels.data_ptr())
            return
        if not self._any_targets:
            what = "several tensors" if packed else f"{targets.dtype} and shape {tuple(targets.shape)}"
            raise TypeError(f"targets of {what}: this server takes one label from 0 on for each sample")
        self._kept, batch.targets_as = _targets.encode_tensor(targets)
        if not packed and _targets.is_packed(self._kept):
            packed = True
            self._kept, batch.targets_as = _targets.pack(targets, batch.n), _net.U8
        if packed and not self._whole:
            raise TypeError("targets of several tensors cannot be cut into micro-batches: this server would have to have "
                            "in_flight=1")
        batch.targets = c_tensor(self._kept)


@ffi.callback("cw_status(void *, const cw_feed_plan *, size_t *, cw_error *)", error=_net.ERR_BACKEND)
def _open(ctx: Any, plan: Any, samples: Any, err: Any) -> int:
    feed = ffi.from_handle(ctx)
    try:
        samples[0] = feed.open(plan)
        return _lib.OK
    except BaseException:
        return fail(feed, err)


@ffi.callback("cw_status(void *, uint64_t, size_t, cw_error *)", error=_net.ERR_BACKEND)
def _seek(ctx: Any, epoch: int, batch: int, err: Any) -> int:
    feed = ffi.from_handle(ctx)
    try:
        feed.seek(epoch, batch)
        return _lib.OK
    except BaseException:
        return fail(feed, err)


@ffi.callback("cw_status(void *, cw_batch *, cw_error *)", error=_net.ERR_BACKEND)
def _next(ctx: Any, batch: Any, err: Any) -> int:
    feed = ffi.from_handle(ctx)
    try:
        feed.next(batch)
        return _lib.OK
    except BaseException:
        return fail(feed, err)
