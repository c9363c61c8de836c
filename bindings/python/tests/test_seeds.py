"""The random streams of codec calls are those of the C library."""
import os
import random
import subprocess

import pytest

from cutwire._seeds import CLIENT_GRAD, DOWNLINK, UPDATE, UPLINK, codec_seed


def test_known_seed():
    assert len({codec_seed(1, flow, 0, 0, 0) for flow in (UPLINK, DOWNLINK, CLIENT_GRAD, UPDATE)}) == 4


def test_same_seeds_as_c():
    program = os.environ.get("CUTWIRE_PRINT_SEEDS")
    if not program:
        pytest.skip("CUTWIRE_PRINT_SEEDS names no program: ctest builds it")
    rng = random.Random(1)
    calls = [(0, 0, 0, 0, 0, 0), (2**64 - 1, 3, 2**20, 2**32 - 1, 2**32 - 1, 15)]
    calls += [(rng.getrandbits(64), rng.randrange(4), rng.randrange(5000), rng.randrange(999), rng.randrange(2**32),
               rng.randrange(16)) for _ in range(200)]
    lines = "".join(" ".join(map(str, call)) + "\n" for call in calls)
    made = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.split()
    assert [codec_seed(*call) for call in calls] == list(map(int, made))
