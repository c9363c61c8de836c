"""The programs in examples/python, in small."""
import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch

import cutwire

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples" / "python"
CACHE = pathlib.Path(os.environ.get("CUTWIRE_DATA") or pathlib.Path.home() / ".cache/cutwire/data")


def run(name, *arguments, cwd):
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(cutwire.__file__).parents[1]), "OMP_NUM_THREADS": "1",
           "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, str(EXAMPLES / name), *map(str, arguments)], capture_output=True, text=True,
                          env=env, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def data(*folders):
    found = next((f for f in map(pathlib.Path, folders) if f.is_dir()), None)
    if not found:
        pytest.skip(f"none of {', '.join(map(str, folders))} is there")
    return found


def accuracies(said):
    return [float(x) for x in re.findall(r"(\d+\.\d+)%", said)]


def times_fewer(said):
    return [float(x) for x in re.findall(r"(\d+\.\d+) times\s+fewer|down (\d+\.\d+)", said) for x in x if x]


def test_simulate(tmp_path):
    folder = data("/usr/share/datasets/fashion-mnist", CACHE / "fashion-mnist")
    said = run("simulate.py", "--data", folder, "--limit", 3000, "--epochs", 2, cwd=tmp_path)
    _, without, _, with_cut = accuracies(said)  # the first 47 batches end anywhere: batch norm has seen too few
    assert without > 40 and with_cut > 40
    assert all(ratio > 5 for ratio in times_fewer(said)), said


def test_client_and_server(tmp_path):
    folder = data("/usr/share/datasets/fashion-mnist", CACHE / "fashion-mnist")
    said = run("client_and_server.py", "--data", folder, "--limit", 2000, "--epochs", 2, cwd=tmp_path)
    assert accuracies(said)[1] > 40, said


def test_remote(tmp_path):
    folder = data("/usr/share/datasets/fashion-mnist", CACHE / "fashion-mnist")
    said = run("remote.py", "--data", folder, "--limit", 2000, "--ask", 100, cwd=tmp_path)
    assert said.startswith("100 answers by small, ") and accuracies(said)[0] > 40, said


def test_transformer(tmp_path):
    folder = data(CACHE / "ag-news", CACHE / "ag-news-10k")
    said = run("transformer.py", "--data", folder, "--limit", 256, "--epochs", 1, cwd=tmp_path)
    assert len(accuracies(said)) == 2 and all(ratio > 2 for ratio in times_fewer(said)), said


def test_photos(tmp_path):
    folder = data(CACHE / "imagenette-224")
    small = ("photos.py", "--data", folder, "--limit", 40, "--size", 64, "--epochs", 1)
    said = run(*small, "--save", "learned.pth", cwd=tmp_path)
    assert all(ratio > 3 for ratio in times_fewer(said)), said
    learned = torch.load(tmp_path / "learned.pth")
    assert "layer1.0.conv1.weight" in learned and "fc.bias" in learned
    assert f"{len(learned)} of {len(learned)} tensors" in run(*small, "--weights", "learned.pth", cwd=tmp_path)
