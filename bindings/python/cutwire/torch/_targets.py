"""What a loader gives as targets, as it travels: labels, one tensor, or several packed into one.

Several tensors (in tuples, lists and dicts) travel as one of bytes, [n, columns], since a message has one tensor of
targets whose dimension 0 is the sample. Read from its first byte to its last it holds

    MAGIC, 8 bytes | size of the text, 4 bytes little-endian | the text, JSON | the tensors' elements | zeros

and the text [structure, tensors]: of each tensor [dtype sent, dtype meant, shape], with cutwire's numbers for dtypes; of
the structure a tensor's index, null, ["tuple", [...]], ["list", [...]] or ["dict", [[key, ...], ...]]. A tensor of bytes
that begins with MAGIC itself is packed, too, so that nothing is taken for what it is not.
"""
from __future__ import annotations

import json
import math
from typing import Any, Iterator, List, Mapping, Optional, Tuple

import torch

from .. import _lib, _net

DTYPES = {torch.float32: _lib.F32, torch.bfloat16: _lib.BF16, torch.float16: _net.F16, torch.uint8: _net.U8,
          torch.int32: _net.I32, torch.int64: _net.I64}
OF_DTYPE = {number: dtype for dtype, number in DTYPES.items()}

MAGIC = b"\x93cwpack1"
_LABEL_END = 2**31 - 1
_DEEPEST, _LONGEST_TEXT, _MOST_DIMS, _LARGEST = 8, 1 << 20, 64, 1 << 40


# ---- one tensor ----


def _narrow(t: torch.Tensor) -> Tuple[torch.Tensor, int]:
    """Whole numbers in as few bytes as hold them, and the dtype that they stand for."""
    meant = _net.U8 if t.dtype in (torch.uint8, torch.bool) else _net.I64 if t.dtype == torch.int64 else _net.I32
    low, high = (int(t.min()), int(t.max())) if t.numel() else (0, 0)
    if 0 <= low and high < 256:
        return t.to(torch.uint8), meant
    if -2**31 <= low and high < 2**31:
        return t.to(torch.int32), meant
    return t, meant


def encode_tensor(t: torch.Tensor) -> Tuple[torch.Tensor, int]:
    """What is sent of a tensor that is no vector of labels, and the dtype that the loss gets."""
    t = t.detach().cpu().contiguous()
    if t.is_complex():
        raise TypeError(f"targets of {t.dtype} cannot be sent")
    if not t.is_floating_point():
        return _narrow(t)
    t = t.float() if t.dtype == torch.float64 else t
    return t, DTYPES[t.dtype]


def as_labels(t: torch.Tensor) -> Optional[torch.Tensor]:
    """Classes by number, which travel in one, two or four bytes each; None for all else."""
    if t.dim() != 1 or t.is_floating_point() or t.is_complex() or t.dtype == torch.bool or not t.numel():
        return None
    if int(t.min()) < 0 or int(t.max()) >= _LABEL_END:
        return None
    return t.detach().cpu().to(torch.int32).contiguous()


# ---- several ----


def _parts(targets: Any) -> Iterator[Any]:
    yield from targets.values() if isinstance(targets, dict) else targets


def are_several(targets: Any) -> bool:
    """Whether targets is a structure of tensors. A list of numbers is one tensor."""
    if isinstance(targets, dict):
        return True
    if not isinstance(targets, (tuple, list)):
        return False
    return any(isinstance(t, (torch.Tensor, dict)) or are_several(t) for t in _parts(targets))


def _structure(targets: Any, tensors: List[torch.Tensor], depth: int = 0) -> Any:
    """The structure as JSON; its tensors are appended to `tensors`."""
    if targets is None:
        return None
    if isinstance(targets, torch.Tensor):
        tensors.append(targets)
        return len(tensors) - 1
    if not isinstance(targets, (tuple, list, dict)):
        raise TypeError(f"among targets: tensors, None, and tuples, lists and dicts of them, not {type(targets).__name__}")
    if depth >= _DEEPEST:
        raise ValueError(f"targets {_DEEPEST} levels deep, at most so many are taken")
    if isinstance(targets, dict):
        if not all(isinstance(key, str) for key in targets):
            raise TypeError("targets: a dict's keys have to be str")
        return ["dict", [[key, _structure(t, tensors, depth + 1)] for key, t in targets.items()]]
    name = "tuple" if isinstance(targets, tuple) else "list"
    return [name, [_structure(t, tensors, depth + 1) for t in targets]]


def _bytes(t: torch.Tensor) -> torch.Tensor:
    return t.reshape(-1).view(torch.uint8) if t.numel() else torch.zeros(0, dtype=torch.uint8)


