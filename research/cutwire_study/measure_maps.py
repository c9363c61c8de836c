"""What crosses the cuts of a network while it trains: after every epoch one batch's maps, their statistics, and what the
codecs err on them.

The network is trained unsplit, by a constant rate, one epoch at a time (`train --resume --epochs E`). `cutwire repro
figure2 --save-maps` writes the maps. alpha is that of Theorem 4: what `ms` does not keep, over the whole, as 2-norms.
"""
from __future__ import annotations

import json
import math
import pathlib
import shutil

from .errors import need
from .program import Program
from .rows import Row

KEYS = ["data", "model", "epoch", "cut", "codec"]
VALUES = ["elements", "zeros", "kurtosis", "alpha", "bits_per_element", "relative_error"]
CUTS = ["shallow", "medium", "deep"]
CODECS = ["ms:r=0.99,b=2", "qu:b=3", "sp:r=0.95875", "rt:r=0.95875", "ec:err=0.25"]
NETWORKS = {("fashion-mnist", "cnn"): [1, 2, 3, 4, 6, 8], ("cifar-10", "resnet20"): [1, 2, 3, 4]}
TRAINING = ["--schedule", "constant", "--lr", "0.05", "--flip", "--threads", "1", "--quiet"]
SAMPLES = 256
KEPT = 0.01


def cases(quick: bool) -> list[Row]:
    networks = {("fashion-mnist", "cnn"): [1, 2]} if quick else NETWORKS
    return [{"data": data, "model": model, "epoch": str(epoch), "cut": cut, "codec": codec}
            for (data, model), epochs in networks.items() for epoch in epochs for cut in CUTS for codec in CODECS]


class Measure:
    def __init__(self, program: Program, folder: pathlib.Path, quick: bool):
        self.numpy = need("numpy", "python3-numpy", "cannot measure maps")
        self.program, self.folder = program, folder
        self.limits = ["--train-limit", "3200", "--test-limit", "500"] if quick else []

    def trained(self, data: str, model: str, epoch: int) -> pathlib.Path:
        """A run that has trained so many epochs: the one of fewer, gone on with."""
        run = self.folder / f"{data}-{model}"
        done = self.epochs_done(run)
        if done > epoch:
            shutil.rmtree(run)
            done = 0
        if not done:
            self.program.output("train", "--local", "--data", data, "--model", model, *TRAINING, *self.limits, "--epochs",
                                str(epoch), "--out", str(run), "--overwrite")
        elif done < epoch:
            self.program.output("train", "--resume", str(run), "--epochs", str(epoch), "--quiet")
        return run

    def epochs_done(self, run: pathlib.Path) -> int:
        """By its summary, which is written when all asked for are done; 0 for a run that was stopped."""
        summary, metrics = run / "summary.json", run / "metrics.jsonl"
        return len(metrics.read_text().splitlines()) if summary.exists() and metrics.exists() else 0

    def map_of(self, case: Row) -> pathlib.Path:
        """The map as .npy; those of one epoch are made together and kept."""
        data, model, epoch = case["data"], case["model"], int(case["epoch"])
        kept = self.folder / f"{data}-{model}-{epoch}"
        if not (kept / "done").exists():
            run = self.trained(data, model, epoch)
            for cut in CUTS:
                out = kept / cut
                self.program.output("repro", "figure2", "--run", str(run), "--cut", cut, "--samples", str(SAMPLES),
                                    "--save-maps", "--out", str(out), "--overwrite", "--threads", "1", "--quiet")
                next(out.glob("cut*-train.npy")).rename(kept / f"{cut}.npy")
                shutil.rmtree(out)
            (kept / "done").touch()
        return kept / f"{case['cut']}.npy"

    def measure(self, case: Row) -> Row:
        path = self.map_of(case)
        text = self.program.output("codec", "roundtrip", "--codec", case["codec"], "--in", str(path), "--json")
        told = json.loads(text.strip().splitlines()[-1])
        flat = self.numpy.load(path).ravel().astype("f8")
        deviation = flat - flat.mean()
        kurtosis = (deviation**4).mean() / (deviation**2).mean()**2
        rest = self.numpy.sort(abs(flat))[:flat.size - math.floor(KEPT * flat.size)]
        alpha = math.sqrt((rest**2).sum() / (flat**2).sum())
        return {"elements": str(flat.size), "zeros": f"{(flat == 0).mean():.4f}", "kurtosis": f"{kurtosis:.4g}",
                "alpha": f"{alpha:.4f}", "bits_per_element": f"{told['bits_per_element']:.5g}",
                "relative_error": f"{told['rel_error']:.6g}"}


