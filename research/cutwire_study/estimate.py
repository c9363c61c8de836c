"""How long runs will take, from those that are finished."""
from __future__ import annotations

import statistics

from .definition import Run
from .rows import Row

Kind = tuple[str, str, str, bool, str]


def kind_of(run: Run) -> Kind:
    """Runs of a kind take about the same time for each epoch."""
    return run.data, run.model, run.precision, run.unsplit, run.settings().get("train-limit", "")


class Estimate:
    def __init__(self, rows: dict[Run, Row]):
        self.seconds: dict[Kind, list[float]] = {}
        for run, row in rows.items():
            self.learn(run, float(row["seconds"]))

    def learn(self, run: Run, seconds: float) -> None:
        self.seconds.setdefault(kind_of(run), []).append(seconds / run.epochs)

    def of_epoch(self, run: Run) -> float | None:
        """Seconds for an epoch of such a run; None where nothing like it is known."""
        kind = kind_of(run)
        near = self.seconds.get(kind) or self.seconds.get((*kind[:3], not kind[3], kind[4]))
        return statistics.median(near) if near else None

    def left(self, waiting: list[Run], running: list[tuple[Run, int]], jobs: int) -> float:
        """Seconds for what is left on `jobs` processes; unknown kinds count as the mean of the known; 0: unknown."""
        parts = [(run, float(run.epochs)) for run in waiting] + [(run, run.epochs - 0.5 - done) for run, done in running]
        known = [epochs * each for run, epochs in parts if (each := self.of_epoch(run)) is not None]
        return max(0.0, sum(known) / len(known) * len(parts) / jobs) if known else 0.0


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole // 60 % 60:02d}m"
