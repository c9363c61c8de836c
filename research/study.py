#!/usr/bin/python3
"""The runner of studies, called by `cutwire study` and `cutwire repro`, which read the options and check them:

    study.py --cutwire PROGRAM NAME|FILE list|run|show|repro [OPTIONS as `cutwire study --help` lists them]
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from typing import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from cutwire_study import definition, making, measured, page, pictures, tables  # noqa: E402
from cutwire_study.errors import FAILURE, USAGE, StudyError  # noqa: E402
from cutwire_study.estimate import Estimate, duration  # noqa: E402
from cutwire_study.outcomes import outcome_of, proofs_of, shown_of  # noqa: E402
from cutwire_study.plan import Options, Plan  # noqa: E402
from cutwire_study.program import Program  # noqa: E402

RESEARCH = pathlib.Path(__file__).resolve().parent
ROOT = RESEARCH.parent


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutwire", default=str(ROOT / "build" / "cutwire"))
    parser.add_argument("study")
    parser.add_argument("verb", choices=["list", "run", "show", "repro"])
    for name in ("seeds", "only", "precision", "results", "runs", "commit"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--hours", type=float, default=0)
    for name, default in (("jobs", 1), ("limit", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("stale", "quick", "json", "quiet"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def seeds_of(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise StudyError(f"study: --seeds: '{text}' is not a list of whole numbers: write 1,2,3", USAGE) from None


def results_folder(arguments: argparse.Namespace, path: pathlib.Path) -> pathlib.Path:
    """The repository's own for its studies, the file's folder for others; below the working folder where an installed
    study is used."""
    if arguments.results:
        return pathlib.Path(arguments.results)
    if arguments.quick:
        return pathlib.Path("study-quick")
    own = path.resolve().parent == definition.STUDIES
    if own and not os.access(RESEARCH / "results", os.W_OK):
        return pathlib.Path("study-results")
    return RESEARCH / "results" if own else path.resolve().parent


def runs_folder(arguments: argparse.Namespace, results: pathlib.Path) -> pathlib.Path:
    if arguments.runs:
        return pathlib.Path(arguments.runs).resolve()
    return (ROOT / "runs" / "study" if results == RESEARCH / "results" else results / "runs").resolve()


def open_study(arguments: argparse.Namespace) -> tuple[definition.Study, Options]:
    if arguments.jobs < 1:
        raise StudyError("study: --jobs: 0 runs at a time make none: give 1 or more", USAGE)
    program = Program(str(pathlib.Path(arguments.cutwire).resolve()), arguments.commit)
    choices = definition.Choices(seeds_of(arguments.seeds), arguments.precision, arguments.quick)
    study = definition.load(arguments.study, program, choices)
    results = results_folder(arguments, study.path)
    options = Options(program, results, runs_folder(arguments, results), arguments.jobs, arguments.hours,
                      arguments.limit, arguments.only, arguments.stale, arguments.quiet)
    return study, options


# ---- list ----

def state_of(run: definition.Run, plan: Plan) -> str:
    if run in plan.equals:
        equal = plan.equals[run]
        state = "equal" if outcome_of(run, plan) else "to do: one epoch for its bytes"
        return f"{state} ({equal.why}, to the bit)"
    if run not in plan.rows:
        return "to do"
    return "stale" if plan.is_stale(run) else "done"


def list_runs(plan: Plan, as_json: bool) -> None:
    wanted = plan.wanted
    missing = plan.missing()
    seconds = Estimate(plan.rows).left(missing, [], plan.options.jobs)
    if as_json:
        print(json.dumps({"study": plan.study.full_name, "runs": len(wanted), "to_make": len(missing),
                          "stale": sum(plan.is_stale(run) for run in wanted), "seconds_left": round(seconds),
                          "csv": str(plan.csv)}))
        return
    print(f"{plan.study.title}\n{plan.study.question}\n")
    for run in wanted:
        outcome = outcome_of(run, plan)
        accuracy = f"{outcome.accuracy:6.2f}%" if outcome else "      -"
        print(f"{accuracy}  {run.label()}: {state_of(run, plan)}")
    left = f", about {duration(seconds)} on {plan.options.jobs} at a time" if seconds else ""
    print(f"\n{len(missing)} run{'s' * (len(missing) != 1)} to make{left}. Results: {plan.csv}")
    if any(plan.is_stale(run) for run in wanted):
        print("Stale rows were made by an older codec: `run --stale` makes them anew.")


# ---- run ----

def run_study(plan: Plan, as_json: bool, told: bool = True) -> int:
    maker = making.make(plan)
    if as_json and told:
        print(json.dumps({"study": plan.study.full_name, "made": maker.done, "of": maker.count,
                          "stopped": bool(maker.stopping), "csv": str(plan.csv)}))
    elif not plan.options.quiet:
        print(f"{maker.done} of {maker.count} run{'s' * (maker.count != 1)} made; results: {plan.csv}", file=sys.stderr)
    if maker.stopping:
        print(f"{maker.stopping}; the same command goes on", file=sys.stderr)
    return FAILURE if "SIG" in maker.stopping else 0


# ---- show ----

def show_study(plan: Plan, as_json: bool) -> int:
    """The table on standard output; table, picture and page as files beside the CSV, but for a part of a study."""
    text = tables.show(plan)
    if not shown_of(plan):
        raise StudyError(f"study: {plan.study.full_name}: nothing to show: no run of these is finished: "
                         f"`cutwire study {plan.study.name} run` makes them")
    files = [] if plan.options.only else write_page(plan, text)
    if as_json:
        print(json.dumps({"study": plan.study.full_name, "files": files, "groups": [
            {"run": dict(vars(group.run)), "test_accuracy": group.accuracies, "against_unsplit": group.differences,
             "uplink_bytes": group.mean("up"), "downlink_bytes": group.mean("down")} for group in shown_of(plan)]}))
    else:
        print(text)
        print("Written: " + ", ".join(files) if files else "No file is written of what --only leaves: show all for that.")
    if not all(proof.holds for proof in proofs_of(plan)):
        raise StudyError("study: two runs that should be equal to the bit are not: the table above names them: "
                         "nothing that rests on it may be believed")
    return 0


def write_page(plan: Plan, text: str) -> list[str]:
    picture = picture_of(lambda: pictures.draw(plan))
    return write_files(plan.csv, text, page.page(plan, text, picture), picture)


def picture_of(draw: Callable[[], bytes | None]) -> bytes | None:
    """None, and a sentence, where matplotlib is missing."""
    try:
        return draw()
    except StudyError as error:
        print(f"cutwire: {error}", file=sys.stderr)
        return None


def write_files(csv: pathlib.Path, text: str, html: str, picture: bytes | None) -> list[str]:
    found = {".md": text.encode(), ".html": html.encode()}
    if picture:
        found[".png"] = picture
    for suffix, content in found.items():
        temporary = csv.with_suffix(suffix + ".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, csv.with_suffix(suffix))
    return [str(csv.with_suffix(suffix)) for suffix in found]


# ---- studies that measure without training ----

def measure_study(study: definition.Study, options: Options, verb: str, as_json: bool) -> int:
    found = measured.open_study(study, options)
    if verb == "list":
        return list_cases(found, as_json)
    code = 0
    if verb in ("run", "repro"):
        code = run_cases(found, as_json and verb == "run")
    return code or (show_cases(found, as_json) if verb in ("show", "repro") else 0)


def list_cases(found: measured.Measured, as_json: bool) -> int:
    rows, missing = found.rows(), found.missing()
    stale = sum(found.is_stale(row) for row in rows.values())
    if as_json:
        print(json.dumps({"study": found.study.full_name, "runs": len(found.cases), "to_make": len(missing),
                          "stale": stale, "csv": str(found.csv)}))
        return 0
    print(f"{found.study.title}\n{found.study.question}\n")
    for case in found.wanted():
        row = rows.get(found.key(case))
        state = "to do" if row is None else "stale" if found.is_stale(row) else "done"
        print(f"{', '.join(case.values())}: {state}")
    print(f"\n{len(missing)} cases to measure. Results: {found.csv}")
    return 0


def run_cases(found: measured.Measured, as_json: bool) -> int:
    told = measured.run(found)
    if as_json:
        print(json.dumps({"study": found.study.full_name, "made": told.made, "of": told.count,
                          "stopped": bool(told.stopping), "csv": str(found.csv)}))
    elif not found.options.quiet:
        print(f"{told.made} of {told.count} cases measured; results: {found.csv}", file=sys.stderr)
    if told.stopping:
        print(f"{told.stopping}; the same command goes on", file=sys.stderr)
    return FAILURE if "SIG" in told.stopping else 0


def show_cases(found: measured.Measured, as_json: bool) -> int:
    rows = found.finished()
    if not rows:
        raise StudyError(f"study: {found.study.full_name}: nothing to show: nothing is measured: "
                         f"`cutwire study {found.study.name} run` does")
    text = tables.measured_text(found.study, found.module.show(rows), len(found.cases) - len(rows))
    picture = picture_of(lambda: pictures.measured(found.study.title, found.module, rows))
    files = write_files(found.csv, text, page.plain(found.study.title, text, picture), picture)
    print(json.dumps({"study": found.study.full_name, "files": files, "rows": len(rows)}) if as_json
          else f"{text}\nWritten: {', '.join(files)}")
    return 0


# ---- all of it ----

def train_study(plan: Plan, verb: str, as_json: bool) -> int:
    if verb == "list":
        list_runs(plan, as_json)
        return 0
    if verb == "show":
        return show_study(plan, as_json)
    code = run_study(plan, as_json, told=verb == "run")
    if code == 0 and verb == "repro":
        code = show_study(Plan(plan.study, plan.options), as_json)
    return code


def main() -> int:
    arguments = read_arguments()
    try:
        study, options = open_study(arguments)
        if study.measure:
            return measure_study(study, options, arguments.verb, arguments.json)
        return train_study(Plan(study, options), arguments.verb, arguments.json)
    except StudyError as error:
        print(f"cutwire: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"cutwire: study: {error}", file=sys.stderr)
        return FAILURE


if __name__ == "__main__":
    sys.exit(main())
