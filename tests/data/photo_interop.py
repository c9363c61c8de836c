#!/usr/bin/python3
"""Photos as Pillow reads them, and folders as torchvision walks them: photo_interop.py DUMP_SAMPLES.

Every kind of PNG and JPEG is made here, byte by byte where Pillow does not write it, and must come out as
Image.open(f).convert('RGB') has it, to the last bit; 16-bit grey by its high byte, where Pillow itself is wrong. Without
NumPy or Pillow all is skipped (77)."""
import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

try:
    import numpy as np
    from PIL import Image
except ImportError as error:
    print(f"SKIP: {error}: photos are not compared with Pillow's")
    sys.exit(77)

DUMP = os.path.abspath(sys.argv[1])
MEAN, STD = np.array([.485, .456, .406]), np.array([.229, .224, .225])
RNG = np.random.default_rng(5)
SIZE = 32  # an edge that imagefolder@28 takes the middle of, unchanged


def dump(folder, split, count):
    out = folder + "/out"
    done = subprocess.run([DUMP, "imagefolder@28:" + folder, split, str(count), out], capture_output=True, text=True,
                          timeout=100)
    if done.returncode:
        return done.stderr, None
    rgb = (np.load(out + ".x.npy").transpose(0, 2, 3, 1) * STD + MEAN) * 255
    assert np.abs(rgb - np.round(rgb)).max() < 1e-3, "not whole bytes"
    return np.round(rgb).astype("u1"), np.load(out + ".y.npy")


# ---- PNG ----

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """Rows of height x width x channels samples, each with filter 0 before it."""
    height, width, channels = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").tobytes()
        step = width * channels * 2
        return b"".join(b"\0" + rows[y * step:(y + 1) * step] for y in range(height))
    bits = ((samples.reshape(height, -1, 1) >> np.arange(depth)[::-1]) & 1).astype("u1").reshape(height, -1)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(samples, depth, color, before=b"", after=b"", interlaced=False, signature_only=False):
    height, width, _ = samples.shape
    if interlaced:
        data = b"".join(pack_rows(samples[y::dy, x::dx], depth) for y, x, dy, dx in ADAM7)
    else:
        data = pack_rows(samples, depth)
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(data)) + after +
            chunk(b"IEND", b""))


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ANCILLARY = {
    "gama": chunk(b"gAMA", struct.pack(">I", 45455)),
    "gama_linear": chunk(b"gAMA", struct.pack(">I", 100000)),
    "chrm": chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    "srgb": chunk(b"sRGB", b"\0"),
    "iccp": chunk(b"iCCP", b"odd\0\0" + zlib.compress(b"no profile at all")),
    "phys": chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    "text": chunk(b"tEXt", b"Comment\0caf\xe9"),
    "exif": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
}


