"""Makes the missing runs of a study: each a process of `cutwire train`, as many at a time as wanted.

A run that was stopped or killed goes on from its checkpoint in the folder of runs; where there is none, or the codecs
have changed since, it begins anew. Two runners may share a folder: each run is locked by the process that makes it.
"""
from __future__ import annotations

import ctypes
import dataclasses
import fcntl
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import IO

from . import rows as csv_rows
from .definition import CODEC_KEYS, Run
from .errors import StudyError
from .estimate import Estimate, duration
from .plan import Options, Plan
from .program import Program, machine
from .rows import Row

POLL = 0.1  # seconds
BETWEEN_LINES = 0.5  # seconds between redrawn lines on a terminal
HOPELESS = 3  # failures before any success, after which the others are not tried
PR_SET_PDEATHSIG = 1


# ---- one run ----

def slug(run: Run) -> str:
    """The name of a run's folder: readable, and different for different runs."""
    import zlib
    text = "-".join(str(value) for value in dataclasses.astuple(run))
    words = [run.model, run.cut if not run.unsplit else "unsplit", run.uplink, f"e{run.epochs}", f"seed{run.seed}"]
    readable = "".join(c if c.isalnum() or c in ".=-" else "_" for c in "-".join(w for w in words if w != "-"))
    return f"{readable}-{zlib.crc32(text.encode()):08x}"


def command_of(run: Run, program: Program, folder: pathlib.Path) -> list[str]:
    command = [program.path, "train"]
    if (folder / "checkpoint.safetensors").exists():
        return command + ["--resume", str(folder), "--threads", "1", "--json", "--quiet"]
    return command + settings_of(run, program) + ["--threads", "1", "--out", str(folder), "--json", "--quiet"]


def settings_of(run: Run, program: Program) -> list[str]:
    """The run as options of `cutwire train`."""
    keys = {"data": run.data, "model": run.model, "precision": run.precision, "epochs": str(run.epochs),
            "seed": str(run.seed)}
    if not run.unsplit:
        keys |= {"clients": str(run.clients), "cut": run.cut} | dict(zip(CODEC_KEYS, run.specs))
    words = ["--local" if run.unsplit else "--split"]
    for key, value in (keys | run.settings()).items():
        words += [f"--{key}"] * (value == "1") if key in program.flags else [f"--{key}", value]
    return words


