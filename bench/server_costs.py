#!/usr/bin/python3
"""Processor time of a server that trains, per step: with a live page that somebody follows, and under attacks.

    bench/server_costs.py build/cutwire [--rounds 3] [--case NAME ...]

Two runs alike go at the same time, each a server and two clients (`cnn`, cut 2, batch 64, all else at its default); one
of them has the case, from the beginning. Counted is the processor time of the server's process from the third epoch on:
by then an attacker has used up what it is let have at once (src/net/accept_limit.h). Shown are the median over the rounds
and the median of the ratios within rounds, as both are disturbed alike by whatever else the machine does. Of an attack
the rate is shown, what one of its connections costs the server, and how many came before the measurement.
"""
import argparse
import os
import pathlib
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "chaos"))
import parts  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
EPOCHS, STEPS = 6, 8  # of an epoch
KEYS = ["--epochs", str(EPOCHS), "--eval-every", str(EPOCHS), "--batch", "64", "--train-limit", str(2 * 64 * STEPS), "--checkpoint-steps", "0",
        "--log-format", "json"]


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# ---- cases: each works until `stop` is set, and counts its connections ----

class Case:
    def __init__(self, run, stop):
        self.run, self.stop, self.count, self.open = run, stop, 0, []

    def connect(self, timeout=5):
        """From an address of its own."""
        s = socket.create_connection(("127.0.0.1", self.run.port), timeout=timeout, source_address=("127.0.0.9", 0))
        self.count += 1
        return s

    def again_and_again(self, words):
        for _ in range(4):
            threading.Thread(target=self.knock, args=(words,), daemon=True).start()

    def knock(self, words):
        while not self.stop.is_set():
            try:
                with self.connect(0.5) as s:
                    if words:
                        s.sendall(words)
            except OSError:
                pass

    def page(self):
        """Somebody follows the page's events."""
        port = int(self.run.server.says(r"the page is at http://127.0.0.1:(\d+)/").group(1))
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not self.stop.is_set():
                self.count += s.recv(1 << 20).count(b"\ndata: ")

    def flood(self):
        self.again_and_again(os.urandom(500))

    def scan(self):
        self.again_and_again(b"")

    def replays(self):
        self.again_and_again(self.run.links[0].heard)

    def idle(self):
        for _ in range(2000):
            try:
                self.open.append(self.connect())
            except OSError:
                pass
        self.stop.wait()

    def loris(self):
        """200 connections that say hello, a byte a second."""
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        for _ in range(200):
            try:
                self.open.append(self.connect())
            except OSError:
                pass
        for i in range(10 ** 6):
            for s in self.open:
                try:
                    s.sendall(greeting[i % len(greeting):][:1])
                except OSError:
                    pass
            if self.stop.wait(1):
                return

    def work(self):
        pass

    def nothing(self):
        self.stop.wait()


CASES = {"nothing": "nothing", "page": "--http, one who follows", "idle": "2,000 idle connections", "loris": "slow loris, 200",
         "scan": "scan", "flood": "flood of noise", "replays": "replays"}


def play(name, folder, order):
    """(processor seconds a step without, with, connections a second, seconds of the server's time a connection)"""
    runs = {}
    for kind in order:
        more = ["--http", "127.0.0.1:*"] if kind == "case" and name == "page" else []
        runs[kind] = parts.Run(os.path.join(folder, kind), keys=KEYS + more)
    stop, result, seconds, first = threading.Event(), {}, {}, []
    case = Case(runs["case"], stop)

    def measure(kind):
        server = runs[kind].server
        if kind == "case":
            threading.Thread(target=getattr(case, name), daemon=True).start()
        server.wait_for(r'"event":"epoch".*"epoch":2,', 300)
        if kind == "case":
            first.append(case.count)
        before, began = processor_seconds(server.child.pid), time.monotonic()
        server.wait_for(rf'"event":"epoch".*"epoch":{EPOCHS - 1},', 300)
        result[kind] = (processor_seconds(server.child.pid) - before) / (STEPS * (EPOCHS - 3))
        seconds[kind] = time.monotonic() - began

    try:
        threads = [threading.Thread(target=measure, args=(kind,)) for kind in order]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        stop.set()
        for run in runs.values():
            run.end()
        for s in case.open:
            s.close()
    rate = (case.count - first[0]) / seconds["case"]
    return result["plain"], result["case"], rate, seconds["case"] / (STEPS * (EPOCHS - 3)), first[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cutwire")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=list(CASES))
    options = parser.parse_args()
    parts.skip_without_data()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    for name in options.case or CASES:
        rows = []
        for n in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(play(name, folder, ["plain", "case"][:: 1 if n % 2 else -1]))
        plain, with_it, rate, step, first = (statistics.median(r[i] for r in rows) for i in range(5))
        ratio = statistics.median(r[1] / r[0] for r in rows)
        each = statistics.median((r[1] - r[0]) / r[3] / r[2] if r[2] else 0 for r in rows)
        print(f"{CASES[name]:26} {1e3 * plain:7.1f} ms a step, with it {1e3 * with_it:7.1f}, ratio {ratio:.3f} "
              f"({min(r[1] / r[0] for r in rows):.3f} to {max(r[1] / r[0] for r in rows):.3f}); {rate:.1f} a second, "
              f"{1e6 * each:.0f} us each, {first} before, a step took {step:.2f} s", flush=True)


main()
