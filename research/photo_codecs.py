"""Photos by JPEG, WebP and AVIF: bytes without headers, and the pixels that come back.

"jpeg 4:4:4" and "avif 4:4:4" keep colours at every pixel; the others at every second one each way, as WebP always does.

Of JPEG the coded scan alone is counted, of WebP the frame behind its header, of AVIF the AV1 tile data and frame header
without sequence header.
"""
import io
import pathlib
import shutil
import statistics
import struct
import subprocess
import tempfile

import numpy

COARSE_FIRST = {"jpeg": [*range(5, 96, 6), 98, 100], "webp": [*range(0, 101, 7), 100],
                "avif": [*range(60, 7, -4), 6, 4, 2, 1]}
QUALITIES = {kind: COARSE_FIRST[kind.split()[0]] for kind in ("jpeg", "jpeg 4:4:4", "webp", "avif", "avif 4:4:4")}


def kinds_for(size):
    """Those that may be best at photos of this size: colours at every pixel only matter to small ones."""
    return [kind for kind in QUALITIES if size <= 64 or "4:4:4" not in kind]


def jpeg_scan(blob):
    """Bytes between the scan's header and the end marker."""
    at = blob.index(b"\xff\xda")
    return len(blob) - at - 2 - struct.unpack(">H", blob[at + 2:at + 4])[0] - 2


def webp_frame(blob):
    """Of a VP8 chunk without the 10 bytes of its frame header."""
    at = blob.index(b"VP8 ")
    return struct.unpack("<I", blob[at + 4:at + 8])[0] - 10


def by_pillow(kind, quality, photos):
    from PIL import Image

    sizes, decoded = [], numpy.empty_like(photos)
    how = {"jpeg": {"optimize": True}, "jpeg 4:4:4": {"optimize": True, "subsampling": 0}, "webp": {"method": 6}}[kind]
    name = kind.split()[0]
    for i, photo in enumerate(photos):
        out = io.BytesIO()
        Image.fromarray(photo).save(out, name.upper(), quality=quality, **how)
        sizes.append({"jpeg": jpeg_scan, "webp": webp_frame}[name](out.getvalue()))
        decoded[i] = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
    return statistics.fmean(sizes), decoded


def obu_bytes(frame):
    """Of an AV1 temporal unit, without temporal delimiter and sequence header."""
    at = total = 0
    while at < len(frame):
        kind, extension, begin = frame[at] >> 3 & 15, frame[at] >> 2 & 1, at
        at += 1 + extension
        size = shift = 0
        while True:
            size |= (frame[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not frame[at - 1] & 128:
                break
        at += size
        total += 0 if kind in (1, 2) else at - begin
    return total


def by_ffmpeg(kind, quality, photos):
    """AV1 stills, as AVIF holds them: all photos are key frames (a distance of 0)."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/photos.ivf"
        base = ["ffmpeg", "-v", "error", "-y", "-threads", "1"]
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{photos.shape[2]}x{photos.shape[1]}"]
        subprocess.run([*base, *raw, "-i", "-", "-c:v", "libaom-av1", "-crf", str(quality), "-b:v", "0", "-g", "0",
                        "-usage", "allintra", "-cpu-used", "6", "-pix_fmt",
                        "yuv444p" if "4:4:4" in kind else "yuv420p", path], input=photos.tobytes(), check=True)
        data, at, sizes = pathlib.Path(path).read_bytes(), 32, []
        while at < len(data):
            size = struct.unpack("<I", data[at:at + 4])[0]
            sizes.append(obu_bytes(data[at + 12:at + 12 + size]))
            at += 12 + size
        back = subprocess.run([*base, "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True,
                              check=True).stdout
    assert len(sizes) == len(photos), (len(sizes), len(photos))
    return statistics.fmean(sizes), numpy.frombuffer(back, numpy.uint8).reshape(photos.shape)


def missing(kind):
    """The program, and the package, that this needs and is not there; or None."""
    return "ffmpeg" if kind.startswith("avif") and not shutil.which("ffmpeg") else None


def coded(kind, quality, photos):
    """Mean bytes, decoded photos: both are N x height x width x 3, bytes."""
    return by_ffmpeg(kind, quality, photos) if kind.startswith("avif") else by_pillow(kind, quality, photos)