# ---- what it shows ----

def networks_of(rows: list[Row]) -> list[tuple[str, str]]:
    return [pair for pair in NETWORKS if any((row["data"], row["model"]) == pair for row in rows)]


def by_place(rows: list[Row], network: tuple[str, str], cut: str) -> dict[int, dict[str, Row]]:
    """epoch -> codec -> row."""
    found: dict[int, dict[str, Row]] = {}
    for row in rows:
        if (row["data"], row["model"]) == network and row["cut"] == cut:
            found.setdefault(int(row["epoch"]), {})[row["codec"]] = row
    return found


def show(rows: list[Row]) -> str:
    from .tables import markdown
    out = [["data, model", "cut", "epoch>", "zeros>", "kurtosis>", "alpha>", *[f"error of `{c}`>" for c in CODECS],
            f"bits of `{CODECS[-1]}`>"]]
    for network in networks_of(rows):
        for cut in CUTS:
            for epoch, found in sorted(by_place(rows, network, cut).items()):
                any_row = next(iter(found.values()))
                errors = [f"{float(found[c]['relative_error']):.3f}" if c in found else "-" for c in CODECS]
                bits = f"{float(found[CODECS[-1]]['bits_per_element']):.3f}" if CODECS[-1] in found else "-"
                out.append([", ".join(network), cut, str(epoch), any_row["zeros"], any_row["kurtosis"], any_row["alpha"],
                            *errors, bits])
    return markdown(out) + "\n" + condition_text(rows)


def condition_text(rows: list[Row]) -> str:
    maps = {(r["data"], r["model"], r["epoch"], r["cut"]): float(r["alpha"]) for r in rows}
    below = sum(alpha < 0.5 for alpha in maps.values())
    return f"Theorem 4 wants alpha < 1/2: that holds on {below} of {len(maps)} maps; the least alpha is " \
           f"{min(maps.values()):.3f}."


def draw(pyplot, rows: list[Row]):
    networks = networks_of(rows)
    fields = [("zeros", "share of zeros"), ("kurtosis", "kurtosis"), ("alpha", "alpha"), (None, "error of ms, qu")]
    figure, axes = pyplot.subplots(len(networks), 4, figsize=(14, 3.4 * len(networks)), squeeze=False)
    for line, network in enumerate(networks):
        for place, (field, title) in zip(axes[line], fields):
            for cut in CUTS:
                found = sorted(by_place(rows, network, cut).items())
                for codec, style in ((CODECS[0], "-"), (CODECS[1], "--")) if field is None else ((None, "-"),):
                    points = [(e, float(codecs[codec]["relative_error"] if codec else next(iter(codecs.values()))[field]))
                              for e, codecs in found if codec is None or codec in codecs]
                    label = f"{cut}, {codec.partition(':')[0]}" if codec else cut
                    place.plot(*zip(*points), style, marker="o", markersize=3, linewidth=1.2, label=label)
            place.set_title(f"{network[1]}: {title}", fontsize=9)
            place.grid(color="#e4e4e4")
            place.tick_params(labelsize=8)
            place.legend(fontsize=7)
    figure.supxlabel("epochs trained", fontsize=10)
    figure.tight_layout()
    return figure
