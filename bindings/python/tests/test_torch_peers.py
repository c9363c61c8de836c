"""research/peers: the codecs of other systems do what they are said to do, and the table is made."""
import os
import pathlib
import subprocess
import sys

import pytest
import torch

import cutwire

PEERS = pathlib.Path(__file__).resolve().parents[3] / "research" / "peers"
sys.path.insert(0, str(PEERS))
import peer_codecs as peer  # noqa: E402


@pytest.mark.parametrize("codec, bits, error", [
    (peer.Fp16(), 16, 0.001), (peer.ZeroPoint8(), 8, 0.02), (peer.Uniform8(), 8, 0.12), (peer.NormalFloat4(), 4.5, 0.12),
    (peer.TopK(0.9), 6.4, 0.8)], ids=lambda c: getattr(c, "name", ""))
def test_codec(codec, bits, error):
    torch.manual_seed(1)
    for x in (torch.randn(8, 16, 12, 12), torch.randn(8, 16, 12, 12).relu(), 1e-6 * torch.randn(3, 5, 7, 11)):
        blob = codec.encode(x)
        y = codec.decode(blob, tuple(x.shape))
        assert y.shape == x.shape
        if x.numel() > 10000:
            assert abs(8 * len(blob) / x.numel() - bits) < 0.6
            assert float((x - y).norm() / x.norm()) < error
    zero = torch.zeros(2, 3, 8, 8)
    assert torch.equal(codec.decode(codec.encode(zero), tuple(zero.shape)), zero)


def test_table(tmp_path):
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Fashion-MNIST is not installed (dataset-fashion-mnist)")
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(cutwire.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, PEERS / "peers.py", "--epochs", "1", "--limit", "64", "--seeds", "1", "--results", tmp_path]
    for _ in range(2):  # the second time there is nothing left to train
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
        assert done.returncode == 0, done.stderr
    assert not done.stdout
    table = next(tmp_path.glob("*.md")).read_text().splitlines()
    assert len([line for line in table if line.startswith("| ")]) == 1 + 10