def png_kinds():
    for color, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            samples = RNG.integers(0, 1 << depth, (SIZE, SIZE, CHANNELS[color]), dtype="u4")
            palette = RNG.integers(0, 256, 3 << min(depth, 8), dtype="u1").tobytes() if color == 3 else b""
            plte = chunk(b"PLTE", palette) if color == 3 else b""
            for interlaced in (False, True):
                yield f"c{color}d{depth}i{int(interlaced)}", png(samples, depth, color, plte, interlaced=interlaced)
            for name, extra in ANCILLARY.items():
                yield f"c{color}d{depth}_{name}", png(samples, depth, color, extra + plte)
            bits = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[color]
            yield f"c{color}d{depth}_sbit", png(samples, depth, color, chunk(b"sBIT", b"\1" * bits) + plte)
            yield f"c{color}d{depth}_no_end", png(samples, depth, color, plte)[:-12]
            if color == 3:
                yield f"c3d{depth}_trns", png(samples, depth, 3, plte + chunk(b"tRNS", b"\0\x80"))
                short = chunk(b"PLTE", palette[:len(palette) // 2 // 3 * 3])
                yield f"c3d{depth}_short_palette", png(samples, depth, 3, short)
            if color in (0, 2):
                key = b"".join(struct.pack(">H", int(v)) for v in samples[9, 9])
                yield f"c{color}d{depth}_trns", png(samples, depth, color, chunk(b"tRNS", key))
            if color in (2, 6):
                yield f"c{color}d{depth}_plte", png(samples, depth, color, chunk(b"PLTE", b"\1\2\3\4\5\6"))
    frames = [Image.fromarray(RNG.integers(0, 256, (SIZE, SIZE, 3), dtype="u1")) for _ in range(3)]
    for name, options in {"apng": {}, "apng_default": {"default_image": True}}.items():
        b = io.BytesIO()
        frames[0].save(b, "PNG", save_all=True, append_images=frames[1:], **options)
        yield name, b.getvalue()


# ---- JPEG ----

def smooth(mode):
    channels = len(Image.new(mode, (1, 1)).getbands())
    small = RNG.integers(0, 256, (5, 5, channels), dtype="u1")
    bands = [Image.fromarray(small[:, :, c]).resize((SIZE, SIZE)) for c in range(channels)]
    return Image.merge(mode, bands) if channels > 1 else bands[0]


def jpeg(image, **options):
    b = io.BytesIO()
    image.save(b, "JPEG", **{"quality": 90, **options})
    return b.getvalue()


def segment(data, marker):
    """Where the first segment of this kind begins, and its length with the marker."""
    at = 2
    while data[at + 1] != marker:
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    return at, 2 + struct.unpack(">H", data[at + 2:at + 4])[0]


def without(data, marker):
    at, size = segment(data, marker)
    return data[:at] + data[at + size:]


def adobe(transform):
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def jpeg_kinds():
    rgb, grey, cmyk = jpeg(smooth("RGB")), jpeg(smooth("L")), jpeg(smooth("CMYK"))
    yield "rgb", rgb
    yield "grey", grey
    for subsampling in range(3):
        yield f"sub{subsampling}", jpeg(smooth("RGB"), subsampling=subsampling)
        yield f"sub{subsampling}p", jpeg(smooth("RGB"), subsampling=subsampling, progressive=True)
    yield "grey_progressive", jpeg(smooth("L"), progressive=True)
    yield "low", jpeg(smooth("RGB"), quality=5)
    yield "orientation", jpeg(smooth("RGB"), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    yield "profile", jpeg(smooth("RGB"), icc_profile=b"no profile at all")
    at, size = segment(cmyk, 0xee)
    bare = without(cmyk, 0xee)
    for transform in (0, 2, 9):
        yield f"cmyk_adobe{transform}", cmyk[:at] + adobe(transform) + cmyk[at + size:]
    yield "cmyk_bare", bare
    yield "cmyk_progressive", jpeg(smooth("CMYK"), progressive=True)
    without_jfif = without(rgb, 0xe0)
    for transform in (0, 1, 9):
        yield f"rgb_adobe{transform}", without_jfif[:2] + adobe(transform) + without_jfif[2:]
    yield "rgb_bare", without_jfif
    frames = [smooth("RGB") for _ in range(2)]
    b = io.BytesIO()
    frames[0].save(b, "MPO", save_all=True, append_images=frames[1:])
    yield "mpo", b.getvalue()
    if shutil.which("cjpeg"):
        ppm = io.BytesIO()
        smooth("RGB").save(ppm, "PPM")
        for name, options in {"410": ["-sample", "4x2,1x1,1x1"], "311": ["-sample", "3x1,1x1,1x1"],
                              "121": ["-sample", "1x2,1x1,1x2"], "restart": ["-restart", "1"],
                              "arithmetic": ["-arithmetic"], "as_rgb": ["-rgb"]}.items():
            done = subprocess.run(["cjpeg", *options], input=ppm.getvalue(), capture_output=True)
            if done.returncode == 0:
                yield name, done.stdout
    else:
        print("SKIP: no cjpeg: rare samplings are not compared")
    # What libjpeg reads with a warning, in the header or behind it.
    yield "warns_version", rgb[:segment(rgb, 0xe0)[0] + 9] + b"\x02" + rgb[segment(rgb, 0xe0)[0] + 10:]
    for name, marker in {"dqt": 0xdb, "sof": 0xc0, "sos": 0xda}.items():
        at, _ = segment(rgb, marker)
        yield f"junk_{name}", rgb[:at] + b"\x00\x01\x02" + rgb[at:]
        yield f"fill_{name}", rgb[:at] + b"\xff\xff\xff" + rgb[at:]
    yield "junk_before_end", rgb[:-2] + b"\x00\x11\x22" + rgb[-2:]
    yield "junk_after_end", rgb + b"\x00\x11\x22" * 100


# ---- the comparison ----

def expected(data):
    image = Image.open(io.BytesIO(data))
    if image.mode == "I":  # 16-bit grey, which Pillow cuts at 255
        return (np.asarray(image) >> 8).astype("u1")[:, :, None].repeat(3, 2)
    return np.asarray(image.convert("RGB"))


def test_kinds(work, what, kinds):
    os.makedirs(work + "/train/a")
    names, want = [], []
    for i, (name, data) in enumerate(kinds):
        with open(f"{work}/train/a/{i:03}", "wb") as f:
            f.write(data)
        os.rename(f.name, f.name + (".png" if what == "PNG" else ".jpg"))
        names.append(name)
        want.append(expected(data)[2:30, 2:30])
    got, _ = dump(work, "train", len(names))
    assert not isinstance(got, str), got
    wrong = [f"{name} by {np.abs(g.astype(int) - w).max()}" for name, g, w in zip(names, got, want) if (g != w).any()]
    assert not wrong, f"{what}: differ from Pillow's: " + ", ".join(wrong)
    print(f"{what}: {len(names)} kinds as Pillow reads them")


def test_damage(work):
    """A missing end is told, whatever came before it; so is any other damage that leaves no image."""
    rgb = next(jpeg_kinds())[1]
    at, _ = segment(rgb, 0xdb)
    warned = rgb[:at] + b"\x00\x01\x02" + rgb[at:]
    progressive = jpeg(smooth("RGB"), progressive=True)
    cases = {"plain": (rgb[:-40], "too early"), "no end": (rgb[:-2], "too early"),
             "after a warning": (warned[:-40], "too early"), "no end, warned": (warned[:-2], "too early"),
             "progressive": (progressive[:len(progressive) * 2 // 3], "too early"),
             "header": (rgb[:at + 9], "JPEG header"), "empty": (b"", "empty"), "GIF": (b"GIF89a" + b"\0" * 40, "a GIF"),
             "AppleDouble": (b"\0\5\x16\7" + b"\0" * 80, "macOS"), "12 bits": (rgb.replace(b"\xff\xc0\0\x11\x08",
                                                                                         b"\xff\xc0\0\x11\x0c"), "rare")}
    os.makedirs(work + "/train/a")
    for name, (data, says) in cases.items():
        with open(work + "/train/a/x.jpg", "wb") as f:
            f.write(data)
        got, _ = dump(work, "train", 1)
        assert isinstance(got, str) and says in got and "train/a/x.jpg" in got, (name, got)
    print(f"damage: {len(cases)} kinds refused by a sentence")


# ---- folders ----

def listed(root):
    """As torchvision's make_dataset, but hidden files, which are no photos of anybody."""
    samples = []
    for number, name in enumerate(sorted(e.name for e in os.scandir(root) if e.is_dir() and e.name[0] != ".")):
        for folder, subfolders, files in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif", ".png")) and file[0] != ".":
                    samples.append((os.path.join(folder, file), number))
    return samples


def test_order(work):
    files = ["b/2.png", "b/10.png", "b/Z.PNG", "b/a-x/1.png", "b/a/1.png", "b/a/b/c/deep.Jpg", "b/a b/1.jpeg", "B/0.jfif",
             "\u00e9t\u00e9/1.jpe", "\u00e9t\u00e9/\u00e0/1.png", "b/z.d/1.png", "ab/only/below.png"]
    for i, file in enumerate(files):
        os.makedirs(os.path.dirname(f"{work}/train/{file}"), exist_ok=True)
        color = (7 * i, 255 - 11 * i, 20 * i)
        Image.new("RGB", (SIZE, SIZE), color).save(f"{work}/train/{file}", "JPEG" if "j" in file.lower() else "PNG",
                                                   quality=100)
    os.makedirs(work + "/elsewhere")
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(work + "/elsewhere/linked.png")
    os.symlink("../../elsewhere", work + "/train/b/link")
    os.symlink("../../elsewhere/linked.png", work + "/train/B/link.png")
    for skipped in ("b/notes.txt", "b/._2.png", "b/x.webp", "b/Thumbs.db", ".DS_Store", ".cache/x.png"):
        os.makedirs(os.path.dirname(f"{work}/train/{skipped}"), exist_ok=True)
        with open(f"{work}/train/{skipped}", "wb") as f:
            f.write(b"no photo")
    want = listed(work + "/train")
    got, labels = dump(work, "train", 100)
    assert not isinstance(got, str), got
    assert len(got) == len(want) == len(files) + 2, (len(got), len(want))
    assert labels.tolist() == [number for _, number in want]
    for x, (path, _) in zip(got, want):
        with open(path, "rb") as f:
            assert (x == expected(f.read())[2:30, 2:30]).all(), path
    os.symlink("..", work + "/train/b/a/loop")  # torchvision walks round and round here
    got, again = dump(work, "train", 100)
    assert not isinstance(got, str) and again.tolist() == labels.tolist()
    print(f"folders: {len(want)} photos in torchvision's order")


for test in (lambda w: test_kinds(w, "PNG", png_kinds()), lambda w: test_kinds(w, "JPEG", jpeg_kinds()), test_damage,
             test_order):
    with tempfile.TemporaryDirectory() as work:
        test(work)
