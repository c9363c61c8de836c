"""Seconds a training step takes over a link: measured between network namespaces, and computed from one measured run.

Where client, uplink, server and downlink take turns (`--in-flight 1`), a step takes compute + bytes / rate. The compute is
what remains of a measured step at one rate, the base; steps at other rates are computed from it, and some are measured,
too, to hold the computed ones against. research/thin_link.py makes the links and the runs; it wants root.
"""
from __future__ import annotations

import csv
import os
import pathlib
import sys

from .errors import StudyError
from .program import Program
from .rows import Row

KEYS = ["codec", "downlink", "update", "mbit", "how"]
VALUES = ["seconds", "compute", "up_bytes", "down_bytes", "load"]
RATES = [100, 10, 1]
ON_THE_WIRE = (1448 + 66) / 1448
STEPS, TESTED, STEPS_AN_EPOCH, EPOCHS = 24, 256, 938, 2
MS = ("ms:r=0.99,b=2", "none", "none")
NONE = ("none", "none", "none")
DEFAULTS = ("ec:err=0.15", "ec:step=4.5,round=stochastic,scope=sample", "ec:step=0.75,round=stochastic")
# Rates in Mbit/s at which steps are measured: the first is the base, the others are held against it.
MEASURED = {NONE: [100], MS: [100, 50], DEFAULTS: [10, 100, 1]}


def case(codecs: tuple[str, str, str], mbit: int, how: str) -> Row:
    return dict(zip(KEYS, (*codecs, str(mbit), how)))


def cases(quick: bool) -> list[Row]:
    wanted = {DEFAULTS: [10]} if quick else MEASURED
    found = []
    for codecs, rates in wanted.items():
        found += [case(codecs, mbit, "measured") for mbit in rates]
        found += [case(codecs, mbit, "computed") for mbit in sorted({*RATES, *rates[1:]}, reverse=True)]
    return found


def transfer(row: Row, mbit: float) -> float:
    return (float(row["up_bytes"]) + float(row["down_bytes"])) * 8 * ON_THE_WIRE / (mbit * 1e6)


class Measure:
    def __init__(self, program: Program, folder: pathlib.Path, quick: bool):
        if os.geteuid() != 0:
            raise StudyError("study: link: network namespaces want root: run it as root")
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
        import thin_link
        thin_link.CUTWIRE = pathlib.Path(program.path).resolve()
        self.thin_link, self.steps, self.bases = thin_link, 8 if quick else STEPS, {}

    def measure(self, wanted: Row) -> Row:
        if wanted["how"] == "measured":
            return self.timed(wanted, int(wanted["mbit"]))
        base = self.base(wanted)
        seconds = float(base["compute"]) + transfer(base, int(wanted["mbit"]))
        return base | {"seconds": f"{seconds:.5g}"}

    def base(self, wanted: Row) -> Row:
        codecs = (wanted["codec"], wanted["downlink"], wanted["update"])
        if codecs not in self.bases:
            self.bases[codecs] = self.timed(wanted, MEASURED[codecs][0])
        return self.bases[codecs]

    def timed(self, wanted: Row, mbit: int) -> Row:
        codecs = (wanted["codec"], wanted["downlink"], wanted["update"])
        more = ["--cut", "shallow", "--uplink", codecs[0], "--downlink", codecs[1], "--update", codecs[2], "--flip"]
        with self.thin_link.Link(mbit) as link:
            seconds, up, down, *_ = self.thin_link.a_step(link, 0, 1, "cnn", self.steps, TESTED, more)
        row = {"seconds": f"{seconds:.5g}", "up_bytes": f"{up:.0f}", "down_bytes": f"{down:.0f}",
               "load": f"{os.getloadavg()[0]:.1f}"}
        row["compute"] = f"{seconds - transfer(row, mbit):.5g}"
        if mbit == MEASURED[codecs][0]:
            self.bases[codecs] = row
        return row


# ---- what it shows ----

