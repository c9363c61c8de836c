"""What a run came to, whether it was made or is known from its equal; and groups of runs that differ in the seed alone."""
from __future__ import annotations

import dataclasses

from . import rows as csv_rows
from .definition import Run
from .plan import Plan
from .rows import Row


@dataclasses.dataclass
class Outcome:
    run: Run
    accuracy: float  # per cent, after the last epoch
    test_loss: float
    train_loss: float
    up: float  # bytes at the socket of the whole run
    down: float
    up_fp32: float  # of the tensors that crossed, evaluation included, in fp32
    down_fp32: float
    weights: float  # of up and down: gradients and statistics of the client's half
    curve: list[float]  # accuracy after each epoch, per cent; [] where the row has none
    curve_up: list[float]  # bytes until then
    curve_down: list[float]
    known_from: str  # "" for a run that was made, else its equal
    stale: bool


def floats(text: str, scale: float = 1) -> list[float]:
    return [scale * float(word) if word != "-" else float("nan") for word in text.split()]


def number(row: Row, column: str) -> float:
    return float(row[column]) if row[column] != "" else float("nan")


def from_row(run: Run, row: Row, stale: bool) -> Outcome:
    up, down = number(row, "uplink_bytes"), number(row, "downlink_bytes")
    return Outcome(run, 100 * number(row, "test_accuracy"), number(row, "test_loss"), number(row, "train_loss"), up, down,
                   up * number(row, "uplink_ratio"), down * number(row, "downlink_ratio"),
                   number(row, "uplink_weights_bytes") + number(row, "downlink_weights_bytes"),
                   floats(row["curve_test_accuracy"], 100), floats(row["curve_uplink_bytes"]),
                   floats(row["curve_downlink_bytes"]), "", stale)


def from_equal(run: Run, equal: csv_rows.Equal, rows: dict[Run, Row]) -> Outcome:
    """The values of one run with the bytes of another, for as many epochs."""
    out = from_row(run, rows[equal.values], False)
    size, times = from_row(equal.size, rows[equal.size], False), run.epochs / equal.size.epochs
    for field in ("up", "down", "up_fp32", "down_fp32", "weights"):
        setattr(out, field, times * getattr(size, field))
    out.curve_up = [size.up / equal.size.epochs * (i + 1) for i in range(len(out.curve))]
    out.curve_down = [size.down / equal.size.epochs * (i + 1) for i in range(len(out.curve))]
    out.known_from = equal.why
    return out


def outcome_of(run: Run, plan: Plan) -> Outcome | None:
    if run in plan.rows:
        return from_row(run, plan.rows[run], plan.is_stale(run))
    equal = plan.equals.get(run)
    if equal and equal.values in plan.rows and equal.size in plan.rows:
        return from_equal(run, equal, plan.rows)
    return None


@dataclasses.dataclass
class Group:
    """Runs that differ in the seed alone, in the order of the seeds."""
    run: Run  # of the first seed
    outcomes: list[Outcome]
    differences: list[float]  # accuracy against unsplit with the same seed, in points, where that was made

    def mean(self, field: str) -> float:
        return mean([getattr(outcome, field) for outcome in self.outcomes])

    @property
    def accuracies(self) -> list[float]:
        return [outcome.accuracy for outcome in self.outcomes]


def training_of(run: Run) -> tuple[str, str, str]:
    """How long and on how much: only runs that have this in common are compared."""
    keys = run.settings()
    return str(run.epochs), keys.get("train-limit", "-"), keys.get("test-limit", "-")


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def groups_of(plan: Plan) -> list[Group]:
    """In the order of the study's grid."""
    found: dict[Run, list[Outcome]] = {}
    for run in plan.study.runs:
        outcome = outcome_of(run, plan)
        if outcome:
            found.setdefault(dataclasses.replace(run, seed=0), []).append(outcome)
    groups = []
    for outcomes in found.values():
        outcomes.sort(key=lambda outcome: outcome.run.seed)
        groups.append(Group(outcomes[0].run, outcomes, differences_of(outcomes, plan)))
    return groups


def shown_of(plan: Plan) -> list[Group]:
    """Those that `--only` leaves; all seeds of each."""
    wanted = set(plan.wanted)
    return [group for group in groups_of(plan) if any(outcome.run in wanted for outcome in group.outcomes)]


def differences_of(outcomes: list[Outcome], plan: Plan) -> list[float]:
    found = []
    for outcome in outcomes:
        base = csv_rows.unsplit_of(outcome.run)
        if not outcome.run.unsplit and base in plan.rows:
            found.append(outcome.accuracy - 100 * number(plan.rows[base], "test_accuracy"))
    return found


# ---- equalities that the study itself proves ----

@dataclasses.dataclass
class Proof:
    run: Run
    why: str
    holds: bool


def proofs_of(plan: Plan) -> list[Proof]:
    """Runs that were made although their values are known: whether they are equal to the bit."""
    found = []
    for run in plan.study.runs:
        equal = csv_rows.equal_of(run, set(plan.rows))
        if run in plan.rows and equal and comparable(plan.rows[run], plan.rows[equal.values]):
            made, known = plan.rows[run], plan.rows[equal.values]
            same = all(made[c] == known[c] for c in ("test_accuracy", "test_loss", "train_loss"))
            found.append(Proof(run, equal.why, same))
    return found


def comparable(a: Row, b: Row) -> bool:
    """Another processor, or another version of the engine, may round otherwise. A commit that begins with <= is not known
    exactly."""
    exact = not (a["commit"] + b["commit"]).count("<=")
    return a["machine"] == b["machine"] and (a["commit"] == b["commit"] or not exact)
