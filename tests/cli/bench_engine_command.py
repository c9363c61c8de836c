#!/usr/bin/python3
"""cutwire bench engine's JSON, on images, texts and tables, with PyTorch beside it: bench_engine_command.py CUTWIRE."""
import importlib.util
import json
import subprocess
import sys

from cli_run import CUTWIRE, LIMIT, run

TINY = ["--batch", "2", "--steps", "1", "--threads", "1", "--json"]
IMAGES = ["--model", "cnn", "--sample", "1x8x8"]
TEXTS = ["--model", "textcnn", "--sample", "6", "--input", "tokens:30", "--activation", "tanh"]
TABLES = ["--model", "mlp", "--input", "table:2/3/4", "--activation", "gelu"]


def bench(*args):
    """The JSON object, and what was said on standard error."""
    done = subprocess.run([CUTWIRE, "bench", "engine", *args, *TINY], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_object():
    for args, sample, what, activation in ((IMAGES, "1x8x8", "image", "relu"), (TEXTS, "6", "tokens:30", "tanh"),
                                           (TABLES, "4", "table:2/3/4", "gelu")):
        r, said = bench(*args, "--precision", "fp32", "--no-pytorch")
        assert (r["sample"], r["input"], r["activation"]) == (sample, what, activation), r
        assert r["model"] == args[1] and r["precision"] == "fp32" and r["batch"] == 2, r
        assert r["images_per_s"] > 0 and r["inference_images_per_s"] > 0 and r["roofline_fraction"] > 0, r
        assert r["memory_bytes"] > 0 and r["seconds_by_kind"]["matmul"] > 0, r
        assert "vs_pytorch" not in r and said == "", (r, said)
    assert bench(*IMAGES, "--no-pytorch")[0]["precision"] in ("fp32", "bf16"), "auto is what it came to"


def test_people():
    out = run("bench", "engine", *TEXTS, *TINY[:-1], "--no-pytorch")
    assert "assumed, as not given: --classes 4" in out and "texts/s" in out and "images" not in out, out
    assert "--input tokens:V --sample L" in run("bench", "engine", "--model", "textcnn", "--sample", "1x8x8", code=1)
    assert "known are" in run("bench", "engine", "--model", "cnn", "--activation", "gelo", code=2)


def test_pytorch():
    """Where PyTorch is installed, bench engine's own SKIP is a failure here."""
    for args in (IMAGES, TEXTS, TABLES):
        r, said = bench(*args)
        for key in ("vs_pytorch", "inference_vs_pytorch", "pytorch_images_per_s", "pytorch_peak_bytes"):
            assert r.get(key, 0) > 0, (key, args, r, said)
        ratio = r["images_per_s"] / r["pytorch_images_per_s"]
        assert abs(r["vs_pytorch"] / ratio - 1) < 1e-6 and "SKIP" not in said, (r, said)


test_object()
test_people()
if importlib.util.find_spec("torch"):
    test_pytorch()
else:
    print(f"SKIP: {sys.executable} has no torch (Debian: python3-torch): the comparison is not tested")
print("bench engine: its object is as scripts expect it")
