"""An optimizer's and a schedule's state as named tensors and JSON, and back. Nothing is pickled: it comes from peers."""
from __future__ import annotations

import collections
from typing import Any, Dict, Tuple

import torch

_SENT = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int32, torch.int64)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _encode(value: Any) -> Any:
    """JSON of numbers, texts, lists, tuples and dicts with any such keys. TypeError for all else."""
    if _plain(value):
        return value
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, (list, tuple)):
        return {"list": [_encode(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k), _encode(v)] for k, v in value.items()]}
    raise TypeError(type(value).__name__)


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if "list" in value:
            return [_decode(v) for v in value["list"]]
        return {_decode(k): _decode(v) for k, v in value["dict"]}
    return value


def _like(value: Any, model: Any) -> Any:
    """What JSON lost: tuples, counters, tensors of one number."""
    if isinstance(model, tuple):
        return tuple(value)
    if isinstance(model, collections.Counter):
        return collections.Counter(value)
    if isinstance(model, torch.Tensor):
        return torch.as_tensor(value, dtype=model.dtype, device=model.device).reshape(model.shape)
    return value


def of_optimizer(optimizer: torch.optim.Optimizer) -> Tuple[Dict[str, torch.Tensor], Dict[str, Any]]:
    """Tensors named INDEX.KEY by the parameter's index, on the CPU; and all else, for JSON."""
    state = optimizer.state_dict()
    tensors: Dict[str, torch.Tensor] = {}
    numbers: Dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            name = f"{index}.{key}"
            if isinstance(value, torch.Tensor):
                value = value.detach().cpu()
                if value.dtype not in _SENT:
                    value = value.float() if value.is_floating_point() else value.long()
                tensors[name] = value.contiguous()
            elif _plain(value):
                numbers[name] = value
            else:
                raise TypeError(f"{type(optimizer).__name__} keeps a {type(value).__name__} for '{key}' of a parameter: "
                                "only tensors and numbers can be saved and sent")
    groups = [{k: _encode(v) for k, v in g.items() if k != "params"} for g in state["param_groups"]]
    return tensors, {"numbers": numbers, "groups": groups}


def _place(name: str, count: int) -> Tuple[int, str]:
    index, _, key = name.partition(".")
    if not index.isdigit() or int(index) >= count or not key:
        raise ValueError(f"the optimizer's state has '{name[:40]}', and {count} parameters")
    return int(index), key


def to_optimizer(optimizer: torch.optim.Optimizer, tensors: Dict[str, torch.Tensor], rest: Dict[str, Any]) -> None:
    """ValueError: of another optimizer, or of other parameters."""
    now = optimizer.state_dict()
    params = [p for g in optimizer.param_groups for p in g["params"]]
    state: Dict[int, Dict[str, Any]] = {}
    for name, value in list(tensors.items()) + list(rest["numbers"].items()):
        index, key = _place(name, len(params))
        if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != params[index].shape:
            raise ValueError(f"the optimizer's state '{name}' is {tuple(value.shape)}, its parameter "
                             f"{tuple(params[index].shape)}")
        state.setdefault(index, {})[key] = value
    if len(rest["groups"]) != len(now["param_groups"]):
        raise ValueError("the optimizer has other groups of parameters there")
    groups = []
    for mine, given in zip(now["param_groups"], rest["groups"]):
        groups.append({k: _like(_decode(given[k]), v) if k in given and k != "params" else v for k, v in mine.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def of_scheduler(scheduler: Any) -> Any:
    """What of its state is numbers, texts, lists and dicts; functions stay each side's own."""
    if scheduler is None:
        return None
    kept = {}
    for key, value in scheduler.state_dict().items():
        try:
            kept[key] = _encode(value)
        except TypeError:
            continue
    return kept


def to_scheduler(scheduler: Any, kept: Any) -> None:
    if scheduler is None or kept is None:
        return
    now = scheduler.state_dict()
    scheduler.load_state_dict({k: _like(_decode(kept[k]), v) if k in kept else v for k, v in now.items()})
