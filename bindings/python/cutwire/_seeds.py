"""The random streams of a run's codec calls: cwi_codec_seed of src/config/setup.c, to the bit.

A seed is a function of (seed of the run, flow, client, epoch, step, micro-batch), so that nothing has to be saved to go
on. A test holds it against C.
"""
from __future__ import annotations

#: What is coded on its way between a client and the server.
UPLINK, DOWNLINK, CLIENT_GRAD, UPDATE = range(4)

_FLOWS = 4
_CODEC = 6  # the purpose of these streams, CWI_STREAM_CODEC
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(x: int) -> int:
    """The finalizer of splitmix64."""
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


def codec_seed(seed: int, flow: int, client: int, epoch: int, step: int, ticket: int = 0) -> int:
    """What cw_encode_args.seed is for this call."""
    who = ticket << 40 | (client * _FLOWS + flow)
    key = _mix((seed + _GOLDEN) & _MASK)
    key = _mix(key ^ _mix(_CODEC * _GOLDEN & _MASK))
    key = _mix(key ^ _mix((who + _GOLDEN) & _MASK))
    key = _mix(key ^ _mix(((epoch << 32 | step) + 2 * _GOLDEN) & _MASK))
    return _mix((key + _GOLDEN) & _MASK)
