"""A trained run's test photos: their pixels, as the network sees them, and other pixels in their place.

`write` makes a folder that the command reads as a data set, in which photo i has pixels[i]. Pixels are bytes, N x height
x width x 3.
"""
import os
import pathlib
import sys

import numpy

RECORD = 1 + 3 * 32 * 32  # of a CIFAR-10 file


def data_folder(*names):
    for parent in (os.environ.get("CUTWIRE_DATA"), pathlib.Path.home() / ".cache/cutwire/data"):
        for name in names:
            folder = pathlib.Path(parent or "/nowhere") / name
            if folder.is_dir():
                return folder
    print(f"SKIP: {names[0]} is not here (cutwire data list)")
    sys.exit(77)


class Cifar:
    """The first `samples` of CIFAR-10's."""

    def __init__(self, folder, samples):
        self.folder = pathlib.Path(folder) if folder else data_folder("cifar-10-batches-bin")
        self.file = (self.folder / "test_batch.bin").read_bytes()
        records = numpy.frombuffer(self.file[:samples * RECORD], numpy.uint8).reshape(-1, RECORD)
        self.labels = records[:, :1]
        self.pixels = numpy.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    def write(self, folder, pixels):
        planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        rest = self.file[len(pixels) * RECORD:]  # a whole file is wanted
        pathlib.Path(folder, "test_batch.bin").write_bytes(numpy.hstack([self.labels, planes]).tobytes() + rest)
        pathlib.Path(folder, "batches.meta.txt").write_bytes((self.folder / "batches.meta.txt").read_bytes())
        return f"cifar-10:{folder}"


class Photos:
    """Of a folder of photos, `samples` of all, evenly spread: resized and cropped to `size` as the network's are."""

    def __init__(self, folder, size, samples):
        folder = pathlib.Path(folder) if folder else data_folder("imagenette2-320", "imagenette-224")
        self.train, self.size = folder / "train", size
        self.edge = (size * 256 + 112) // 224  # what the shorter side is resized to, before the crop
        if (self.edge - size) % 2:
            sys.exit(f"photos: of {size}x{size} the crop begins between two pixels; take a multiple of 14")
        paths = sorted((p for p in (folder / "val").rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")),
                       key=lambda p: (p.relative_to(folder).parts[1], str(p)))
        count = min(samples, len(paths))
        chosen = [paths[i * len(paths) // count] for i in range(count)]
        self.classes = [p.relative_to(folder).parts[1] for p in chosen]
        self.pixels = numpy.stack([self.cropped(p) for p in chosen])

    def cropped(self, path):
        from PIL import Image

        photo = Image.open(path).convert("RGB")
        side = self.size * min(photo.size) / self.edge
        left, top = ((length - side) / 2 for length in photo.size)
        return numpy.asarray(photo.resize((self.size, self.size), Image.BILINEAR, (left, top, left + side, top + side)))

    def write(self, folder, pixels):
        """Each in a border as wide as what the reader crops, so that it resizes nothing."""
        from PIL import Image

        border = (self.edge - self.size) // 2
        pathlib.Path(folder, "train").symlink_to(self.train.resolve())
        for i, (name, photo) in enumerate(zip(self.classes, pixels)):
            framed = numpy.zeros((self.edge, self.edge, 3), numpy.uint8)
            framed[border:border + self.size, border:border + self.size] = photo
            where = pathlib.Path(folder, "val", name)
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(framed).save(where / f"{i:06d}.png", compress_level=1)
        return f"imagefolder@{self.size}:{folder}"


def photo_set(settings, samples):
    """Of a run with this configuration."""
    name, _, folder = settings["data"].partition(":")
    name, _, size = name.partition("@")
    folder = settings.get("data-dir") or folder
    if name == "cifar-10":
        return Cifar(folder, samples)
    if name in ("imagenette", "imagefolder"):
        return Photos(folder, int(size or 224), samples)
    sys.exit(f"photos: {name} is none of cifar-10, imagenette, imagefolder: its samples are no photos that JPEG codes")
