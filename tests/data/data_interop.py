#!/usr/bin/python3
"""Our readers against independent ones in Python, sample by sample: data_interop.py DUMP_SAMPLES.

Photos against PyTorch's antialiased resizing, CIFAR and Fashion-MNIST against NumPy, texts and tables against a few
lines of Python. Sets that this machine lacks are skipped visibly; without NumPy all is (77)."""
import collections
import csv
import gzip
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

try:
    import numpy as np
except ImportError:
    print("SKIP: no numpy for " + sys.executable)
    sys.exit(77)

DUMP = os.path.abspath(sys.argv[1])
CACHE = os.environ.get("CUTWIRE_DATA") or os.path.expanduser("~/.cache/cutwire/data")


def dump(spec, split, count, folder):
    done = subprocess.run([DUMP, spec, split, str(count), folder + "/out"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (spec, done.stderr)
    return np.load(folder + "/out.x.npy"), np.load(folder + "/out.y.npy"), done.stdout.strip()


def path_of(*parts):
    path = os.path.join(CACHE, *parts)
    if not os.path.exists(path):
        print("SKIP: no " + path)
        return None
    return path


def write_png(path, rgb):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w, _ = rgb.shape
    rows = b"".join(b"\0" + rgb[y].tobytes() for y in range(h))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_photos(folder):
    try:
        import torch
    except ImportError:
        print("SKIP: no torch: resizing not compared")
        return
    mean, std = [np.array(v, "f4").reshape(3, 1, 1) for v in ([.485, .456, .406], [.229, .224, .225])]
    rng = np.random.default_rng(3)
    worst = 0
    # Shapes whose longer edge resizes to whole pixels too: torch rounds it otherwise, we keep the aspect exactly.
    for h, w, size in [(64, 64, 56), (100, 100, 56), (144, 96, 56), (96, 120, 28), (300, 200, 112), (40, 40, 112)]:
        root = tempfile.mkdtemp(dir=folder)
        os.makedirs(root + "/train/c")
        rgb = rng.integers(0, 256, (h, w, 3), dtype="u1")
        write_png(root + "/train/c/a.png", rgb)
        x, y, kind = dump(f"imagefolder@{size}:{root}", "train", 1, folder)
        assert kind == "image" and y[0] == 0
        edge = (size * 256 + 112) // 224
        nh, nw = h * edge // min(h, w), w * edge // min(h, w)
        t = torch.from_numpy(rgb.transpose(2, 0, 1).astype("f4"))[None]
        t = torch.nn.functional.interpolate(t, size=(nh, nw), mode="bilinear", antialias=True)[0].numpy()
        top, left = (nh - size) // 2, (nw - size) // 2
        want = (t[:, top:top + size, left:left + size] / 255 - mean) / std
        worst = max(worst, np.abs(x[0] - want).max())
        assert worst < 2e-5, (h, w, size, worst)
    print(f"photos: as torch resizes them (largest difference {worst:.1e})")


def test_cifar(folder):
    for name, sub, file, labels, mean, std in [
            ("cifar-10", "cifar-10-batches-bin", "test_batch.bin", 1, (0.49139968, 0.48215841, 0.44653091),
             (0.24703223, 0.24348513, 0.26158784)),
            ("cifar-100", "cifar-100-binary", "test.bin", 2, (0.50707516, 0.48654887, 0.44091784),
             (0.26733429, 0.25643846, 0.27615047))]:
        if not path_of(sub, file):
            continue
        raw = np.fromfile(path_of(sub, file), "u1").reshape(10000, labels + 3072)
        x, y, kind = dump(f"{name}:{path_of(sub)}", "test", 10000, folder)
        want = raw[:, labels:].reshape(-1, 3, 32, 32) / np.float64(255)
        want = (want - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        assert np.abs(x - want).max() < 1e-5 and (y == raw[:, labels - 1]).all() and kind == "image"
        print(name + ": as NumPy reads it")


def test_fashion(folder):
    root = "/usr/share/datasets/fashion-mnist"
    if not os.path.exists(root):
        print("SKIP: dataset-fashion-mnist is not installed")
        return
    pixels = np.frombuffer(gzip.open(root + "/t10k-images-idx3-ubyte.gz").read(), "u1", offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(gzip.open(root + "/t10k-labels-idx1-ubyte.gz").read(), "u1", offset=8)
    x, y, _ = dump("fashion-mnist:" + root, "test", 10000, folder)
    assert np.abs(x - (pixels / 255.0 - 0.28604060) / 0.35302424).max() < 1e-5 and (y == labels).all()
    print("fashion-mnist: as NumPy reads it")


def tokens(text):
    # Bytes above 127 are parts of words, as letters are: latin-1 keeps one character a byte.
    return re.findall(r"[A-Za-z0-9\x80-\xff]+|[^\sA-Za-z0-9\x80-\xff\\\x00-\x20\x7f]", text)


def test_texts(folder):
    lower = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
    for name, column in (("sst-2", 0), ("ag-news", 1)):
        if not path_of(name, "train.tsv"):
            continue
        rows = {}
        for split in ("train", "test"):
            with open(path_of(name, split + ".tsv"), encoding="latin-1", newline="\n") as f:
                lines = [line.rstrip("\n").split("\t") for line in f][1:]
            rows[split] = [(tokens(line[column].translate(lower)), int(line[1 - column])) for line in lines]
        counts = collections.Counter(token[:64] for words, _ in rows["train"] for token in words)
        kept = sorted((t for t in counts if counts[t] >= 2), key=lambda t: (-counts[t], t.encode("latin-1")))[:20000]
        number = {t: i + 2 for i, t in enumerate(kept)}
        for split in ("train", "test"):
            x, y, kind = dump(f"{name}:{path_of(name)}", split, len(rows[split]), folder)
            assert kind == f"tokens:{len(kept) + 2}", (kind, len(kept))
            for i, (words, label) in enumerate(rows[split]):
                want = [number.get(t[:64], 1) for t in words][:64]
                assert (x[i, :len(want)] == want).all() and (x[i, len(want):] == 0).all() and y[i] == label, (name, i)
        print(name + ": as a few lines of Python number it")


def test_table(folder):
    if not path_of("adult", "train.csv"):
        return
    rows = {split: list(csv.reader(open(path_of("adult", split + ".csv"))))[1:] for split in ("train", "test")}
    columns = list(zip(*rows["train"]))
    is_number = [all(re.fullmatch(r"-?[0-9.]+|\?", v) for v in c) for c in columns[:-1]]
    classes = sorted(set(columns[-1]))
    for split in ("train", "test"):
        x, y, kind = dump("adult:" + path_of("adult"), split, len(rows[split]), folder)
        at = {True: 0, False: sum(is_number)}
        for i, numeric in enumerate(is_number):
            values = [row[i] for row in rows[split]]
            if numeric:
                known = np.array([float(v) for v in columns[i] if v != "?"])
                want = [0 if v == "?" else (float(v) - known.mean()) / known.std() for v in values]
            else:
                counts = collections.Counter(columns[i])
                order = sorted(counts, key=lambda v: (-counts[v], v))
                want = [order.index(v) + 1 if v in counts else 0 for v in values]
            assert np.abs(x[:, at[numeric]] - want).max() < 2e-5, (split, i)
            at[numeric] += 1
        assert (y == [classes.index(row[-1]) for row in rows[split]]).all()
    print("adult: as a few lines of Python number it (" + kind + ")")


with tempfile.TemporaryDirectory() as work:
    for test in (test_photos, test_cifar, test_fashion, test_texts, test_table):
        test(work)
