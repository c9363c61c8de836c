#!/usr/bin/python3
"""Accuracy, bytes and seconds a step over thin links, for batches in 1, 2 and 4 micro-batches (--in-flight).

    research/thin_link.py run [--quick] [--only MBIT/DELAY] [--steps N] [--csv FILE]    makes what is missing in the CSV
    research/thin_link.py show [--csv FILE]                                             the table

As root: server and client are processes in network namespaces of their own, joined by a pair of virtual interfaces with
a token bucket (tc tbf) at each end. A proxy beside the client delays what passes. One engine thread and, where there are
two, one processor each. Runs that are in the CSV already are not made again, so that it may be stopped at any time.

What a step should take at most, `bound`: 1.15 times (the largest of client, server, uplink and downlink, each alone, +
two round trips + one micro-batch through the other three). Client and server alone are their processor time a step, at
one micro-batch, on loopback; uplink and downlink are the bytes of a step over the rate. The start of the run is left
out: each figure is of a long run less a short one.
"""
import argparse
import asyncio
import csv
import datetime
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUTWIRE = ROOT / "build" / "cutwire"
BATCH, SHORT = 64, 2
COLUMNS = ["model", "steps", "in_flight", "mbit", "delay_ms", "accuracy", "up_bytes", "down_bytes", "seconds", "client",
           "server", "bound", "load", "commit", "date"]
KEY = COLUMNS[:5]
SERVER, CLIENT = "10.213.7.1", "10.213.7.2"
PORT, PROXY_PORT = 5599, 5598
MOST_SECONDS = 900  # of one run: whatever hangs ends


def sh(*words):
    subprocess.run(words, check=True)


class Link:
    """Two namespaces and what joins them; None as the rate: the loopback of one namespace."""

    def __init__(self, mbit):
        self.mbit, self.names = mbit, [f"cw-server-{os.getpid()}", f"cw-client-{os.getpid()}"]

    def __enter__(self):
        try:
            for name in self.names:
                sh("ip", "netns", "add", name)
                sh("ip", "-n", name, "link", "set", "lo", "up")
            a, b = self.names
            sh("ip", "link", "add", "cwv0", "netns", a, "type", "veth", "peer", "name", "cwv1", "netns", b)
            for name, device, address in ((a, "cwv0", SERVER), (b, "cwv1", CLIENT)):
                sh("ip", "-n", name, "address", "add", address + "/30", "dev", device)
                sh("ip", "-n", name, "link", "set", device, "up")
                # A bucket of 10 ms, or of two packets where that is less; a queue of half a second.
                bucket = max(3100, int(self.mbit * 1e6 / 8 * 0.01))
                sh("tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{self.mbit}mbit", "burst",
                   str(bucket), "latency", "500ms")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)


# ---- the proxy: a process in the client's namespace ----

async def pass_on(reader, writer, delay):
    """What has come is written `delay` seconds later, however much is on its way."""
    waiting = asyncio.Queue()

    async def write():
        while (item := await waiting.get()) is not None:
            due, data = item
            await asyncio.sleep(max(0, due - time.monotonic()))
            writer.write(data)
            await writer.drain()
        writer.close()

    task = asyncio.create_task(write())
    try:
        while data := await reader.read(65536):
            waiting.put_nowait((time.monotonic() + delay, data))
    except ConnectionError:
        pass
    waiting.put_nowait(None)
    await asyncio.gather(task, return_exceptions=True)