def accuracies() -> dict[tuple[str, str, str], float]:
    """Test accuracies after the same recipe's two epochs, as other studies measured them: means over seeds."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for path in sorted((pathlib.Path(__file__).resolve().parents[1] / "results").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if (row.get("data"), row.get("model"), row.get("epochs"), row.get("recipe")) == \
                        ("fashion-mnist", "cnn", str(EPOCHS), "batch=64 flip=1") and row["cut"] in ("shallow", "-"):
                    codecs = NONE if row["cut"] == "-" else (row["uplink"], row["downlink"], row["update"])
                    found.setdefault(codecs, []).append(float(row["test_accuracy"]))
    return {codecs: sum(values) / len(values) for codecs, values in found.items()}


def span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def show(rows: list[Row]) -> str:
    from .tables import markdown
    reached = accuracies()
    out = [["codecs: up, down, client's gradients", "accuracy after 2 epochs, %>", "compute, s a step>", "up, kB a step>",
            "down>", *[f"{mbit} Mbit/s, s a step>" for mbit in RATES], *[f"2 epochs at {mbit} Mbit/s>" for mbit in RATES]]]
    for codecs in MEASURED:
        found = {int(r["mbit"]): r for r in rows if tuple(r[k] for k in KEYS[:3]) == codecs and r["how"] == "computed"}
        if not all(mbit in found for mbit in RATES):
            continue
        any_row, seconds = found[RATES[0]], [float(found[mbit]["seconds"]) for mbit in RATES]
        accuracy = f"{100 * reached[codecs]:.2f}" if codecs in reached else "-"
        out.append([", ".join(f"`{codec}`" for codec in codecs), accuracy, f"{float(any_row['compute']):.3f}",
                    f"{float(any_row['up_bytes']) / 1e3:.1f}", f"{float(any_row['down_bytes']) / 1e3:.1f}",
                    *[f"{s:.3g}" for s in seconds], *[span(EPOCHS * STEPS_AN_EPOCH * s) for s in seconds]])
    return markdown(out) + "\n" + held_against(rows)


def held_against(rows: list[Row]) -> str:
    """The computed steps beside the measured ones that they were not computed from."""
    from .tables import markdown
    out = [["codecs", "Mbit/s>", "computed, s a step>", "measured>", "computed / measured>", "load of the machine>"]]
    for codecs, rates in MEASURED.items():
        of = {(int(r["mbit"]), r["how"]): r for r in rows if tuple(r[k] for k in KEYS[:3]) == codecs}
        for mbit in rates[1:]:
            if (mbit, "measured") in of and (mbit, "computed") in of:
                computed, measured = (float(of[mbit, how]["seconds"]) for how in ("computed", "measured"))
                out.append([f"`{codecs[0]}`", str(mbit), f"{computed:.3f}", f"{measured:.3f}",
                            f"{computed / measured:.3f}", of[mbit, "measured"]["load"]])
    return "Runs that nothing was computed from:\n\n" + markdown(out) if len(out) > 1 else ""


def draw(pyplot, rows: list[Row]):
    figure, place = pyplot.subplots(figsize=(7, 4.5))
    for codecs, name in zip(MEASURED, ("no codecs", "ms, activations alone", "defaults, both ways")):
        of = [r for r in rows if tuple(r[k] for k in KEYS[:3]) == codecs]
        line = sorted((int(r["mbit"]), float(r["seconds"])) for r in of if r["how"] == "computed")
        dots = sorted((int(r["mbit"]), float(r["seconds"])) for r in of if r["how"] == "measured")
        if line:
            drawn, = place.plot(*zip(*line), linewidth=1.2, label=f"{name}: computed")
            if dots:
                place.plot(*zip(*dots), "o", color=drawn.get_color(), label=f"{name}: measured")
    place.set_xscale("log")
    place.set_yscale("log")
    place.invert_xaxis()
    place.set_xlabel("link, Mbit/s each way", fontsize=10)
    place.set_ylabel("seconds a step", fontsize=10)
    place.grid(color="#e4e4e4", which="both")
    place.legend(fontsize=8)
    figure.tight_layout()
    return figure
