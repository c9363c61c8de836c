"""Targets of several tensors, packed into one of bytes: they come back as they were, and nothing hostile gets through."""
import json
import random

import pytest
import torch

from cutwire.torch import _targets
from cutwire.torch._targets import MAGIC, pack, unpack


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a is b


G = torch.Generator().manual_seed(1)
LABELS, BOXES = torch.tensor([3, 0, 300]), torch.rand(3, 4, generator=G)


@pytest.mark.parametrize("targets", [
    (LABELS, BOXES), [BOXES, LABELS], {"class": LABELS, "box": BOXES}, (LABELS, None, {"a": [BOXES, (LABELS,)], "b": ()}),
    (BOXES.half(), BOXES.bfloat16()), (torch.zeros(3, 0), LABELS - 5), (LABELS + 2**40, torch.ones(3, 2, 1, 2)),
    {"": torch.rand(3, 1, 1, 1, 1, 1, 1, 1, 1, 1)}, {}, (), (BOXES.t().contiguous().t(),)], ids=str)
def test_they_come_back(targets):
    packed = pack(targets, 3)
    assert packed.dtype == torch.uint8 and packed.dim() == 2 and len(packed) == 3 and _targets.is_packed(packed)
    assert equal(unpack(packed), targets)


def test_dtypes_as_those_of_one_tensor():
    given = (torch.tensor([1.5], dtype=torch.float64), torch.tensor([1], dtype=torch.int16), torch.tensor([True]))
    assert [t.dtype for t in unpack(pack(given, 1))] == [torch.float32, torch.int32, torch.uint8]
    assert pack((torch.arange(200).reshape(50, 4),), 50).numel() <= 250  # whole numbers in as few bytes as hold them


def test_which_targets_are_several():
    for one in (LABELS, [1, 2], (1.0, 2.0), [[1], [2]], None, 3, "text", ()):
        assert not _targets.are_several(one)
    for several in ((LABELS,), [LABELS], {"a": LABELS}, {}, (None, LABELS), ([LABELS], 3)):
        assert _targets.are_several(several)


def deep(levels):
    return LABELS if levels == 0 else [deep(levels - 1)]


@pytest.mark.parametrize("targets, kind, match", [
    ((LABELS, BOXES[:2]), ValueError, "dimension 0"), ((LABELS, torch.tensor(1)), ValueError, "dimension 0"),
    ((LABELS, "a"), TypeError, "not str"), ({1: LABELS}, TypeError, "keys"), (deep(9), ValueError, "deep"),
    ((torch.zeros(3, dtype=torch.complex64),), TypeError, "complex64"),
    ({"x" * (1 << 20): LABELS}, ValueError, "description")], ids=lambda x: str(x)[:20])
def test_what_cannot_be_sent(targets, kind, match):
    with pytest.raises(kind, match=match):
        pack(targets, 3)


def made(text, rest=b"", n=1):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    whole = MAGIC + len(text).to_bytes(4, "little") + text + rest
    return torch.frombuffer(bytearray(whole + bytes(-len(whole) % n)), dtype=torch.uint8).reshape(n, -1)


T = [1, 1, [1]]  # fp32, one sample


@pytest.mark.parametrize("packed", [
    made(b"")[:, :9], made(b""), made(b"{"), made(b"[" * 100000), made(b"\xff\xff"), made([0]), made([0, 1, 2]), made([0, {}]),
    made([0, [T]]), made([0, [T]], bytes(3)), made([1, [T]], bytes(4)), made([-1, [T]], bytes(4)), made([True, [T]], bytes(4)),
    made([0.0, [T]], bytes(4)), made(["tuple", []]), made([["tuple", 3], []]), made([["set", []], []]), made([["dict", [1]], []]),
    made([["dict", [["a", 5]]], []]), made([["list"], []]), made(["x", []]),
    made([0, [[1, 1]]], bytes(4)), made([0, [[99, 1, [1]]]], bytes(4)), made([0, [[1, [], [1]]]], bytes(4)),
    made([0, [[1, 1, []]]], bytes(4)), made([0, [[1, 1, [2]]]], bytes(8)), made([0, [[1, 1, [1, -4]]]], bytes(4)),
    made([0, [[1, 1, [1, 2**62, 2**62]]]], bytes(4)), made([0, [[1, 1, [1, 0.5]]]], bytes(4)), made([0, [[1, 1, "1"]]], bytes(4)),
    made([0, [[1, 1, [1] * 65]]], bytes(4)), made([0, [[1, 1, [1, 2**41]]]], bytes(4)),
    made([0, [7]], bytes(4))],
    ids=lambda p: bytes(p.reshape(-1)[12:40].tolist()).decode("latin-1"))
def test_hostile_ones_are_a_value_error(packed):
    with pytest.raises(ValueError):
        unpack(packed)


def test_damage_is_a_value_error_or_a_tensor():
    draw = random.Random(3)
    whole = pack((LABELS, {"box": BOXES}), 3)
    for _ in range(300):
        packed = whole.clone()
        for _ in range(draw.randint(1, 4)):
            packed.view(-1)[draw.randrange(8, 90)] = draw.randrange(256)
        try:
            unpack(packed)
        except ValueError:
            pass
