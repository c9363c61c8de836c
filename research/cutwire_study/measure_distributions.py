"""How the error of each codec depends on the distribution of what it codes: random tensors of known distributions.

Every element is drawn on its own, so codes have no context but their frequency: what `ec` saves here it saves by
entropy alone. A size of T bits an element is reached as in Figure 2: `qu` with b = T; `ms` with that mask of at most T
bits (a sign counted, where there are negatives) and r for the rest whose error is least; `sp` and `rt` by r; `ec` by
bpe = T.
"""
from __future__ import annotations

import json
import math
import pathlib

from .errors import need
from .program import Program
from .rows import Row

KEYS = ["distribution", "bits", "codec_name", "codec"]
VALUES = ["elements", "bits_per_element", "relative_error", "relative_bound", "alpha", "zeros", "kurtosis"]
CODECS = ["ms", "qu", "sp", "rt", "ec"]
SHAPE = (32, 16, 16, 16)
SEED = 1

# Each draws `n` numbers; sparse ones and those behind a ReLU have no negatives.
DISTRIBUTIONS = {
    "gaussian": lambda g, n: g.standard_normal(n),
    "gaussian, behind a ReLU": lambda g, n: g.standard_normal(n).clip(0),
    "laplace": lambda g, n: g.laplace(size=n),
    "exponential": lambda g, n: g.exponential(size=n),
    "lognormal": lambda g, n: g.lognormal(size=n),
    "uniform": lambda g, n: g.random(n),
    "bimodal": lambda g, n: abs(g.standard_normal(n) * 0.2 + g.choice([1.0, 3.0], n)),
    "sparse 1%": lambda g, n: sparse(g, n, 0.01),
    "sparse 10%": lambda g, n: sparse(g, n, 0.1),
    "sparse 50%": lambda g, n: sparse(g, n, 0.5),
    "student t, 3 degrees": lambda g, n: g.standard_t(3, n),
    "pareto, exponent 2.5": lambda g, n: g.pareto(2.5, n),
}
SIGNED = {"gaussian", "laplace", "student t, 3 degrees"}


def sparse(generator, count: int, share: float):
    """Exponential numbers in a share of the places, 0 elsewhere."""
    return generator.exponential(size=count) * (generator.random(count) < share)


def specs(name: str, bits: int, signed: bool) -> list[str]:
    """The candidates of a codec for a size, of which the one of least error counts."""
    if name == "qu":
        return [f"qu:b={bits}"]
    if name == "ec":
        return [f"ec:bpe={bits}"]
    if name == "ms":
        widths = range(1, bits + 1 - signed)
        return [f"ms:r={min(1 - (bits - signed - b) / 32, 0.9999):.10g},b={b}" for b in widths] or ["ms:r=0.9999,b=1"]
    return [f"{name}:r={1 - (bits - 1) / 32:.10g}"]


def cases(quick: bool) -> list[Row]:
    sizes = (2, 4) if quick else range(2, 8)
    return [{"distribution": name, "bits": str(bits), "codec_name": codec, "codec": spec}
            for name in DISTRIBUTIONS for bits in sizes for codec in CODECS
            for spec in specs(codec, bits, name in SIGNED)]


class Measure:
    def __init__(self, program: Program, folder: pathlib.Path, quick: bool):
        self.numpy = need("numpy", "python3-numpy", "cannot draw random tensors")
        self.program, self.folder, self.drawn = program, folder, {}

    def tensor(self, name: str):
        """The tensor, the same for all codecs, and its file."""
        if name not in self.drawn:
            generator = self.numpy.random.default_rng([SEED, list(DISTRIBUTIONS).index(name)])
            values = DISTRIBUTIONS[name](generator, math.prod(SHAPE)).astype("<f4").reshape(SHAPE)
            path = self.folder / "x.npy"
            self.numpy.save(path, values)
            self.drawn = {name: (values, path)}
        return self.drawn[name]

    def measure(self, case: Row) -> Row:
        values, path = self.tensor(case["distribution"])
        text = self.program.output("codec", "roundtrip", "--codec", case["codec"], "--in", str(path), "--json")
        told = json.loads(text.strip().splitlines()[-1])
        flat = values.ravel().astype("f8")
        deviation = flat - flat.mean()
        kurtosis = (deviation**4).mean() / (deviation**2).mean()**2
        alpha, bound = self.alpha_and_bound(case, abs(flat))
        measured = {"elements": flat.size, "bits_per_element": f"{told['bits_per_element']:.5g}",
                    "relative_error": f"{told['rel_error']:.6g}", "relative_bound": bound, "alpha": alpha,
                    "zeros": f"{(flat == 0).mean():.4f}", "kurtosis": f"{kurtosis:.4g}"}
        return {name: str(value) for name, value in measured.items()}

    def alpha_and_bound(self, case: Row, magnitudes) -> tuple[str, str]:
        """alpha = |what is not kept| / |x|, and the paper's bounds (31) to (33) relative to |x|; "" where it has none."""
        keys = dict(pair.split("=") for pair in case["codec"].partition(":")[2].split(","))
        count, name = magnitudes.size, case["codec_name"]
        if name == "qu":
            return "", f"{math.sqrt(count) / (2**int(keys['b']) - 1):.5g}"
        if name not in ("ms", "sp"):
            return "", ""
        kept = math.floor((1 - float(keys["r"])) * count + 1e-6)
        rest = self.numpy.sort(magnitudes)[:count - kept]
        alpha = math.sqrt((rest**2).sum() / (magnitudes**2).sum())
        if name == "sp":
            return f"{alpha:.4f}", f"{(count - kept) / count:.5g}"
        return f"{alpha:.4f}", f"{alpha * math.sqrt(count - kept) / (2**int(keys['b']) - 1):.5g}"


