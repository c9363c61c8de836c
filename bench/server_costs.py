#!/usr/bin/python3
"""Processor time of a server that trains, per step: with a live page that somebody follows, and under attacks.

    bench/server_costs.py build/cutwire [--rounds 3] [--case NAME ...]
    bench/server_costs.py build/cutwire --turns [--rounds 3] [--case NAME ...]
    bench/server_costs.py build/cutwire --second [--keys] [--turn 10] [--rounds 5] [--case NAME ...]

Two runs alike go at the same time, each a server and two clients (`cnn`, cut 2, batch 64, all else at its default); one
of them has the case, from the beginning. Counted is the processor time of the server's process from the third epoch on:
by then an attacker has used up what it is let have at once (src/net/accept_limit.h). Shown are the median over the rounds
and the median of the ratios within rounds, as both are disturbed alike by whatever else the machine does. Of an attack
the rate is shown, what one of its connections costs the server, and how many came before the measurement.

With --turns: one server that trains with two clients, batch 128. Twenty seconds without the case and with it take turns.
Shown is the processor time a step, and apart from it the processor time a second of all threads but the one that trains,
which is what a case costs however fast steps are.

With --second: what a case costs a second, whatever a step costs. The clients are stopped, so that the server waits for
them. Some seconds (--turn) without the case and with it take turns, after the attacker has used up what it is let have at once.
"""
import argparse
import os
import pathlib
import resource
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "chaos"))
import parts  # noqa: E402

EPOCHS, STEPS = 6, 8  # of an epoch
KEYS = ["--epochs", str(EPOCHS), "--eval-every", str(EPOCHS), "--batch", "64", "--train-limit", str(2 * 64 * STEPS), "--checkpoint-steps", "0",
        "--log-format", "json"]


def processor_seconds(pid):
    """Of all its threads, to the nanosecond: clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


# ---- cases: each works until `stop` is set, and counts its connections ----

class Case:
    def __init__(self, run, stop):
        self.run, self.stop, self.count, self.open = run, stop, 0, []

    def connect(self, timeout=5):
        """From an address of its own."""
        s = socket.create_connection(("127.0.0.1", self.run.port), timeout=timeout, source_address=("127.0.0.9", 0))
        self.count += 1
        return s

    def again_and_again(self, words, stays=0):
        for _ in range(4):
            threading.Thread(target=self.knock, args=(words, stays), daemon=True).start()

    def knock(self, words, stays):
        while not self.stop.is_set():
            try:
                with self.connect(0.5) as s:
                    if words:
                        s.sendall(words)
                    if stays:  # until the server has had its say
                        s.settimeout(stays)
                        s.recv(1 << 16)
            except OSError:
                pass

    def page(self):
        """Somebody follows the page's events."""
        port = int(self.run.server.says(r"the page is at http://127.0.0.1:(\d+)/").group(1))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not self.stop.is_set():
                self.count += s.recv(1 << 20).count(b"\ndata: ")

    def flood(self):
        self.again_and_again(os.urandom(500))

    def scan(self):
        self.again_and_again(b"")

    def half(self):
        """A greeting as ZeroMQ's, and then no more."""
        self.again_and_again(self.greeting(), 0.5)

    def greeting(self):
        return b"\xff" + bytes(8) + b"\x7f\x03\x00" + (b"CURVE" if self.run.client_keys else b"NULL\0") + bytes(47)

    def replays(self):
        self.again_and_again(self.run.links[0].heard, 0.5)

    def idle(self):
        for _ in range(2000):
            try:
                self.open.append(self.connect())
            except OSError:
                pass
        self.stop.wait()

    def loris(self):
        """200 connections, or as many as there may be, that say what a client said, each a byte a second: the greeting and
        the handshake at once by half of them, so that the frames behind come a byte a second, too."""
        self.trickle(200, self.run.links[0].heard, self.handshake())

    def handshake(self):
        """How much a client says before its first frame: the greeting, and READY of ZeroMQ's NULL mechanism."""
        heard = self.run.links[0].heard
        return 64 if self.run.client_keys else 64 + 2 + heard[65]

    def trickle(self, count, words, begun):
        said = {}
        while not self.stop.wait(1):
            while len(said) < count:
                try:
                    s = self.connect(0.2)
                except OSError:
                    break
                said[s] = begun if self.count % 2 else 0
                s.sendall(words[:said[s]])
            for s in list(said):
                try:
                    s.sendall(words[said[s]:][:1] or b"x")
                    said[s] += 1
                except OSError:
                    s.close()
                    del said[s]
        for s in said:
            s.close()

    def work(self):
        pass

    def nothing(self):
        self.stop.wait()


CASES = {"nothing": "nothing", "page": "--http, one who follows", "idle": "2,000 idle connections", "loris": "slow loris, 200",
         "scan": "scan", "flood": "flood of noise", "half": "half handshakes", "replays": "replays"}


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


# ---- with a case and without, in turns, while it trains ----

def thread_seconds(pid):
    """Processor seconds of the thread that trains, and of all others."""
    of = {int(t): int((pathlib.Path("/proc") / str(pid) / "task" / t / "schedstat").read_text().split()[0]) / 1e9
          for t in os.listdir(f"/proc/{pid}/task")}
    return of[pid], sum(of.values()) - of[pid]


