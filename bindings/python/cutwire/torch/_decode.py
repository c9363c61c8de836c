"""Payloads to tensors of torch."""
from __future__ import annotations

import functools
from typing import Any, Optional, Tuple, Union

import torch

from .. import _codec, _lib

_DTYPES = {_lib.F32: torch.float32, _lib.BF16: torch.bfloat16}


def _empty(shape: Tuple[int, ...], dtype: int, pinned: bool = False) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=_DTYPES[dtype], pin_memory=pinned)
    except (MemoryError, RuntimeError) as e:
        sizes = "x".join(map(str, shape))
        raise _lib.Error(f"no memory for a tensor of {sizes}", "CW_ERR_NO_MEMORY", _lib.ERR_NO_MEMORY) from e


def decode(blob: Any, out: Optional[torch.Tensor] = None, *, device: Union[None, str, torch.device] = None,
           threads: int = 1, support: Any = None, sent: Any = None,
           profile: Optional[_codec.Profile] = None) -> torch.Tensor:
    """The tensor that a payload holds: fp32, or bf16 if that was encoded; on `device`, by default the CPU.

    out      a contiguous CPU tensor to be filled; other arguments and exceptions are those of cutwire.decode
    """
    to_gpu = device is not None and torch.device(device).type == "cuda" and torch.cuda.is_available()
    make = functools.partial(_empty, pinned=True) if to_gpu else _empty
    tensor: torch.Tensor = _codec._decode(blob, out, threads, support, sent, profile, make)
    return tensor if device is None else tensor.to(device)
