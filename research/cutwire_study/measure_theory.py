"""Lemma 2: the error of the gradient grows linearly with the error of the codec. Measured on a trained network's batch.

`cutwire repro theorem1` holds the weights of a network fixed and compares the gradient with a codec on the uplink to the
one without; here for many codecs, so that the error of the activations runs over three orders of magnitude.
"""
from __future__ import annotations

import json
import math
import pathlib

from .program import Program
from .rows import Row

KEYS = ["data", "model", "cut", "codec"]
VALUES = ["codec_error", "client_gradient_error", "server_gradient_error", "bits_per_element"]
CUTS = ["shallow", "medium", "deep"]
FAMILIES = ["ms", "qu", "sp", "ec"]
SAMPLES = 128
LINEAR_UNTIL = 0.1  # relative error of the activations up to which a line is fitted


def codecs() -> list[str]:
    return [f"ms:r=0.99,b={b}" for b in range(1, 9)] + [f"qu:b={b}" for b in range(2, 9)] + \
           [f"sp:r={r}" for r in ("0.99", "0.95875", "0.9", "0.8", "0.7", "0.6", "0.55")] + \
           [f"ec:err={e}" for e in ("0.01", "0.02", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.4", "0.5", "0.6")]


def cases(quick: bool) -> list[Row]:
    return [{"data": "fashion-mnist", "model": "cnn", "cut": cut, "codec": codec}
            for cut in (CUTS[:1] if quick else CUTS) for codec in (codecs()[::3] if quick else codecs())]


class Measure:
    def __init__(self, program: Program, folder: pathlib.Path, quick: bool):
        self.program, self.folder = program, folder
        self.limits = ["--train-limit", "3200", "--test-limit", "500"] if quick else []

    def run_options(self) -> list[str]:
        """The network is trained with the first case, one epoch, and kept."""
        if (self.folder / "theorem1" / "run" / "model.safetensors").exists():
            return ["--run", str(self.folder / "theorem1" / "run"), "--out", str(self.folder / "again")]
        return ["--data", "fashion-mnist", "--model", "cnn", *self.limits, "--out", str(self.folder / "theorem1")]

    def measure(self, case: Row) -> Row:
        text = self.program.output("repro", "theorem1", *self.run_options(), "--cut", case["cut"], "--codec", case["codec"],
                                   "--samples", str(SAMPLES), "--seeds", "16", "--threads", "1", "--quiet", "--json")
        rows = json.loads(text.strip().splitlines()[-1])["rows"]
        up = next(row for row in rows if row["direction"] == "uplink")
        measured = {"codec_error": up["codec_error"], "client_gradient_error": up["client"]["error_of_mean"],
                    "server_gradient_error": up["server"]["error_of_mean"], "bits_per_element": up["bits_per_element"]}
        return {name: f"{value:.6g}" for name, value in measured.items()}


# ---- what it shows ----

def fit(points: list[tuple[float, float]]) -> tuple[float, float] | None:
    """(c, p) of y = c x^p by least squares of logarithms; None with fewer than three points."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(logs) < 3:
        return None
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs))
    spread = sum((x - mean_x)**2 for x, _ in logs)
    power = sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else float("nan")
    return math.exp(mean_y - power * mean_x), power


def points_of(rows: list[Row], cut: str, family: str, half: str) -> list[tuple[float, float]]:
    return sorted((float(row["codec_error"]), float(row[f"{half}_gradient_error"])) for row in rows
                  if row["cut"] == cut and row["codec"].startswith(family))


def show(rows: list[Row]) -> str:
    from .tables import markdown
    out = [["cut", "codec", "gradient of the", "exponent of the fit below 0.1>", "gradient's error per codec's there>",
            "the same at the largest error>", "largest error of the codec>"]]
    for cut in CUTS:
        for family in FAMILIES:
            for half in ("client", "server"):
                points = points_of(rows, cut, family, half)
                small = fit([p for p in points if p[0] <= LINEAR_UNTIL])
                if not points:
                    continue
                ratios = [y / x for x, y in points if 0 < x <= LINEAR_UNTIL]
                last = points[-1]
                out.append([cut, f"`{family}`", half, f"{small[1]:.2f}" if small else "-",
                            f"{min(ratios):.2f} .. {max(ratios):.2f}" if ratios else "-",
                            f"{last[1] / last[0]:.2f}", f"{last[0]:.3f}"])
    every = [["cut", "codec", "bits an element>", "error of the activations>", "of the client's gradient>",
              "of the server's>"]]
    every += [[r["cut"], f"`{r['codec']}`", f"{float(r['bits_per_element']):.2f}", f"{float(r['codec_error']):.4f}",
               f"{float(r['client_gradient_error']):.4f}", f"{float(r['server_gradient_error']):.4f}"] for r in rows]
    return "Lemma 2 says: exponent 1 (errors relative to the activations' and the gradient's own norm).\n\n" + \
        markdown(out) + "\n" + markdown(every)


def draw(pyplot, rows: list[Row]):
    cuts = [cut for cut in CUTS if any(row["cut"] == cut for row in rows)]
    figure, axes = pyplot.subplots(2, len(cuts), figsize=(4.6 * len(cuts), 7.5), squeeze=False)
    for column, cut in enumerate(cuts):
        for line, half in enumerate(("client", "server")):
            place = axes[line][column]
            for family in FAMILIES:
                points = points_of(rows, cut, family, half)
                if points:
                    place.plot(*zip(*points), marker="o", markersize=4, linewidth=1, label=family)
            place.axline((LINEAR_UNTIL, LINEAR_UNTIL), (2 * LINEAR_UNTIL, 2 * LINEAR_UNTIL), color="#888888",
                         linestyle="--", linewidth=1, label="equal, slope 1")
            place.set_xscale("log")
            place.set_yscale("log")
            place.set_title(f"cut {cut}, gradient of the {half}", fontsize=9)
            place.grid(color="#e4e4e4")
            place.tick_params(labelsize=8)
    axes[0][0].legend(fontsize=8)
    figure.supxlabel("relative error of the activations", fontsize=10)
    figure.supylabel("relative error of the gradient", fontsize=10)
    figure.tight_layout()
    return figure
