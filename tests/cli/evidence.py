#!/usr/bin/python3
"""bench/evidence on a tiny table: runs are made once, a killed one goes on, and the proofs hold: evidence.py CUTWIRE."""
import importlib.machinery
import importlib.util
import multiprocessing
import os
import pathlib
import signal
import time
import types

from cli_run import CUTWIRE, Folder, skip_without_fashion

SCRIPT = str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "evidence")


def load():
    loader = importlib.machinery.SourceFileLoader("evidence", SCRIPT)
    study = importlib.util.module_from_spec(importlib.util.spec_from_loader("evidence", loader))
    loader.exec_module(study)
    study.RESULTS = pathlib.Path("results").resolve()
    study.CSV = study.RESULTS / "evidence.csv"
    study.RECIPE = {"data": "fashion-mnist", "model": "cnn", "batch": "32", "flip": "1", "train-limit": "640",
                    "test-limit": "200"}
    study.SEEDS = [1]
    study.CUTS = ["shallow"]
    study.EPOCHS = 3
    study.SETTINGS = [(study.CTX, "none")]
    study.FIRST_SETTINGS = []
    return study


def options(limit=None, precision=None):
    return types.SimpleNamespace(cutwire=CUTWIRE, dir="runs", limit=limit, jobs=2, precision=precision)


def run_in_child(study, limit):
    """A study of its own process group, so that it can be killed with the run it has started."""
    def work():
        os.setpgid(0, 0)
        study.run_all(options(limit))
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def killed_and_gone_on(study):
    run = study.table()[0]
    precision = study.precision_of(options())
    metrics = pathlib.Path("runs") / study.name_of(run, precision) / "metrics.jsonl"
    child = run_in_child(study, 1)
    end = time.monotonic() + 100
    while not (metrics.exists() and metrics.read_text().count("\n") >= 1 and
               (metrics.parent / "checkpoint.safetensors").exists()):
        assert child.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.join()
    done = metrics.read_text().count("\n")
    assert not study.read_rows(precision) and "--resume" in study.command_of(run, options(), precision), done
    study.run_all(options(1))
    assert list(study.read_rows(precision)) == [run]
    assert metrics.read_text().count("\n") == study.EPOCHS


def the_rest_once(study):
    study.run_all(options())
    rows = study.read_rows(study.precision_of(options()))
    assert list(rows) == study.table() and len(rows) == 4, rows.keys()
    before = study.CSV.stat().st_mtime_ns
    study.run_all(options())
    assert study.CSV.stat().st_mtime_ns == before, "a study that is done makes no run"
    study.prove(rows)
    table = study.markdown(study.lines_of(rows), rows)
    assert table.count("\n| shallow |") == 3 and "| +0.00 |" in table, table
    plain = next(line for line in study.lines_of(rows) if line.uplink == study.MS)
    assert 12 < plain.up_fp32 / plain.up < 13.8, plain
    rows[study.table()[-1]]["test_loss"] = "0"
    try:
        study.prove(rows)
        raise AssertionError("a proof that fails was not noticed")
    except SystemExit:
        pass


def one_precision_only(study):
    """The study stays in the precision of its rows, and those of another are neither paired with them nor lost."""
    mine, = {row["precision"] for row in study.read_all()}
    assert mine == study.precision_of(options())
    other = "bf16" if mine == "fp32" else "fp32"
    rows, strange = study.read_rows(mine), study.table()[0]
    study.write_rows({strange: rows[strange] | {"precision": other, "test_accuracy": "0.5"}}, other)
    assert study.read_rows(mine) == rows and list(study.read_rows(other)) == [strange]
    assert study.precision_of(options(precision=mine)) == mine
    command = study.command_of(strange, options(), other)
    assert "--resume" not in command and command[command.index("--precision") + 1] == other, command
    try:
        study.precision_of(options())
        raise AssertionError("two precisions in one table")
    except SystemExit as refusal:
        assert "choose by --precision" in str(refusal), refusal


skip_without_fashion()
with Folder():
    STUDY = load()
    killed_and_gone_on(STUDY)
    the_rest_once(STUDY)
    one_precision_only(STUDY)
print("the study goes on where it was")