def pack(targets: Any, n: int) -> torch.Tensor:
    """Targets of several tensors, n samples each, as one of bytes. TypeError, ValueError."""
    tensors: List[torch.Tensor] = []
    structure = _structure(targets, tensors)
    for t in tensors:
        if t.dim() < 1 or t.shape[0] != n:
            raise ValueError(f"among targets a tensor of shape {tuple(t.shape)} for {n} samples: they are dimension 0")
    sent = [encode_tensor(t) for t in tensors]
    text = json.dumps([structure, [[DTYPES[t.dtype], meant, list(t.shape)] for t, meant in sent]]).encode()
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"targets of {len(tensors)} tensors, whose description is over {_LONGEST_TEXT} bytes")
    head = MAGIC + len(text).to_bytes(4, "little") + text
    parts = [torch.frombuffer(bytearray(head), dtype=torch.uint8)] + [_bytes(t) for t, _ in sent]
    size = sum(len(part) for part in parts)
    return torch.cat(parts + [torch.zeros(-size % n, dtype=torch.uint8)]).reshape(n, -1)


def is_packed(t: torch.Tensor) -> bool:
    """Whether a tensor begins as packed ones do."""
    return t.dtype == torch.uint8 and t.numel() >= len(MAGIC) and bytes(t.reshape(-1)[:len(MAGIC)].tolist()) == MAGIC


# ---- from a peer: nothing is trusted ----


class _Reader:
    """The elements behind a head, tensor by tensor."""

    def __init__(self, rest: torch.Tensor) -> None:
        self.rest = rest

    def take(self, described: Any, n: int) -> torch.Tensor:
        sent, meant, shape = described
        if sent not in OF_DTYPE or meant not in OF_DTYPE or not shape or shape[0] != n:
            raise ValueError("packed targets: a tensor that is none, or of another number of samples")
        if len(shape) > _MOST_DIMS or not all(type(d) is int and 0 <= d <= _LARGEST for d in shape):
            raise ValueError("packed targets: sizes that no tensor has")
        size = math.prod(shape) * torch.empty((), dtype=OF_DTYPE[sent]).element_size()
        if size > len(self.rest):
            raise ValueError("packed targets end before their tensors do")
        part, self.rest = self.rest[:size].clone(), self.rest[size:]
        whole = part.view(OF_DTYPE[sent]) if size else torch.zeros(0, dtype=OF_DTYPE[sent])
        return whole.reshape(shape).to(OF_DTYPE[meant])


def _head_of(flat: torch.Tensor) -> Tuple[Any, Any, torch.Tensor]:
    """Structure, descriptions, and what follows."""
    at = len(MAGIC) + 4
    size = int.from_bytes(bytes(flat[at - 4:at].tolist()), "little")
    if len(flat) < at or size > min(_LONGEST_TEXT, len(flat) - at):
        raise ValueError("packed targets end within their head")
    structure, described = json.loads(bytes(flat[at:at + size].tolist()).decode())
    if not isinstance(described, list):
        raise ValueError("packed targets: no list of tensors")
    return structure, described, flat[at + size:]


def _build(structure: Any, tensors: List[torch.Tensor], depth: int = 0) -> Any:
    if structure is None:
        return None
    if type(structure) is int and 0 <= structure < len(tensors):
        return tensors[structure]
    if depth >= _DEEPEST or not isinstance(structure, list) or len(structure) != 2:
        raise ValueError("packed targets: a structure that is none")
    kind, items = structure
    if kind == "dict":
        return {str(key): _build(item, tensors, depth + 1) for key, item in items}
    if kind not in ("tuple", "list"):
        raise ValueError("packed targets: a structure that is none")
    built = [_build(item, tensors, depth + 1) for item in items]
    return tuple(built) if kind == "tuple" else built


def unpack(packed: torch.Tensor) -> Any:
    """What pack() was given, dtypes as encode_tensor says. ValueError for what is nothing of the kind."""
    try:
        structure, described, rest = _head_of(packed.reshape(-1))
        reader = _Reader(rest)
        return _build(structure, [reader.take(d, packed.shape[0]) for d in described])
    except (TypeError, KeyError, RecursionError) as e:
        raise ValueError(f"packed targets: not as they should be ({type(e).__name__})") from e


def moved(x: Any, device: torch.device) -> Any:
    """Tensors of tuples, lists and dicts of any depth, on the device."""
    if isinstance(x, torch.Tensor):
        return x.to(device, non_blocking=True)
    if isinstance(x, Mapping):
        return {k: moved(v, device) for k, v in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(moved(v, device) for v in x))
    if isinstance(x, (tuple, list)):
        return type(x)(moved(v, device) for v in x)
    return x
