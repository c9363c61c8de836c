#!/usr/bin/python3
"""`cutwire study`: runs are made once, killed ones go on to the same result, stale rows are seen, and a file that is wrong
is told by its line: study.py CUTWIRE."""
import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from cli_run import CUTWIRE, LIMIT, Folder, Process, check_error, last_object, run, skip_without_fashion

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = """title: A tiny study
question: Does it go on?
common:
  data: fashion-mnist
  model: cnn
  batch: 32
  train-limit: 320
  test-limit: 60
  seed: 1
runs:
  - mode: unsplit
    epochs: 3
  - cut: shallow
    epochs: 3
    codec:
      - none
      - ms:r=0.99,b=2
      - ms:r=0.99,b=2,entropy=ctx
      - ec:err=0.25
prove: %s
views: [{points: {}}]
"""


def write(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- a file that is wrong ----

def broken(text, line, *said):
    """The message names file and line, and says all of `said`."""
    told = run("study", write("broken.yaml", text), "list", code=2)
    assert f"broken.yaml:{line}: " in told, told
    for words in said:
        assert words in told, (words, told)


def broken_files():
    head = "title: t\nruns:\n  - mode: unsplit\n"
    broken("title: t\nruns: [\n  - a: b\n", 3, "not YAML")
    broken(head + "    epochz: 3\n", 4, "epochz", "did you mean `epochs`?")
    broken(head + "    epochs: many\n", 4, "'many' is not a whole number")
    broken(head + "    lr: [0.1, high]\n", 4, "'high' is not a number")
    broken(head + "    preset: cifar10\n", 4, "no preset 'cifar10'", "cifar10-study")
    broken(head + "    flip: perhaps\n", 4, "neither yes nor no")
    broken("title: t\nruns:\n  - mode: halved\n", 3, "choose split or unsplit")
    broken(head + "views:\n  - tabel\n", 5, "no such view", "table")
    broken(head + "title: again\n", 4, "is there twice")
    broken(head + "  - codec: {uplnk: none}\n", 4, "did you mean `uplink`?")
    broken("title: t\n", 1, "has no `runs`")
    broken("- a\n", 1, "not a mapping")
    broken("", 1, "empty")
    assert "absent.yaml" in run("study", "absent.yaml", "list", code=1)
    assert "did you mean 'simple'?" in run("study", "simpel", "list", code=2)
    assert "choose list, run or show" in run("study", "simple", "draw", code=2)
    assert "not a list of whole numbers" in run("study", "simple", "list", "--seeds", "a", code=2)


def own_studies():
    """Every study of the project can be read, and every row that it has is one of its runs, or counts their bytes."""
    names = sorted(path.stem for path in (ROOT / "research" / "studies").glob("*.yaml"))
    assert {"simple", "figure3", "table1", "mask-width"} <= set(names), names
    for name in names:
        told = last_object(run("study", name, "list", "--json"))
        assert told["study"] == name, told


# ---- runs ----

def killed(study):
    """The runner is killed in the first run, which ends with it; what was reached is not lost."""
    process = Process("study", study, "run", "--runs", "runs-a")
    end = time.monotonic() + LIMIT
    while True:
        found = list(pathlib.Path("runs-a").glob("*/metrics.jsonl"))
        if found and found[0].read_text().count("\n") >= 1 and (found[0].parent / "checkpoint.safetensors").exists():
            break
        assert process.child.poll() is None and time.monotonic() < end, process.lines
        time.sleep(0.01)
    process.kill()
    assert not os.path.exists("tiny.csv")
    return found[0].parent


def wait_for_the_orphan():
    """The killed runner's run has been told to end; its lock is free when it has."""
    end = time.monotonic() + LIMIT
    while subprocess.run(["flock", "--nonblock", str(next(pathlib.Path("runs-a").glob("*.lock"))), "true"]).returncode:
        assert time.monotonic() < end
        time.sleep(0.05)


def goes_on(study):
    """Killed, moved, stopped by a signal: all rows are there in the end, and are those of a study that never stopped."""
    folder = killed(study)
    wait_for_the_orphan()
    shutil.move("runs-a", "runs-b")  # as if to another machine
    process = Process("study", study, "run", "--runs", "runs-b")
    process.wait_for(r"begin \[1/\d\] .*, after epoch [12]")
    process.wait_for(r"done \[1/")
    process.interrupt()
    process.finish(code=1)
    assert any("the same command goes on" in line for line in process.lines), process.lines
    told = last_object(run("study", study, "run", "--runs", "runs-b", "--json"))
    assert told["made"] == told["of"] > 0 and not told["stopped"], told
    metrics = (pathlib.Path("runs-b") / folder.name / "metrics.jsonl").read_text()
    assert metrics.count("\n") == 3, metrics
    run("study", study, "run", "--runs", "runs-c", "--results", "whole", "--quiet")
    for ours, whole in zip(rows("tiny.csv"), rows("whole/tiny.csv"), strict=True):
        for column in ours:
            if "seconds" not in column:
                assert ours[column] == whole[column], (column, ours, whole)


def what_a_row_records(study):
    found = rows("tiny.csv")
    assert [r["uplink"] for r in found] == ["-", "ec:err=0.25", "ms:r=0.99,b=2", "ms:r=0.99,b=2,entropy=ctx", "none"]
    for row in found:
        assert row["precision"] == "fp32" and row["commit"] and row["payload_version"].isdigit() and row["machine"]
        assert len(row["curve_test_accuracy"].split()) == int(row["epochs"]), row
        assert (row["codec_probe"] != "") == ("ec" in row["uplink"] or "ctx" in row["uplink"]), row
    epochs = {row["uplink"]: row["epochs"] for row in found}
    assert epochs["none"] == epochs["ms:r=0.99,b=2"] == "1" and epochs["-"] == "3", epochs
    text = run("study", study, "list")
    assert "equal (unsplit, to the bit)" in text and "equal (entropy=ctx, to the bit)" in text, text
    before = os.stat("tiny.csv").st_mtime_ns
    assert last_object(run("study", study, "run", "--runs", "runs-b", "--json"))["of"] == 0
    assert os.stat("tiny.csv").st_mtime_ns == before, "a study that is done makes no run"


def stale_rows(study):
    """Rows of ec and of masks coded in context are stale when the codec is another; plain ones are not."""
    text = pathlib.Path("tiny.csv").read_text()
    probes = {row["codec_probe"] for row in rows("tiny.csv")} - {""}
    for probe in probes:
        text = text.replace(probe, "00000000")
    write("tiny.csv", text)
    listed = run("study", study, "list")
    stale = [line for line in listed.splitlines() if line.endswith(": stale")]
    assert len(stale) == 2 and all("ec:err" in line or "entropy=ctx" in line for line in stale), listed
    assert last_object(run("study", study, "list", "--json"))["stale"] == 2
    assert last_object(run("study", study, "run", "--json"))["of"] == 0
    assert "of an older codec" in run("study", study, "show")
    told = last_object(run("study", study, "run", "--stale", "--only", "uplink=ec:err=0.25", "--runs", "runs-b", "--json"))
    assert told["made"] == told["of"] == 1, told
    assert last_object(run("study", study, "list", "--json"))["stale"] == 1


def equality_is_proved(study):
    """With `prove` what is known is made all the same; a proof that fails is an error."""
    run("study", write("tiny.yaml", TINY % "yes"), "run", "--runs", "runs-d", "--results", "proved", "--quiet")
    text = run("study", study, "show", "--results", "proved")
    assert text.count("Made in full all the same") == 2 and "NOT SO" not in text, text
    lines = pathlib.Path("proved/tiny.csv").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if ",shallow,none,none,none," in line)
    row = dict(zip(lines[0].split(","), next(csv.reader([lines[at]]))))
    lines[at] = lines[at].replace(row["train_loss"], "0.5")
    write("proved/tiny.csv", "\n".join(lines) + "\n")
    done = subprocess.run([CUTWIRE, "study", study, "show", "--results", "proved"], capture_output=True, text=True)
    assert done.returncode == 1 and "equal to the bit" in done.stderr, done
    check_error(["show"], done.stderr)