async def proxy(delay):
    async def connected(reader, writer):
        there, back = await asyncio.open_connection(SERVER, PORT)
        await asyncio.gather(pass_on(reader, back, delay), pass_on(there, writer, delay), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", PROXY_PORT)
    print("ready", flush=True)
    await server.serve_forever()


# ---- runs ----

def start(namespace, processor, *words, **more):
    pinned = ["taskset", "-c", str(processor % os.cpu_count())]
    return subprocess.Popen(["ip", "netns", "exec", namespace, *pinned, *map(str, words)], **more)


def ended(process, limit):
    """Processor seconds of a process that ends in time."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        time.sleep(0.05)
    process.kill()
    process.wait()
    sys.exit(f"thin_link: {process.args[6:9]} did not end within {limit} s")


def train(link, delay_ms, in_flight, model, steps, tested, more=()):
    """(seconds of training, bytes up, bytes down, accuracy, processor seconds of client, of server); `more`: options of
    the server besides."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    server_at, client_at = link.names
    with tempfile.TemporaryDirectory() as out:
        helpers, endpoint = [], f"tcp://{SERVER}:{PORT}"
        server = start(server_at, 1, CUTWIRE, "server", "--listen", endpoint, "--allow-plaintext", "--model", model,
                       "--data", "fashion-mnist", "--epochs", 1, "--batch", BATCH, "--train-limit", steps * BATCH,
                       "--test-limit", tested, "--threads", 1, "--in-flight", in_flight, "--timeout", 300, "--json",
                       "--quiet", "--checkpoint-every", 0, "--out", out + "/run", *more, stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL, env=environment)
        try:
            if delay_ms:
                helpers.append(start(client_at, 0, sys.executable, __file__, "proxy", "--delay-ms", delay_ms,
                                     stdout=subprocess.PIPE))
                helpers[0].stdout.readline()
                endpoint = f"tcp://127.0.0.1:{PROXY_PORT}"
            client = start(client_at, 0, CUTWIRE, "client", "--connect", endpoint, "--allow-plaintext", "--threads", 1,
                           "--timeout", 300, "--quiet", env=environment)
            helpers.append(client)
            client_seconds = ended(client, MOST_SECONDS)
            text = server.stdout.read()
            server_seconds = ended(server, 60)
            if client.returncode or server.returncode:
                sys.exit(f"thin_link: client ended with {client.returncode}, server with {server.returncode}")
            result = json.loads(text.splitlines()[-1])
            with open(out + "/run/metrics.jsonl", encoding="utf-8") as f:
                seconds = json.loads(f.readlines()[-1])["train_seconds"]
        finally:
            for process in (*helpers, server):
                if process.returncode is None:
                    process.kill()
                    process.wait()
    # Training's own payloads and gradients of the client's half, without the evaluation.
    up = result["uplink_payload_bytes"] + result["uplink_weights_bytes"]
    down = result["downlink_payload_bytes"] + result["downlink_weights_bytes"]
    return seconds, up, down, result["test_accuracy"], client_seconds, server_seconds


def a_step(link, delay_ms, in_flight, model, steps, tested, more=()):
    """The same of one step, without what a run begins with; accuracy of the long run."""
    long = train(link, delay_ms, in_flight, model, steps, tested, more)
    short = train(link, delay_ms, in_flight, model, SHORT, tested, more)
    each = [(a - b) / (steps - SHORT) for a, b in zip(long, short)]
    each[3] = long[3]
    return each


def bound_of(client, server, up, down, mbit, delay_ms, in_flight):
    alone = [client, server, up * 8 / (mbit * 1e6), down * 8 / (mbit * 1e6)]
    longest = max(alone)
    return 1.15 * (longest + 2 * 2 * delay_ms / 1e3 + (sum(alone) - longest) / in_flight)


# ---- the CSV ----

def rows_of(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def write_rows(path, rows):
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row["model"], *[float(row[name]) for name in KEY[1:]]]))
    temporary.replace(path)


def run(asked):
    rates, delays, numbers = ((10, 1), (0, 50), (1, 4)) if asked.quick else ((100, 10, 1), (0, 50), (1, 2, 4))
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True,
                            check=True).stdout.strip()
    rows = rows_of(asked.csv)
    if asked.only:
        rates, delays = ([int(word)] for word in asked.only.split("/"))
    alone = None
    for mbit, delay, number in itertools.product(rates, delays, numbers):
        wanted = dict(zip(KEY, map(str, (asked.model, asked.steps, number, mbit, delay))))
        if any(all(row[name] == wanted[name] for name in KEY) for row in rows):
            continue
        if alone is None:
            with Link(10000) as link:
                alone = a_step(link, 0, 1, asked.model, asked.steps, asked.tested)[4:]
        with Link(mbit) as link:
            seconds, up, down, accuracy, _, _ = a_step(link, delay, number, asked.model, asked.steps, asked.tested)
        bound = bound_of(*alone, up, down, mbit, delay, number)
        rows.append(wanted | {"accuracy": f"{accuracy:.4f}", "up_bytes": f"{up:.0f}", "down_bytes": f"{down:.0f}",
                              "seconds": f"{seconds:.4f}", "client": f"{alone[0]:.4f}", "server": f"{alone[1]:.4f}",
                              "bound": f"{bound:.4f}", "load": f"{os.getloadavg()[0]:.1f}", "commit": commit,
                              "date": datetime.date.today().isoformat()})
        write_rows(asked.csv, rows)
        print(f"{mbit} Mbit/s, {delay} ms, in flight {number}: {seconds:.3f} s a step, bound {bound:.3f}", flush=True)


def show(asked):
    print("| link, Mbit/s | delay each way, ms | in flight | accuracy, % | up, bytes a step | down | seconds a step | "
          "bound | times the bound | load |\n|" + "---:|" * 10)
    for row in rows_of(asked.csv):
        seconds, bound = float(row["seconds"]), float(row["bound"])
        print("| " + " | ".join((row["mbit"], row["delay_ms"], row["in_flight"], f"{100 * float(row['accuracy']):.1f}",
                                 row["up_bytes"], row["down_bytes"], f"{seconds:.3f}", f"{bound:.3f}",
                                 f"{seconds / bound:.2f}", row["load"])) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "show", "proxy"))
    parser.add_argument("--quick", action="store_true", help="fewer links and numbers")
    parser.add_argument("--only", metavar="MBIT/DELAY", help="one link, as 10/50")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tested", type=int, default=512, help="test samples")
    parser.add_argument("--csv", type=pathlib.Path, default=ROOT / "bench" / "results" / "thin_link.csv")
    parser.add_argument("--delay-ms", type=float, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.what == "proxy":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        asyncio.run(proxy(asked.delay_ms / 1e3))
    elif asked.what == "show":
        show(asked)
    elif os.geteuid() != 0:
        sys.exit("thin_link: network namespaces want root")
    elif asked.steps <= SHORT:
        sys.exit(f"thin_link: --steps must be more than {SHORT}")
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("thin_link: ended, as asked"))  # namespaces are removed
        run(asked)


if __name__ == "__main__":
    main()
