"""Studies that measure without training: a list of cases, each measured once, kept in a CSV of its own columns.

A program of this kind, measure_NAME.py, has

    KEYS, VALUES                       the columns that tell cases apart, and those that are measured
    cases(quick) -> list of dict       all of them, in order; `codec` is the codec's spec
    Measure(program, folder, quick)    with measure(case) -> dict; folder keeps what it needs between cases
    show(rows) -> str                  Markdown
    draw(pyplot, rows) -> figure
"""
from __future__ import annotations

import csv
import dataclasses
import importlib
import os
import pathlib
import signal
import sys
import time
from types import ModuleType

from .definition import Study
from .errors import StudyError, need
from .estimate import duration
from .only import choose
from .plan import Options
from .program import coded_in_context, machine
from .rows import PROVENANCE, Row, locked

SAVE_EVERY = 2.0  # seconds


@dataclasses.dataclass
class Measured:
    study: Study
    options: Options
    module: ModuleType
    csv: pathlib.Path
    cases: list[Row]

    def key(self, row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in self.module.KEYS)

    def rows(self) -> dict[tuple[str, ...], Row]:
        if not self.csv.exists():
            return {}
        with self.csv.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != self.columns:
                raise StudyError(f"study: {self.csv}: its columns are not those of this version: move it away")
            return {self.key(row): row for row in reader}

    @property
    def columns(self) -> list[str]:
        return [*self.module.KEYS, *self.module.VALUES, *PROVENANCE]

    def is_stale(self, row: Row) -> bool:
        if not coded_in_context(row["codec"]):
            return False
        return row["codec_probe"] != self.options.program.probe((row["codec"],))

    def wanted(self) -> list[Row]:
        return choose(self.cases, self.options.only, lambda case: (case, " ".join(case.values())))

    def missing(self) -> list[Row]:
        rows = self.rows()
        return [case for case in self.wanted() if self.key(case) not in rows or
                (self.options.remake_stale and self.is_stale(rows[self.key(case)]))]

    def finished(self) -> list[Row]:
        """Rows in the order of the cases."""
        rows = self.rows()
        return [rows[self.key(case)] for case in self.cases if self.key(case) in rows]


def open_study(study: Study, options: Options) -> Measured:
    name = f"cutwire_study.measure_{study.measure}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            need(error.name, f"python3-{error.name}", f"cannot measure {study.measure}")
        raise StudyError(f"study: {study.path}: measure: no program research/cutwire_study/measure_{study.measure}.py: "
                         "choose one that is there") from error
    return Measured(study, options, module, options.results / f"{study.full_name}.csv", module.cases(study.quick))


def write(measured: Measured, new: dict[tuple[str, ...], Row]) -> None:
    """Adds rows to what the file holds by now, in the order of the cases."""
    with locked(measured.options.runs / "csv.lock"):
        rows = measured.rows() | new
        order = {measured.key(case): i for i, case in enumerate(measured.cases)}
        temporary = measured.csv.with_suffix(".csv.tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, measured.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(rows, key=lambda k: (order.get(k, len(order)), k)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, measured.csv)


@dataclasses.dataclass
class Told:
    made: int
    count: int
    stopping: str


def run(measured: Measured) -> Told:
    options, missing = measured.options, measured.missing()
    if options.limit:
        missing = missing[:options.limit]
    told, stop = Told(0, len(missing), ""), []
    before = {n: signal.signal(n, lambda number, _: stop.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    folder = options.runs / measured.study.full_name
    folder.mkdir(parents=True, exist_ok=True)
    program, new, began = options.program, {}, time.monotonic()
    tool, saved = measured.module.Measure(program, folder, measured.study.quick) if missing else None, began
    origin = {"commit": program.commit, "machine": machine()}
    try:
        for case in missing:
            told.stopping = stopped(stop, options, time.monotonic() - began)
            if told.stopping:
                break
            versions = {"payload_version": str(program.version_of((case["codec"],))),
                        "codec_probe": program.probe((case["codec"],))}
            new[measured.key(case)] = case | tool.measure(case) | origin | versions
            told.made += 1
            if time.monotonic() - saved > SAVE_EVERY:
                write(measured, new)
                saved = time.monotonic()
                _say(options, told, saved - began)
    finally:
        if new:
            write(measured, new)
        for number, handler in before.items():
            signal.signal(number, handler)
    return told


def stopped(signals: list[int], options: Options, seconds: float) -> str:
    """Why it is time to stop, or ""."""
    if signals:
        return f"stopped by {signal.Signals(signals[0]).name}"
    return f"stopped after --hours {options.hours:g}" if options.hours and seconds > 3600 * options.hours else ""


def _say(options: Options, told: Told, seconds: float) -> None:
    if not options.quiet:
        left = seconds / told.made * (told.count - told.made)
        print(f"{told.made}/{told.count} cases, about {duration(left)} left", file=sys.stderr, flush=True)
