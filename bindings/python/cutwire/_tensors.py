"""What numpy and torch call a tensor, as C has it: dtype, shape and an address of row-major elements."""
from __future__ import annotations

import sys
from typing import Any, NamedTuple, Optional, Tuple

import numpy

from . import _lib

_F32 = numpy.dtype(numpy.float32)  # there is one object of it
_WANTED = "a float tensor is wanted: fp32, fp16 or bf16, of numpy or torch"


class View(NamedTuple):
    """Elements in memory. `owner` keeps them there."""

    dtype: int  # _lib.F32 or _lib.BF16
    shape: Tuple[int, ...]
    address: int
    count: int
    owner: Any


def is_torch(x: Any) -> bool:
    """Whether x is a torch.Tensor. Never imports torch: who has no tensor need not have it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, getattr(torch, "Tensor", ()))


def as_array(x: Any, write: bool = False) -> Any:
    """What _fast may take: x itself, or a numpy array on the memory of a torch tensor. None for other things."""
    if x.__class__ is numpy.ndarray:
        return x
    if not is_torch(x) or (write and x.requires_grad):
        return None
    try:
        return x.detach().numpy() if x.requires_grad else x.numpy()
    except (TypeError, RuntimeError):  # another dtype or device, or sparse
        return None


def _refuse(x: Any, dtype: Any) -> TypeError:
    hint = "; cast it with .float()" if is_torch(x) else "; cast it with .astype(numpy.float32)"
    return TypeError(f"{_WANTED}, not {type(x).__name__} of {dtype}{hint if 'float64' in str(dtype) else ''}")


def on_host(x: Any) -> Any:
    """A torch tensor's copy in this machine's memory: pinned where it came from a GPU."""
    import torch

    if x.device.type != "cuda":
        return x.cpu()
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return host.copy_(x)


def of_torch(x: Any) -> View:
    import torch

    if x.layout != torch.strided:
        raise TypeError(f"{_WANTED}, not of layout {x.layout}; make it dense with .to_dense()")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise _refuse(x, x.dtype)
    x = x.detach()
    if x.device.type != "cpu":
        x = on_host(x)
    if x.dtype == torch.float16:
        x = x.float()
    if x.is_neg():
        x = x.resolve_neg()
    x = x.contiguous()
    return View(_lib.BF16 if x.dtype == torch.bfloat16 else _lib.F32, tuple(x.shape), x.data_ptr(), x.numel(), x)


def _numpy_dtype(x: numpy.ndarray) -> int:
    """0: to be cast to fp32."""
    if x.dtype == numpy.float32 and x.dtype.isnative:
        return _lib.F32
    if x.dtype.name == "bfloat16" and x.dtype.itemsize == 2:  # of ml_dtypes
        return _lib.BF16
    if x.dtype.kind == "f" and x.dtype.itemsize <= 4:
        return 0
    raise _refuse(x, x.dtype)


def of_numpy(x: numpy.ndarray) -> View:
    if x.dtype is _F32 and x.flags.carray:
        return View(_lib.F32, x.shape, x.__array_interface__["data"][0], x.size, x)
    dtype = _numpy_dtype(x)
    if not dtype:
        x, dtype = x.astype(numpy.float32), _lib.F32
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = x.copy(order="C")
    return View(dtype, x.shape, x.__array_interface__["data"][0], x.size, x)


def of(x: Any) -> View:
    """Of a tensor to be read; contiguous fp32 and bf16 are not copied. TypeError: it is no float tensor."""
    if isinstance(x, numpy.ndarray):
        return of_numpy(x)
    if is_torch(x):
        return of_torch(x)
    if not (hasattr(x, "__array__") or hasattr(x, "__array_interface__")) and not isinstance(x, memoryview):
        raise TypeError(f"{_WANTED}, not {type(x).__name__}")
    return of_numpy(numpy.asarray(x))


def of_out(x: Any) -> View:
    """Of a tensor to be written into: the elements themselves, never a copy. TypeError, ValueError."""
    if isinstance(x, numpy.ndarray) and x.dtype is _F32 and x.flags.carray:
        return of_numpy(x)
    if not is_torch(x) and not isinstance(x, numpy.ndarray):
        raise TypeError(f"out: {_WANTED}, not {type(x).__name__}")
    if is_torch(x):
        fit = x.device.type == "cpu" and x.is_contiguous() and not x.is_neg()
        if x.requires_grad:
            raise ValueError("out: it must not require a gradient: give out.detach()")
    else:
        fit = x.flags.c_contiguous and x.flags.aligned and x.flags.writeable
    if not fit:
        raise ValueError("out: it must be writable and contiguous, and in this machine's memory")
    view = of(x)
    base = x.data_ptr() if is_torch(x) else x.__array_interface__["data"][0]
    if view.count and view.address != base:
        raise TypeError("out: fp32 is wanted, or what was encoded: bf16")
    return view


def flags(x: Any, count: int, name: str, write: bool = False) -> Optional[View]:
    """A byte for each of `count` elements: uint8 or bool, of numpy or torch. None stays None."""
    if x is None:
        return None
    if is_torch(x):
        import torch

        if x.dtype not in (torch.uint8, torch.bool):
            raise TypeError(f"{name}: a tensor of uint8 or bool is wanted, not of {x.dtype}")
        x = (x.detach() if write else x.detach().cpu().contiguous()).numpy()
    if not isinstance(x, numpy.ndarray) or x.dtype not in (numpy.uint8, numpy.bool_):
        raise TypeError(f"{name}: an array of uint8 or bool is wanted")
    if x.size != count:
        raise ValueError(f"{name}: {x.size} elements, the tensor has {count}")
    if not (x.flags.c_contiguous and (x.flags.writeable or not write)):
        if write:
            raise ValueError(f"{name}: it must be writable and contiguous")
        x = x.copy(order="C")
    return View(0, x.shape, x.__array_interface__["data"][0], x.size, x)
