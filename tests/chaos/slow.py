#!/usr/bin/python3
"""One device of three that is slow or away: how the others fare, by default and with --step-deadline.

    slow.py PATH/TO/cutwire [--seconds 20]

For so many seconds one client is stopped, has a tenth of a processor, or a link of 50 bytes a second. Counted are the
steps of the run meanwhile, and the longest time without one.
"""
import argparse
import os
import signal
import tempfile
import time

from parts import Run, skip_without_data

KEYS = ["--epochs", "100", "--eval-every", "100", "--log-format", "json", "--log-level", "debug"]
WAYS = {"default": [], "--step-deadline 1 --quorum 2": ["--step-deadline", "1", "--quorum", "2"]}


def nothing(run, seconds):
    time.sleep(seconds)


def stopped(run, seconds):
    run.stop_for(run.clients[2], seconds)


def tenth(run, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run.stop_for(run.clients[2], 0.9)
        time.sleep(0.1)


def trickle(run, seconds):
    run.links[2].last, run.links[2].rate = time.monotonic(), 50
    time.sleep(seconds)


FAULTS = {"nobody is slow": nothing, "one is stopped": stopped, "one has a tenth of a processor": tenth,
          "one sends 50 bytes a second": trickle}


def play(name, way, seconds):
    run = Run(f"{name}-{len(WAYS[way])}".replace(" ", "-"), 3, KEYS + WAYS[way])
    try:
        run.checkpoint()
        began = time.monotonic()
        FAULTS[name](run, seconds)
        ended = time.monotonic()
        at = [began] + [t for t, e in run.server.events() if e["event"] == "step" and began < t < ended] + [ended]
        late = run.server.says("is late: [0-9]+")
        return len(at) - 2, max(b - a for a, b in zip(at, at[1:])), bool(late)
    finally:
        run.clients[2].child.send_signal(signal.SIGCONT)
        run.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cutwire")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    skip_without_data()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in FAULTS:
            for way in WAYS:
                steps, longest, late = play(name, way, options.seconds)
                print(f"{name:32} {way:28} {steps:5} steps, longest wait {longest:5.1f} s{', named as late' if late else ''}", flush=True)
        os.chdir("/")


main()