def choices(study):
    """--seeds, --only, --limit and --hours."""
    listed = run("study", study, "list", "--seeds", "4,5", "--only", "unsplit")
    assert listed.count(": to do") == 2 and "seed 4" in listed and "seed 5" in listed, listed
    listed = run("study", study, "list", "--only", "cut=shallow !ec: !entropy=ctx")
    assert "none" in listed and "ms:r=0.99,b=2" in listed and "ec:" not in listed and "ctx, seed" not in listed, listed
    listed = run("study", study, "list", "--only", "uplink=ms")  # a codec by its name, whatever its settings
    assert listed.count("shallow, ms:") == 2 and "unsplit, seed" not in listed and "ec:" not in listed, listed
    for words, said in (("uplink=mz", "uplink is - or none or ms:r=0.99,b=2"), ("nowhere", "what `list` prints"),
                        ("unsplit cut=shallow", "at once")):
        told = run("study", study, "list", "--only", words, code=2)
        assert "--only: nothing in the study fits" in told and said in told, told
    told = last_object(run("study", study, "run", "--seeds", "7", "--limit", "1", "--json", "--results", "limited"))
    assert told["made"] == told["of"] == 1
    told = last_object(run("study", study, "run", "--seeds", "8", "--hours", "0.00001", "--json", "--results", "limited"))
    assert told["stopped"] and told["made"] == 0, told


