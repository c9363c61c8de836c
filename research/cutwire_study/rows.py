"""Finished runs in CSV files, one row each; which results stand for others; which rows are stale.

A CSV is sorted by what the run is, so that the files of two machines merge line by line. Studies share their runs: a run
that any study's CSV holds is made by none.
"""
from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import os
import pathlib
from typing import Iterator

from .definition import SPLIT_ONLY, Run
from .errors import StudyError
from .program import Program, coded_in_context

IDENTITY = [field.name for field in dataclasses.fields(Run)]
NUMBERS = ["clients", "epochs", "seed"]
MEASURES = ["test_accuracy", "test_loss", "train_loss", "train_accuracy", "uplink_bytes", "downlink_bytes",
            "uplink_payload_bytes", "downlink_payload_bytes", "uplink_raw_bytes", "downlink_raw_bytes",
            "uplink_weights_bytes", "downlink_weights_bytes", "uplink_ratio", "downlink_ratio", "seconds"]
# Values after each epoch, with spaces between; bytes are all since the run's beginning.
CURVES = ["curve_test_accuracy", "curve_train_loss", "curve_uplink_bytes", "curve_downlink_bytes"]
PROVENANCE = ["commit", "payload_version", "codec_probe", "machine"]
COLUMNS = IDENTITY + MEASURES + CURVES + PROVENANCE

Row = dict[str, str]


def run_of(row: Row) -> Run:
    return Run(**{name: int(row[name]) if name in NUMBERS else row[name] for name in IDENTITY})


def read(path: pathlib.Path) -> dict[Run, Row]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise StudyError(f"study: {path}: its columns are not those of this version: move it away, or use the "
                             "version that wrote it")
        return {run_of(row): row for row in reader}


def read_all(folder: pathlib.Path, own: pathlib.Path) -> dict[Run, Row]:
    """The rows of every study in the folder; those of `own` win."""
    found: dict[Run, Row] = {}
    for path in sorted(folder.glob("*.csv")):
        if path != own and _is_of_runs(path):
            found |= read(path)
    return found | read(own)


def _is_of_runs(path: pathlib.Path) -> bool:
    """Measuring programs keep tables of their own beside."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip() == ",".join(COLUMNS)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: pathlib.Path, rows: dict[Run, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[run] for run in sorted(rows))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def add(path: pathlib.Path, lock: pathlib.Path, run: Run, row: Row) -> None:
    """Adds a row to what the file holds by now: another runner may have added its own."""
    with locked(lock):
        write(path, read(path) | {run: row})


# ---- staleness ----

def is_stale(row: Row, run: Run, program: Program) -> bool:
    """Whether today's codecs would send other bytes: only those that code in context change."""
    if not any(coded_in_context(spec) for spec in run.specs):
        return False
    if int(row["payload_version"]) != program.version_of(run.specs):
        return True
    return row["codec_probe"] not in ("", program.probe(run.specs))


# ---- what is equal to the bit ----

FIRST_SEED = 1  # of runs that only count bytes

@dataclasses.dataclass(frozen=True)
class Equal:
    """A run whose result is known from another's: `values` has the same accuracies and losses to the bit, `size` (of one
    epoch, or of another seed) counts the bytes, which do not depend on the data."""
    values: Run
    size: Run
    why: str


def equal_of(run: Run, available: set[Run], made_in_full: set[Run] = frozenset()) -> Equal | None:
    """The equal of a run, where its values are among `available` runs."""
    if run.unsplit:
        return None
    others = [other for other in made_in_full if dataclasses.replace(other, seed=run.seed) == run and other != run]
    size = min(others, default=dataclasses.replace(run, epochs=1, seed=FIRST_SEED))
    if run.specs == ("none", "none", "none") and run.clients == 1:
        values = unsplit_of(run)
        return Equal(values, size, "unsplit") if values in available else None
    if run.uplink.startswith("ms") and "entropy=" not in run.uplink:
        joint = "," if ":" in run.uplink else ":"
        values = dataclasses.replace(run, uplink=f"{run.uplink}{joint}entropy=ctx")
        return Equal(values, size, "entropy=ctx") if values in available else None
    return None


def unsplit_of(run: Run) -> Run:
    """The unsplit run that a split one is compared with: the same recipe, precision and seed, all clients' batches as
    one."""
    keys = {key: value for key, value in run.settings().items() if key not in SPLIT_ONLY}
    keys["batch"] = str(int(keys["batch"]) * run.clients)
    recipe = " ".join(sorted(f"{key}={value}" for key, value in keys.items()))
    return dataclasses.replace(run, cut="-", uplink="-", downlink="-", update="-", clients=1, recipe=recipe)
