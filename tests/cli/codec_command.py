#!/usr/bin/python3
"""cutwire codec as a user runs it: codec_command.py CUTWIRE. Exits with 77 where numpy is missing."""
import json
import math
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("SKIP: no numpy for " + sys.executable)
    sys.exit(77)

CUTWIRE = os.path.abspath(sys.argv[1])


def run(*args, code=0):
    done = subprocess.run([CUTWIRE, "codec", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    if code:
        assert done.stderr.startswith("cutwire: codec"), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr if code else done.stdout


def last_object(text):
    return json.loads(text.strip().splitlines()[-1])


def mask_sparsify(x, r, bits):
    """The paper's algorithm with rounding to nearest, element by element as numpy has it (no ties in x)."""
    flat = x.ravel()
    k = math.floor((1 - r) * flat.size + 1e-9)
    ones = 2**bits - 1
    threshold = np.sort(np.abs(flat))[-k]
    codes = np.minimum(np.floor(np.abs(flat) * ones / threshold + 0.5), ones - 1)
    values = np.sign(flat) * codes * threshold / ones
    return np.where(np.abs(flat) >= threshold, flat, values).reshape(x.shape)


def roundtrips():
    rng = np.random.default_rng(3)
    for shape, signed in (((3, 16, 14, 14), False), ((7, 501), True)):
        x = rng.normal(size=shape).astype("<f4")
        x = x if signed else np.maximum(x, 0)
        np.save("x.npy", x)
        for bits in (2, 4):
            spec = f"ms:r=0.98,b={bits}"
            result = last_object(run("roundtrip", "--codec", spec, "--in", "x.npy", "--out", "y.npy", "--json"))
            y = np.load("y.npy")
            wanted = mask_sparsify(x.astype("f8"), 0.98, bits)
            assert np.abs(y - wanted).max() < 1e-5
            error = np.linalg.norm((y.astype("f8") - x).ravel())
            assert math.isclose(result["l2_error"], error, rel_tol=1e-6)
            assert math.isclose(result["rel_error"], error / np.linalg.norm(x.astype("f8")), rel_tol=1e-6)
            assert math.isclose(result["max_error"], np.abs(y - x).max(), rel_tol=1e-6)
            assert result["elements"] == x.size and result["shape"] == list(shape)
            assert math.isclose(result["bits_per_element"], 8 * result["payload_bytes"] / x.size)
            assert math.isclose(result["ratio"], x.nbytes / result["payload_bytes"])
            assert result["codec"].startswith(f"ms:r=0.98,b={bits},round=nearest")
            assert result["encode_seconds"] >= 0 and result["decode_seconds"] >= 0
            run("encode", "--codec=" + spec, "--in", "x.npy", "--out", "x.cw", "--threads", "2")
            assert os.path.getsize("x.cw") == result["payload_bytes"]
            run("decode", "--in", "x.cw", "--out", "z.npy")
            assert np.array_equal(np.load("z.npy"), y)
            assert last_object(run("inspect", "x.cw", "--json"))["payload_bytes"] == result["payload_bytes"]


def pipe(data, *args, code=0):
    """Standard output of `cutwire codec args` with these bytes as standard input, or of a failure standard error."""
    done = subprocess.run([CUTWIRE, "codec", *args], input=data, capture_output=True, timeout=60)
    assert done.returncode == code and (code or not done.stderr), (args, done)
    return done.stderr.decode() if code else done.stdout


def through_pipes():
    """- is standard input and output: the bytes, and nothing else."""
    x = np.random.default_rng(5).normal(size=(3, 50)).astype("<f4")
    np.save("x.npy", x)
    with open("x.npy", "rb") as f:
        data = f.read()
    payload = pipe(data, "encode", "--codec", "fp16", "--in", "-", "--out", "-")
    run("encode", "--codec", "fp16", "--in", "x.npy", "--out", "x.cw")
    with open("x.cw", "rb") as f:
        assert f.read() == payload
    decoded = pipe(payload, "decode", "--in", "-", "--out", "-")
    run("decode", "--in", "x.cw", "--out", "y.npy")
    with open("y.npy", "rb") as f:
        assert f.read() == decoded
    assert pipe(data, "roundtrip", "--codec", "fp16", "--in", "-", "--out=-") == decoded
    assert json.loads(pipe(payload, "inspect", "-", "--json"))["payload_bytes"] == len(payload)
    assert pipe(payload, "inspect", "-").startswith(b"standard input: f32 of 3x50")
    assert json.loads(pipe(data, "roundtrip", "--codec", "fp16", "--in", "-", "--json"))["shape"] == [3, 50]
    assert json.loads(pipe(data, "encode", "--codec", "fp16", "--in", "-", "--out", "z.cw", "--json"))["out"] == "z.cw"
    for command in (["encode", "--codec", "fp16"], ["decode"], ["roundtrip", "--codec", "fp16"]):
        assert "leave one out" in pipe(data, *command, "--in", "-", "--out", "-", "--json", code=2)
        assert "standard input" in pipe(data[:7], *command, "--in", "-", "--out", "-", code=1)
    assert "standard input" in pipe(b"", "inspect", "-", code=1)
    with open("x.npy", "rb") as f:  # from where it stands
        assert f.seek(0) == 0 and subprocess.run(
            [CUTWIRE, "codec", "encode", "--codec", "fp16", "--in", "-", "--out", "-"], stdin=f, capture_output=True,
            timeout=60).stdout == payload
    assert not os.path.exists("-")


def coded_in_context():
    """ec keeps the error that is asked for; ms with entropy=ctx is the same tensor to the bit, in fewer bytes."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[0:16, 0:16]
    waves = [np.sin(rows / 3 + 6 * rng.random()) + np.sin(columns / 4 + 6 * rng.random()) for _ in range(20 * 8)]
    x = (np.reshape(waves, (20, 8, 16, 16)) - 0.5 + rng.normal(scale=0.1, size=(20, 8, 16, 16))).astype("<f4")
    for x in (np.maximum(x, 0), x):
        np.save("x.npy", x)
        result = last_object(run("roundtrip", "--codec", "ec:err=0.25", "--in", "x.npy", "--out", "y.npy", "--json"))
        error = np.linalg.norm((np.load("y.npy").astype("f8") - x).ravel()) / np.linalg.norm(x.astype("f8"))
        assert math.isclose(result["rel_error"], error, rel_tol=1e-6), result
        assert 0.24 < error < 0.251 and result["ratio"] > 20, (error, result)
        sizes = []
        for entropy in ("none", "ctx"):
            spec = f"ms:r=0.99,b=2,entropy={entropy}"
            out = entropy + ".npy"
            result = last_object(run("roundtrip", "--codec", spec, "--in", "x.npy", "--out", out, "--json"))
            sizes.append(result["payload_bytes"])
        with open("none.npy", "rb") as plain, open("ctx.npy", "rb") as coded:
            assert plain.read() == coded.read()
        assert 1.5 * sizes[1] < sizes[0], sizes


def profiles():
    """What was learned of some samples codes others, and both ends need it."""
    rng = np.random.default_rng(5)
    mixed = np.einsum("ck,nkhw->nchw", rng.normal(size=(12, 3)), np.cumsum(rng.normal(size=(20, 3, 8, 10)), axis=3))
    x = (mixed + rng.normal(scale=0.2, size=mixed.shape)).astype("<f4")
    for name, part in (("a.npy", x[:9]), ("b.npy", x[9:18]), ("one.npy", x[18:19])):
        np.save(name, part)
    made = last_object(run("train", "--codec", "ec:err=0.2", "--out", "p", "a.npy", "b.npy", "--json"))
    assert made["bytes"] == os.path.getsize("p") and len(made["profile"]) == 16, made
    for spec in ("ec:err=0.2,profile=p", "ec:profile=p,err=0.2", "ec:err=0.2,profile=p,layout=nchw"):
        result = last_object(run("roundtrip", "--codec", spec, "--in", "one.npy", "--json"))
        assert result["profile"] == made["profile"] and result["rel_error"] < 0.202, result
    without = last_object(run("roundtrip", "--codec", "ec:err=0.2", "--in", "one.npy", "--json"))
    assert 1.3 * result["payload_bytes"] < without["payload_bytes"] and "profile" not in without
    run("encode", "--codec", "ec:err=0.2,profile=p", "--in", "one.npy", "--out", "one.cw")
    run("decode", "--profile", "p", "--in", "one.cw", "--out", "y.npy")
    error = np.linalg.norm((np.load("y.npy") - x[18:19]).ravel()) / np.linalg.norm(x[18:19].ravel())
    assert error < 0.202
    assert "decodes" in run("inspect", "--profile", "p", "one.cw")
    run("train", "--codec", "ec:err=0.1", "--out", "q", "a.npy")
    assert made["profile"] in run("decode", "--in", "one.cw", "--out", "y.npy", code=1)
    assert made["profile"] in run("decode", "--profile", "q", "--in", "one.cw", "--out", "y.npy", code=1)
    assert "not a profile" in run("decode", "--profile", "one.npy", "--in", "one.cw", "--out", "y.npy", code=1)
    assert "only codec ec" in run("encode", "--codec", "ms:profile=p", "--in", "one.npy", "--out", "o", code=2)
    assert "No such file" in run("encode", "--codec", "ec:profile=absent", "--in", "one.npy", "--out", "o", code=1)
    assert "err or step" in run("train", "--codec", "ec:bpe=1", "--out", "o", "a.npy", code=1)
    assert "same file" in run("train", "--codec", "ec", "--out", "a.npy", "a.npy", code=2)


def help_and_errors():
    for args in (["--help"], ["encode", "--help"], ["decode", "--help"], ["roundtrip", "--help"], ["train", "--help"], ["inspect", "--help"]):
        text = run(*args)
        assert "usage: cutwire codec" in text and "examples:" in text, text
    np.save("x.npy", np.ones((2, 3), "<f4"))
    bad = np.ones((4, 5), "<f4")
    bad[2, 3] = np.nan
    np.save("nan.npy", bad)
    assert "no key \"q\"" in run("roundtrip", "--codec", "ms:q=1", "--in", "x.npy", code=2)
    assert "unknown codec" in run("encode", "--codec", "zip", "--in", "x.npy", "--out", "o", code=2)
    assert "--codec is missing" in run("encode", "--in", "x.npy", "--out", "o", code=2)
    assert "did you mean 'inspect'" in run("inspct", code=2)
    assert "did you mean --codec" in run("encode", "--codc", "none", code=2)
    assert "element 13 of 20 is NaN" in run("roundtrip", "--codec", "none", "--in", "nan.npy", code=1)
    assert "No such file" in run("roundtrip", "--codec", "none", "--in", "absent.npy", code=1)
    run("encode", "--codec", "none", "--in", "x.npy", "--out", "x.cw")
    data = bytearray(open("x.cw", "rb").read())
    open("cut.cw", "wb").write(data[:-1])
    assert "ends after" in run("decode", "--in", "cut.cw", "--out", "o.npy", code=1)
    data[-1] ^= 1
    open("flipped.cw", "wb").write(data)
    assert "checksum" in run("inspect", "flipped.cw", code=1)
    assert not os.path.exists("o.npy")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    roundtrips()
    coded_in_context()
    profiles()
    through_pipes()
    help_and_errors()
print("cutwire codec does as it says")