def stretch(run, name, seconds=20):
    """(processor milliseconds a step, those of the other threads a second, steps)"""
    case = Case(run, threading.Event())
    threading.Thread(target=getattr(case, name), daemon=True).start()
    time.sleep(3)
    pid = run.server.child.pid
    run.server.wait_for_next('"event":"step"')
    (main, others), began = thread_seconds(pid), time.monotonic()
    first, end = len(run.server.lines), began + seconds
    while time.monotonic() < end:
        run.server.wait_for_next('"event":"step"')
    steps = sum('"event":"step"' in line for _, line in run.server.lines[first:])
    (main_now, others_now), took = thread_seconds(pid), time.monotonic() - began
    case.stop.set()
    time.sleep(1)
    return 1e3 * (main_now - main + others_now - others) / steps, 1e3 * (others_now - others) / took, steps


def by_turns(names, rounds):
    keys = ["--epochs", "1000", "--eval-every", "1000", "--batch", "128", "--train-limit", "10240", "--checkpoint-steps", "0",
            "--log-format", "json", "--log-level", "debug", "--http", "127.0.0.1:*"]
    with tempfile.TemporaryDirectory() as folder:
        run = parts.Run(os.path.join(folder, "run"), keys=keys)
        try:
            run.server.wait_for('"event":"step"', 120)
            if set(names) - {"nothing", "page", "idle"}:
                spend_burst(run)
            for name in names:
                rows = [(stretch(run, "nothing"), stretch(run, name)) for _ in range(rounds)]
                plain, with_it = ([statistics.median(r[i][j] for r in rows) for j in range(3)] for i in range(2))
                more = statistics.median(r[1][1] - r[0][1] for r in rows)
                print(f"{CASES[name]:26} {plain[0]:7.1f} ms a step, with it {with_it[0]:7.1f}, ratio "
                      f"{statistics.median(r[1][0] / r[0][0] for r in rows):.3f}; other threads {plain[1]:.2f} ms a second, "
                      f"with it {with_it[1]:.2f}, more {more:.2f}; {plain[2]} and {with_it[2]} steps", flush=True)
        finally:
            run.end()


# ---- what a case costs a second ----

BURST, RATE = 4096, 1  # connections of an address at once, and then a second (src/net/zmq_gate.c, accept_limit.h)


def make_keys(folder):
    """Options of a server and of its clients."""
    for name in ("server", "client"):
        parts.subprocess.run([parts.CUTWIRE, "keygen", os.path.join(folder, name)], check=True, capture_output=True)
    at = os.path.join(folder, "")
    return (["--key", f"{at}server", "--client-keys", f"{at}client.pub"],
            ["--key", f"{at}client", "--server-key", f"{at}server.pub"])


def spend_burst(run):
    """Until the server listens to the attacker now and then only, and does so for the first time. Who has left before the
    server looks is not counted, so all of them stay for a moment."""
    case = Case(run, threading.Event())
    began, refused = time.monotonic(), 0
    while case.count < BURST or refused < 20:
        assert time.monotonic() < began + 300, f"after {case.count} connections the server still listens"
        some = []
        try:
            for _ in range(100 if case.count < BURST - 200 else 5):
                some.append(case.connect(0.2))
        except OSError:
            refused += 1
        time.sleep(0.1)
        for s in some:
            s.close()
    wait_for_ear(case, began + 300)


def wait_for_ear(case, end):
    while time.monotonic() < end:
        try:
            case.connect(1.5).close()
            return
        except OSError:
            pass
    raise AssertionError("the server never listens again")


def turn(run, name, seconds):
    """Processor seconds a second, and connections a second."""
    case = Case(run, threading.Event())
    threading.Thread(target=getattr(case, name), daemon=True).start()
    time.sleep(5)
    before, count, began = processor_seconds(run.server.child.pid), case.count, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    rates = (processor_seconds(run.server.child.pid) - before) / took, (case.count - count) / took
    case.stop.set()
    time.sleep(1)
    return rates


def show_second(name, rows):
    """(without, with, connections a second), turn by turn."""
    plain, with_it, rate = (1e3 * statistics.median(r[i] for r in rows) for i in range(3))
    more = sorted(1e3 * (r[1] - r[0]) for r in rows)
    print(f"{CASES[name]:26} {plain:6.2f} ms a second, with it {with_it:6.2f}, more {statistics.median(more):6.2f} "
          f"({more[0]:.2f} to {more[-1]:.2f}); {rate / 1e3:.1f} connections a second", flush=True)


def a_second(names, rounds, with_keys, seconds):
    with tempfile.TemporaryDirectory() as folder:
        server, client = make_keys(folder) if with_keys else ([], [])
        run = parts.Run(os.path.join(folder, "run"), 1, [*KEYS, "--timeout", "3600", "--grace", "3600", "--http", "127.0.0.1:*", *server],
                        client)
        try:
            run.server.wait_for(r'"event":"epoch".*"epoch":1,', 300)
            run.clients[0].child.send_signal(signal.SIGSTOP)
            time.sleep(8)  # its connection counts as broken after six
            if set(names) - {"nothing", "page", "idle"}:
                spend_burst(run)
            for name in names:
                rows = []
                for _ in range(rounds):
                    plain, _ = turn(run, "nothing", seconds)
                    rows.append((plain, *turn(run, name, seconds)))
                show_second(name, rows)
        finally:
            run.clients[0].child.send_signal(signal.SIGCONT)
            run.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cutwire")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--second", action="store_true")
    parser.add_argument("--turns", action="store_true")
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--turn", type=float, default=10, help="seconds of a turn of --second")
    options = parser.parse_args()
    parts.skip_without_data()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    if options.turns:
        by_turns(options.case or list(CASES), options.rounds)
    elif options.second:
        a_second(options.case or [name for name in CASES if name != "idle"], options.rounds, options.keys, options.turn)
    for name in () if options.second or options.turns else options.case or CASES:
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