def failing():
    """A study whose runs all fail ends after a few, with their words."""
    write("failing.yaml", (TINY % "no").replace("model: cnn", "model: cnm"))
    process = Process("study", "failing.yaml", "run")
    process.finish(code=1)
    assert sum(line.startswith("failed: ") for line in process.lines) == 3, process.lines
    assert "3 of 5 runs failed" in process.lines[-1] and "known are" in "".join(process.lines), process.lines


def two_at_once(study):
    """Two runners share a folder: each run is made by one of them."""
    both = [Process("study", study, "run", "--results", "both", "--runs", "runs-e", "--jobs", "2") for _ in range(2)]
    for process in both:
        process.finish()
    assert len(rows("both/tiny.csv")) == 5
    begun = [line for process in both for line in process.lines if line.startswith("begin")]
    assert len(begun) == 5, begun


# ---- show ----

def shown(study):
    text = run("study", study, "show")
    assert re.search(r"\| shallow \| `none` \| [\d.]+ \(one seed\) \| \+0\.00 \|", text), text
    assert "equal to unsplit to the bit: not run twice" in text and "precision of the engine: fp32" in text.lower(), text
    page = pathlib.Path("tiny.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "data:image/png;base64," in page and "--uplink" in page
    assert "http" not in page and "src=\"/" not in page, "the page needs nothing else"
    assert pathlib.Path("tiny.png").read_bytes().startswith(b"\x89PNG") and pathlib.Path("tiny" + ".md").read_text() in text
    told = last_object(run("study", study, "show", "--json"))
    assert [group["run"]["uplink"] for group in told["groups"]][0] == "-" and len(told["files"]) == 3, told
    ms = next(g for g in told["groups"] if g["run"]["uplink"] == "ms:r=0.99,b=2")
    none = next(g for g in told["groups"] if g["run"]["uplink"] == "none")
    assert 12 < none["uplink_bytes"] / ms["uplink_bytes"] < 13.8, (none, ms)
    part = run("study", study, "show", "--only", "uplink=none")
    assert "| `none` |" in part and "| unsplit |" not in part and "`ms" not in part and "No file is written" in part, part
    assert pathlib.Path("tiny" + ".md").read_text() in text


def without(package, *args):
    """Runs the command where Python does not find a module."""
    os.makedirs(f"no-{package}", exist_ok=True)
    write(f"no-{package}/{package}.py", "raise ImportError('hidden')\n")
    return subprocess.run([CUTWIRE, *args], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": f"no-{package}"})


def missing_packages(study):
    done = without("yaml", "study", study, "list")
    assert done.returncode == 1 and "apt-get install python3-yaml" in done.stderr, done
    check_error(["list"], done.stderr)
    done = without("matplotlib", "study", study, "show")
    assert done.returncode == 0 and "python3-matplotlib" in done.stderr and "| shallow |" in done.stdout, done
    assert without("numpy", "study", study, "list").returncode == 0


def traffic():
    """The view of the paper's Table 1: an accuracy that is reached at once, and one that is never reached."""
    text = TINY % "no"
    easy = write("tiny.yaml", text.replace("views: [{points: {}}]", "views: [{traffic: {share: 0.1}}]"))
    told = run("study", easy, "show")
    assert re.search(r"\| `ms:r=0.99,b=2` \| [\d.]+ \| 1 of 1 \| 1[23]\.\d\d \| \d\.\d\d \|", told), told
    hard = write("tiny.yaml", text.replace("views: [{points: {}}]", "views: [{traffic: {share: 1.5}}]"))
    assert "0 of 1" in run("study", hard, "show")
    # A longer unsplit run, which would set an accuracy that three epochs never reach, is another comparison.
    longer = text.replace("views: [{points: {}}]", "views: [{traffic: {share: 0.1}}]").replace(
        "runs:\n", "runs:\n  - mode: unsplit\n    epochs: 9\n")
    found = rows("tiny.csv")
    of_nine = next(row for row in found if row["cut"] == "-") | {"epochs": "9", "test_accuracy": "9.9"}
    with open("tiny.csv", "a", newline="") as file:
        csv.DictWriter(file, found[0].keys(), lineterminator="\n").writerow(of_nine)
    told = run("study", write("tiny.yaml", longer), "show")
    assert "990.00" in told and re.search(r"\| 3 \| shallow \| `ms:r=0.99,b=2` \| [\d.]+ \| 1 of 1 \|", told), told


def measured():
    """Studies that measure without training: measured once, goes on, shown."""
    own = ["--quick", "--results", "measured", "--runs", "runs-m"]
    some = [*own, "--only", "distribution=uniform bits=4 !rt"]
    told = last_object(run("study", "distributions", "run", *some, "--limit", "2", "--json"))
    assert told["made"] == told["of"] == 2, told
    told = last_object(run("study", "distributions", "run", *some, "--json"))
    assert told["made"] == 5, told  # ms with b = 1..4, qu, sp and ec, less the two
    assert last_object(run("study", "distributions", "run", *some, "--json"))["of"] == 0
    found = {row["codec"]: float(row["relative_error"]) for row in rows("measured/distributions-quick.csv")}
    # Of uniform numbers in 0..1, whose root mean square is 1/sqrt(3), a step of 1/15 leaves 1/15/sqrt(12).
    assert abs(found["qu:b=4"] - 3**0.5 / 15 / 12**0.5) < 1e-3, found
    text = run("study", "distributions", "show", *own)
    assert "| uniform | 0.0000 | 1.799 |" in text and "are kept in all cases" in text and "not yet measured" in text, text
    assert ": done" in run("study", "distributions", "list", *some)


def lemma():
    """The gradient's error goes to 0 with the codec's."""
    options = ["--quick", "--results", "measured", "--runs", "runs-m", "--only", "ms"]
    run("study", "theory", "run", *options, "--quiet")
    found = {row["codec"]: row for row in rows("measured/theory-quick.csv")}
    wide, narrow = found["ms:r=0.99,b=7"], found["ms:r=0.99,b=1"]
    for column in ("codec_error", "client_gradient_error", "server_gradient_error"):
        assert 0 < float(wide[column]) < 0.2 * float(narrow[column]), found
    assert "Lemma 2" in run("study", "theory", "show", *options)


def repro():
    listed = run("repro", "list")
    for name in ("figure1", "figure2", "figure3", "table1", "theorem1", "lemma2", "theorem4"):
        assert f"  {name} " in listed, listed
    assert "usage: cutwire repro table1" in run("repro", "table1", "--help")


def installed():
    """The runner is found beside an installed program, wherever its prefix lies."""
    os.makedirs("prefix/bin")
    os.makedirs("prefix/share/cutwire")
    shutil.copy(CUTWIRE, "prefix/bin/cutwire")
    shutil.copytree(ROOT / "research", "prefix/share/cutwire/research")
    done = subprocess.run(["prefix/bin/cutwire", "study", "simple", "list", "--json"], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["csv"].startswith(os.path.abspath("prefix")), done


skip_without_fashion()
signal.signal(signal.SIGINT, signal.default_int_handler)
with Folder():
    broken_files()
    own_studies()
    repro()
    installed()
    measured()
    lemma()
    STUDY = write("tiny.yaml", TINY % "no")
    goes_on(STUDY)
    what_a_row_records(STUDY)
    shown(STUDY)
    missing_packages(STUDY)
    choices(STUDY)
    failing()
    two_at_once(STUDY)
    traffic()
    write("tiny.yaml", TINY % "no")
    equality_is_proved(STUDY)
    write("tiny.yaml", TINY % "no")
    stale_rows(STUDY)
print("studies go on where they were")
