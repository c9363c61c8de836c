#!/usr/bin/python3
"""Seconds a step of split training (mode sync), beside an earlier commit: the two in turns, medians.

    bench/step_time.py [--commit 9c45fe7] [--rounds 9] [--steps 40] [--limit 0.01] [SETTING=VALUE ...]

Builds the commit in build/step-time, runs both programs one after the other, each with one thread and in one process,
and prints for wall and processor time the median over the rounds, and the median of the ratios within rounds. Exit 1
when the ratio of processor times is above 1 + LIMIT: wall time means little on a machine that does other work.
Processor time of a step is that of a run less that of a run of one step, over the steps between.
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 64
# Fixed, as defaults may have changed since; no codec, so that engine, protocol and conversation are all that counts.
SETTINGS = {"data": "fashion-mnist", "model": "cnn", "cut": "2", "uplink": "none", "downlink": "none", "update": "none",
            "mask-gradient": "0", "batch": str(BATCH), "epochs": "1", "test-limit": "64", "threads": "1",
            "loader-threads": "0", "precision": "fp32"}


def build(commit):
    """The program of that commit."""
    folder = ROOT / "build" / "step-time" / commit
    program = folder / "build" / "cutwire"
    if program.exists():
        return program
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    subprocess.run(["cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    "-DBUILD_TESTING=OFF", "-DCUTWIRE_WERROR=OFF"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder / "build", "cutwire"], check=True, stdout=subprocess.DEVNULL)
    return program


def run(program, settings, steps):
    """(wall seconds of the training, processor seconds of the whole run)"""
    with tempfile.TemporaryDirectory() as out:
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([program, "train", "--split", "--quiet", "--json", *options, "--train-limit",
                               str(steps * BATCH), "--out", out + "/run"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False,
                              env=os.environ | {"OMP_WAIT_POLICY": "passive"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"step_time: {program}: {done.stderr.strip()}")
        with open(out + "/run/metrics.jsonl", encoding="utf-8") as f:
            wall = json.loads(f.readlines()[-1])["train_seconds"]
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def step_of(program, settings, steps):
    """(wall, processor) seconds of a step"""
    (wall, cpu), (wall_one, cpu_one) = run(program, settings, steps), run(program, settings, 1)
    return (wall - wall_one) / (steps - 1), (cpu - cpu_one) / (steps - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="9c45fe7")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--limit", type=float, default=0.01)
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    asked = parser.parse_args()
    settings = SETTINGS | dict(word.split("=", 1) for word in asked.settings)
    programs = {asked.commit: build(asked.commit), "now": ROOT / "build" / "cutwire"}
    found = {name: [] for name in programs}
    for i in range(asked.rounds):
        for name in list(programs)[::-1 if i % 2 else 1]:  # who is first changes
            found[name].append(step_of(programs[name], settings, asked.steps))
    print(f"{asked.rounds} rounds of {asked.steps} steps; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for kind, what in enumerate(("wall", "processor")):
        times = {name: [row[kind] for row in rows] for name, rows in found.items()}
        ratio = statistics.median(now / then for then, now in zip(times[asked.commit], times["now"]))
        medians = ", ".join(f"{name} {1e3 * statistics.median(values):.2f} ms" for name, values in times.items())
        print(f"{what:9} time a step: {medians}; ratio {ratio:.4f}")
    sys.exit(ratio > 1 + asked.limit)


if __name__ == "__main__":
    main()
