#!/usr/bin/python3
"""research/inference.py in small: its tables are made, and their parsers count what they say; research_inference.py CUTWIRE."""
import io
import os
import pathlib
import subprocess
import sys

from cli_run import CUTWIRE, Folder, run, skip_without_fashion

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "research"))
import inference  # noqa: E402
import photo_codecs  # noqa: E402


def table(*words):
    done = subprocess.run([sys.executable, str(ROOT / "research" / "inference.py"), *words], capture_output=True, text=True,
                          env={**os.environ, "CUTWIRE": CUTWIRE}, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bytes_of_photos():
    """Without headers: less than the file, and all of the payload where that is known."""
    from PIL import Image

    photo = Image.effect_noise((32, 32), 80).convert("RGB")
    for kind, count, overhead in (("JPEG", photo_codecs.jpeg_scan, 200), ("WEBP", photo_codecs.webp_frame, 30)):
        out = io.BytesIO()
        photo.save(out, kind, quality=60)
        size = len(out.getvalue())
        assert size - 4 * overhead < count(out.getvalue()) <= size - 30, (kind, size)
    delimiter, sequence, frame = b"\x12\x00", b"\x0a\x03abc", b"\x32\x81\x01" + bytes(129)
    assert photo_codecs.obu_bytes(delimiter + sequence + frame) == len(frame)


def photos_of_any_size():
    """What is written in their place comes back as the same pixels, so that it gets the same answers; and their table."""
    import numpy
    import photo_sets
    from PIL import Image

    for part, count in (("train", 8), ("val", 6)):
        for i in range(2 * count):
            path = pathlib.Path("photos", part, "ab"[i % 2], f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_mandelbrot((50, 44), (-2, -1.5, 1 + i / 10, 1.5), 20 + 40 * (i % 2)).convert("RGB").save(path)
    run("train", "--local", "--data", "imagefolder@28:photos", "--model", "cnn", "--threads", "1", "--epochs", "2", "--quiet",
        "--out", "seen")
    chosen = photo_sets.photo_set({"data": "imagefolder@28:photos"}, 9)
    assert chosen.pixels.shape == (9, 28, 28, 3) and sorted(set(chosen.classes)) == ["a", "b"], chosen.classes
    os.mkdir("again")
    chosen.write("again", chosen.pixels)
    again = photo_sets.photo_set({"data": "imagefolder@28:again"}, 9)
    assert numpy.array_equal(again.pixels, chosen.pixels) and again.classes == chosen.classes
    said = table("photos", "seen", "--samples", "9", "--cuts", "deep")
    assert "9 photos of 28x28" in said and "| AVIF 4:4:4 of the photo |" in said and "| deep |" in said, said
    assert inference.wilson(0.5, 100)[0] < 0.41 < 0.59 < inference.wilson(0.5, 100)[1]


if __name__ == "__main__":
    skip_without_fashion()
    bytes_of_photos()
    with Folder():
        photos_of_any_size()
        run("train", "--local", "--data", "fashion-mnist", "--model", "cnn", "--cut", "4", "--threads", "1", "--epochs", "1",
            "--train-limit", "256", "--test-limit", "64", "--quiet", "--out", "run")
        said = table("costs", "run", "--samples", "60")
        assert "the whole network, locally" in said and "head, ec:err=0.15, tail" in said, said
        said = table("clients", "run", "--clients", "5", "--seconds", "1")
        assert "5 clients in a closed loop" in said and "| ratio |" in said and "p99" in said, said
