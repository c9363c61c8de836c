"""What a study still has to do, given the runs that are finished."""
from __future__ import annotations

import dataclasses
import pathlib

from . import rows as csv_rows
from .definition import Run, Study
from .only import choose
from .program import Program


@dataclasses.dataclass
class Options:
    program: Program
    results: pathlib.Path  # folder of the CSVs
    runs: pathlib.Path  # folder of the runs' own folders
    jobs: int = 1
    hours: float = 0  # 0: as long as it takes
    limit: int = 0  # runs to make at most; 0: all
    only: str = ""
    remake_stale: bool = False
    quiet: bool = False


class Plan:
    """What a study still has to do."""

    def __init__(self, study: Study, options: Options):
        self.study, self.options = study, options
        self.csv = options.results / f"{study.full_name}.csv"
        self.rows = csv_rows.read_all(options.results, self.csv)
        self.equals: dict[Run, csv_rows.Equal] = {}
        self.to_make: list[Run] = []
        grid, proofs = set(study.runs), self._proofs()
        self.wanted = choose(study.runs, options.only, described)
        for run in study.runs:
            equal = None if run in self.rows or run in proofs else \
                csv_rows.equal_of(run, grid | set(self.rows), proofs | set(self.rows))
            if equal:
                self.equals[run] = equal
        for run in self.wanted:
            run = self.equals[run].size if run in self.equals else run
            if run not in self.to_make:
                self.to_make.append(run)

    def _proofs(self) -> set[Run]:
        """The first run of each reason why results are equal."""
        found: dict[str, Run] = {}
        for run in self.study.runs if self.study.prove else []:
            equal = csv_rows.equal_of(run, set(self.study.runs))
            if equal:
                found.setdefault(equal.why, run)
        return set(found.values())

    def is_stale(self, run: Run) -> bool:
        return run in self.rows and csv_rows.is_stale(self.rows[run], run, self.options.program)

    def missing(self) -> list[Run]:
        return [run for run in self.to_make
                if run not in self.rows or (self.options.remake_stale and self.is_stale(run))]


def described(run: Run) -> tuple[dict[str, str], str]:
    """What `--only` knows of a run: its columns, the keys of its recipe, and its label."""
    return {name: str(getattr(run, name)) for name in csv_rows.IDENTITY} | run.settings(), run.label()