def die_with_parent() -> None:
    """A runner that is killed takes its runs with it; they save what they have reached."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Job:
    """A run being made, in its folder; whoever has `lock` makes it."""

    def __init__(self, run: Run, options: Options, lock: IO[str]):
        self.run, self.options, self.lock = run, options, lock
        self.folder = options.runs / slug(run)
        self.told_to_stop = False
        self.origin = self._origin()
        self.out = (options.runs / f"{slug(run)}.out").open("w")
        self.log = (options.runs / f"{slug(run)}.log").open("w")
        self.process = subprocess.Popen(command_of(run, options.program, self.folder), stdout=self.out, stderr=self.log,
                                        stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent,
                                        pass_fds=[lock.fileno()])

    def _origin(self) -> dict[str, str]:
        """Of the program that began the run; what other codecs have begun is thrown away."""
        program, note = self.options.program, self.options.runs / f"{slug(self.run)}.json"
        now = {"commit": program.commit, "payload_version": str(program.version_of(self.run.specs)),
               "codec_probe": program.probe(self.run.specs), "machine": machine()}
        before = json.loads(note.read_text()) if note.exists() and self.folder.exists() else None
        if before and before["codec_probe"] == now["codec_probe"]:
            for key in ("commit", "machine"):
                if now[key] not in before[key].split("+"):
                    now[key] = f"{before[key]}+{now[key]}"
                else:
                    now[key] = before[key]
        elif before:
            shutil.rmtree(self.folder)
        if self.folder.exists() and not (self.folder / "checkpoint.safetensors").exists():
            shutil.rmtree(self.folder)
        note.write_text(json.dumps(now))
        return now

    def epochs_done(self) -> int:
        try:
            return (self.folder / "metrics.jsonl").read_text().count("\n")
        except OSError:
            return 0

    def stop(self) -> None:
        """Once: a second signal would kill it."""
        if not self.told_to_stop and self.process.poll() is None:
            self.process.terminate()
        self.told_to_stop = True

    def close(self) -> None:
        for file in (self.out, self.log, self.lock):
            file.close()

    def last_words(self) -> str:
        lines = pathlib.Path(self.log.name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def row(self) -> Row | None:
        """What the run came to; None when it was stopped."""
        told = json.loads(pathlib.Path(self.out.name).read_text().strip().splitlines()[-1])
        if told["stopped"]:
            return None
        row = {name: str(getattr(self.run, name)) for name in csv_rows.IDENTITY}
        row |= {name: number_text(told[name]) for name in csv_rows.MEASURES}
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return row | curves_of([json.loads(line) for line in lines]) | self.origin


def number_text(value) -> str:
    """Every bit of a float, so that equality can be proved from the CSV; "" for what was not measured."""
    return repr(value) if isinstance(value, float) else "" if value is None else str(value)


def curves_of(epochs: list[dict]) -> Row:
    columns = {"curve_test_accuracy": [e["test_accuracy"] for e in epochs],
               "curve_train_loss": [round(e["train_loss"], 6) for e in epochs],
               "curve_uplink_bytes": [e["uplink"]["socket_bytes"] for e in epochs],
               "curve_downlink_bytes": [e["downlink"]["socket_bytes"] for e in epochs]}
    return {name: " ".join(number_text(v) or "-" for v in values) for name, values in columns.items()}


def try_lock(path: pathlib.Path) -> IO[str] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except BlockingIOError:
        file.close()
        return None


# ---- all of them ----

class Maker:
    """Makes the missing runs of a plan."""

    def __init__(self, plan: Plan):
        self.plan, self.options = plan, plan.options
        self.estimate = Estimate(plan.rows)
        self.waiting = plan.missing()[:self.options.limit or None]
        self.count = len(self.waiting)
        self.jobs: list[Job] = []
        self.done = self.failed = self.elsewhere = self.too_long = 0
        self.stopping = ""
        self.deadline = time.monotonic() + 3600 * self.options.hours if self.options.hours else float("inf")
        self.terminal, self.shown = sys.stderr.isatty() and not self.options.quiet, 0.0

    def make(self) -> None:
        self.options.runs.mkdir(parents=True, exist_ok=True)
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.waiting or self.jobs:
                self._step()
                time.sleep(POLL)
        finally:
            for job in self.jobs:
                job.stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self._show_line("")

    def _on_signal(self, number: int, _frame) -> None:
        self.stopping = self.stopping or f"stopped by {signal.Signals(number).name}"

    def _step(self) -> None:
        if time.monotonic() >= self.deadline:
            self.stopping = self.stopping or f"stopped after --hours {self.options.hours:g}"
        if self.stopping:
            self.waiting.clear()
            for job in self.jobs:
                job.stop()
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self._take(job)
        while self.waiting and len(self.jobs) < self.options.jobs:
            self._begin(self.waiting.pop(0))
        self._progress()

    def _begin(self, run: Run) -> None:
        lock = try_lock(self.options.runs / f"{slug(run)}.lock")
        if not lock:
            self.elsewhere += 1
            self._say(f"being made by another process: {run.label()}")
            return
        rows = csv_rows.read(self.plan.csv)
        if run in rows and run not in self.plan.rows:  # another process has made it since
            lock.close()
            self.done += 1
            return
        job = Job(run, self.options, lock)
        self.jobs.append(job)
        went_on = job.epochs_done()
        self._say(f"begin [{self.done + len(self.jobs)}/{self.count}] {run.label()}" +
                  (f", after epoch {went_on}" if went_on else ""))

    def _take(self, job: Job) -> None:
        row = job.row() if job.process.returncode == 0 else None
        if row:
            csv_rows.add(self.plan.csv, self.options.runs / "csv.lock", job.run, row)
            self.done += 1
            self.estimate.learn(job.run, float(row["seconds"]))
            accuracy = f"{100 * float(row['test_accuracy']):.2f}%" if row["test_accuracy"] else "not tested"
            self._say(f"done [{self.done}/{self.count}] {job.run.label()}: {accuracy}, "
                      f"{duration(float(row['seconds']))}{self._left()}")
        elif job.process.returncode and not self.stopping:
            self.failed += 1
            if self.failed == HOPELESS and not self.done:
                self.waiting.clear()
            self._say(f"failed: {job.run.label()}: {job.last_words()}")
        job.close()

    # ---- progress ----

    def _left(self) -> str:
        seconds = self.estimate.left(self.waiting, [(job.run, job.epochs_done()) for job in self.jobs],
                                     self.options.jobs)
        return f"; about {duration(seconds)} left" if seconds else ""

    def _progress(self) -> None:
        if not self.terminal or time.monotonic() - self.shown < BETWEEN_LINES:
            return
        now = [f"{job.run.label()}: epoch {job.epochs_done() + 1}/{job.run.epochs}" for job in self.jobs]
        self._show_line(f"{self.done}/{self.count} run{'s' * (self.count != 1)}{self._left()}; " + "; ".join(now))

    def _show_line(self, text: str) -> None:
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
            self.shown = time.monotonic()

    def _say(self, line: str) -> None:
        self._show_line("")
        if not self.options.quiet:
            print(line, file=sys.stderr, flush=True)


def make(plan: Plan) -> Maker:
    """Makes what is missing; an error where runs failed. What was stopped is told by `stopping`."""
    maker = Maker(plan)
    maker.make()
    if maker.failed:
        raise StudyError(f"study: {plan.study.full_name}: {maker.failed} of {maker.count} runs failed: the messages "
                         f"are above and in {plan.options.runs}/*.log: the same command tries them again")
    return maker