# ---- what it shows ----

def best(rows: list[Row], name: str, bits: str, codec: str) -> Row | None:
    found = [r for r in rows if (r["distribution"], r["bits"], r["codec_name"]) == (name, bits, codec)]
    return min(found, key=lambda r: float(r["relative_error"]), default=None)


def show(rows: list[Row]) -> str:
    from .tables import markdown
    sizes = sorted({row["bits"] for row in rows}, key=int)
    out = [["distribution", "zeros>", "kurtosis>", "bits>", *[f"`{codec}`>" for codec in CODECS], "least", "best ms",
            "alpha of it>"]]
    for name in DISTRIBUTIONS:
        for bits in sizes:
            found = {codec: row for codec in CODECS if (row := best(rows, name, bits, codec))}
            if not found:
                continue
            plain = {codec: row for codec, row in found.items() if codec != "ec"}
            least = min(plain, key=lambda codec: float(plain[codec]["relative_error"])) if plain else "-"
            any_row, ms = next(iter(found.values())), found.get("ms")
            out.append([name, any_row["zeros"], any_row["kurtosis"], bits,
                        *[f"{float(found[c]['relative_error']):.4f}" if c in found else "-" for c in CODECS],
                        f"`{least}`", f"`{ms['codec']}`" if ms else "-", ms["alpha"] if ms else "-"])
    text = [markdown(out), bounds_text(rows), condition_text(rows, sizes)]
    return "\n\n".join(part.rstrip("\n") for part in text if part)


def bounds_text(rows: list[Row]) -> str:
    """Which bounds are broken, and how far above the error they lie."""
    bounded = [row for row in rows if row["relative_bound"]]
    if not bounded:
        return ""
    broken = [row for row in bounded if float(row["relative_error"]) > float(row["relative_bound"])]
    parts = []
    for codec in ("qu", "sp", "ms"):
        ratios = sorted(float(row["relative_bound"]) / float(row["relative_error"]) for row in bounded
                        if row["codec_name"] == codec and float(row["relative_error"]) > 0)
        if ratios:
            parts.append(f"`{codec}` {ratios[0]:.3g} to {ratios[-1]:.3g}")
    where = ", ".join(sorted({f"`{row['codec_name']}` on {row['distribution']}" for row in broken}))
    kept = f"broken in {len(broken)} of {len(bounded)} cases ({where})" if broken else "kept in all cases"
    return f"The bounds (31) to (33) are {kept}. A bound over the error it bounds: {', '.join(parts)} times."


def condition_text(rows: list[Row], sizes: list[str]) -> str:
    """Theorem 4 wants alpha < 1/2 for ms below qu: how often that holds, and how often ms is below all the same."""
    pairs = [(ms, qu) for name in DISTRIBUTIONS for bits in sizes
             if (ms := best(rows, name, bits, "ms")) and (qu := best(rows, name, bits, "qu"))]
    holds = sum(float(ms["alpha"]) < 0.5 for ms, _ in pairs)
    below = [(ms, qu) for ms, qu in pairs if float(ms["relative_error"]) < float(qu["relative_error"])]
    without = sum(float(ms["alpha"]) >= 0.5 for ms, _ in below)
    return f"`ms` is below `qu` in {len(below)} of {len(pairs)} pairs of distribution and size. Theorem 4's condition" \
           f", alpha < 1/2, holds in {holds} of them; {without} of the {len(below)} are without it." if pairs else ""


def draw(pyplot, rows: list[Row]):
    names = [name for name in DISTRIBUTIONS if any(row["distribution"] == name for row in rows)]
    sizes = sorted({row["bits"] for row in rows}, key=int)
    columns = 4
    figure, axes = pyplot.subplots(-(-len(names) // columns), columns, figsize=(14, 3 * -(-len(names) // columns)),
                                   squeeze=False, sharex=True)
    for place in axes.flat[len(names):]:
        place.set_visible(False)
    for place, name in zip(axes.flat, names):
        for codec in CODECS:
            found = [(int(bits), float(row["relative_error"])) for bits in sizes if (row := best(rows, name, bits, codec))]
            if found:
                place.plot(*zip(*found), marker="o", markersize=3, linewidth=1.2, label=codec)
        place.set_yscale("log")
        place.set_title(name, fontsize=9)
        place.grid(color="#e4e4e4")
        place.tick_params(labelsize=8)
    axes.flat[0].legend(fontsize=8)
    figure.supxlabel("bits an element", fontsize=10)
    figure.supylabel("relative 2-norm error", fontsize=10)
    figure.tight_layout()
    return figure
