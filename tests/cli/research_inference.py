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


if __name__ == "__main__":
    skip_without_fashion()
    bytes_of_photos()
    with Folder():
        run("train", "--local", "--data", "fashion-mnist", "--model", "cnn", "--cut", "4", "--threads", "1", "--epochs", "1",
            "--train-limit", "256", "--test-limit", "64", "--quiet", "--out", "run")
        said = table("costs", "run", "--samples", "60")
        assert "the whole network, locally" in said and "head, ec:err=0.15, tail" in said, said
        said = table("clients", "run", "--clients", "5", "--seconds", "1")
        assert "5 clients in a closed loop" in said and "| ratio |" in said and "p99" in said, said
