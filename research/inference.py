#!/usr/bin/python3
"""Inference across a cut beside other ways: what to send, what it costs. Each makes a table of one trained run.

    research/inference.py photos RUN [--narrow RUN ...] [--samples 1000] [--by agreement]
                                        bytes a photo at every cut, beside JPEG, WebP and AVIF
    research/inference.py costs RUN [--cut N] [--uplink SPEC[;SPEC ...]] [--samples 300]
                                        processor time of one photo, split and whole
    research/inference.py clients RUN [--clients 64] [--seconds 5]
                                        a server full of clients, and the bare engine
    research/inference.py link RUN [--mbit 1] [--samples 200] [--uplink SPEC]
                                        requests over a thin link (as root)

photos: the coarsest setting at which at most 0.5 points of the whole network's accuracy are lost (--by agreement: at
which at most 0.5 in 100 answers are not its own), one photo at a time. Settings are searched by halving, which takes
accuracy to grow with them; so of a few hundred photos some are found by luck, of all codecs alike. Of photo codecs
headers are not counted (photo_codecs.py). Their accuracy is the network's on the decoded photos. For CIFAR-10 and folders
of photos, which are resized and cropped first, and coded then. Each --narrow run is one with a bottleneck at its cut;
where it has a profile, that is used. Over TCP a request leaves out what was in the one before, so that all that is sent
may be less than the payloads.

costs: server and client on loopback, one thread each; a longer run less a shorter one, in processor time of both.

clients: payloads are made beforehand, by codec none, and sent from one process; the engine runs batches of the same mean
size. Ratios are of processor time, so that other work on the machine spoils them less.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUTWIRE = os.environ.get("CUTWIRE") or str(ROOT / "build" / "cutwire")
LOST = 0.005  # at most
LOOPBACK = "tcp://127.0.0.1:*"
UPLINKS = [f"ec:err={e}" for e in (0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)]  # coarsest first


def cutwire(*words):
    done = subprocess.run([CUTWIRE, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"inference.py: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def evaluate(run, *options):
    return json.loads(cutwire("eval", run, "--json", "--quiet", "--threads", 1, *options).strip().splitlines()[-1])


def settings_of(run):
    with open(pathlib.Path(run) / "config.json") as f:
        return json.load(f)


# ---- photos ----


def answers_of(run, data, count, *options):
    """{(cut, codec): bytes a sample, answers}, and the labels; cut 0 is the whole network."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/answers.csv"
        result = evaluate(run, "--data", data, "--test-limit", count, "--answers", path, *options)
        with open(path, newline="") as f:
            rows = list(csv.DictReader(f))
    found = {(p["cut"], p["codec"]): (p["bytes_per_sample"], []) for p in result["points"]} | {(0, ""): (0, [])}
    for r in rows:
        found[int(r["cut"]), r["codec"]][1].append(int(r["answer"]))
    return found, [int(r["label"]) for r in rows if r["cut"] == "0"]


def share(answers, others):
    return sum(a == b for a, b in zip(answers, others)) / len(answers)


def wilson(p, n, z=1.96):
    """The 95% interval of a share."""
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [(middle + sign * half) / (1 + z * z / n) for sign in (-1, 1)]


class Yardstick:
    """The whole network's answers, and when others are good enough."""

    def __init__(self, answers, labels, by):
        self.answers, self.labels, self.by = answers, labels, by
        self.wanted = 1 - LOST if by == "agreement" else share(answers, labels) - LOST

    def good(self, answers):
        return share(answers, self.answers if self.by == "agreement" else self.labels) >= self.wanted - 1e-9

    def words(self, answers):
        agreed = share(answers, self.answers)
        low, high = wilson(agreed, len(answers))
        return [f"{100 * share(answers, self.labels):.1f}%", f"{100 * agreed:.1f}% ({100 * low:.1f} to {100 * high:.1f})"]


def coarsest_good(settings, measure, yardstick):
    """(bytes, answers, setting) of the coarsest that is good enough, or None; from the coarsest on, by halving."""
    low, high, found = 0, len(settings) - 1, None
    while low <= high:
        middle = (low + high) // 2
        size, answers = measure(settings[middle])
        if yardstick.good(answers):
            found, high = (size, answers, settings[middle]), middle - 1
        else:
            low = middle + 1
    return found


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def show_coarsest(what, found, yardstick):
    if found is None:
        row(what, "none was good enough", "", "", "")
    else:
        row(what, f"{found[0]:.0f}", *yardstick.words(found[1]), found[2])


def over_tcp(run, uplink, data, samples):
    """What `infer` says of a server on loopback, one photo at a time."""
    server = Server(run)
    try:
        return json.loads(cutwire("infer", "--connect", server.endpoint, "--run", run, "--uplink", uplink, "--data", data,
                                  "--test-limit", samples, "--threads", 1, "--in-flight", 1, "--top", 1, "--json",
                                  "--quiet").strip().splitlines()[-1])
    finally:
        server.stop()


def by_photo_codec(o, kind, chosen, yardstick):
    """As a set of photos that have been through it."""
    import photo_codecs

    missing = photo_codecs.missing(kind)
    if missing:
        row(f"{kind.upper()} of the photo", f"not measured: no {missing}; to get it: apt-get install {missing}", "", "", "")
        return

    def measure(quality):
        size, decoded = photo_codecs.coded(kind, quality, chosen.pixels)
        with tempfile.TemporaryDirectory() as folder:
            found, _ = answers_of(o.run, chosen.write(folder, decoded), len(decoded), "--uplink", "none")
        return size, found[0, ""][1]

    show_coarsest(f"{kind.upper()} of the photo", coarsest_good(photo_codecs.QUALITIES[kind], measure, yardstick), yardstick)


def at_cut(run, cut, data, yardstick, what):
    def measure(uplink):
        found, _ = answers_of(run, data, len(yardstick.labels), "--uplink", uplink, *(["--cut", cut] if cut else []))
        return next(v for (number, _), v in found.items() if number)

    found = coarsest_good(UPLINKS, measure, yardstick)
    show_coarsest(what, found, yardstick)
    return found


def narrow_cut(run, data, yardstick):
    """A run with a bottleneck: what its codec takes, and all that a client sends."""
    settings, count = settings_of(run), len(yardstick.labels)
    where = f"{settings['cut']}, bottleneck {settings['bottleneck'].split('@')[0]}"
    found, _ = answers_of(run, data, count, "--uplink", "none")
    row(f"{where}, without a codec", f"{next(v[0] for k, v in found.items() if k[0]):.0f}",
        *yardstick.words(found[0, ""][1]), "none")
    point = at_cut(run, None, data, yardstick, f"{where}" + (", a profile" if list(pathlib.Path(run).glob("*.profile"))
                                                             else ""))
    if point:
        said = over_tcp(run, point[2], data, count)
        row("the same, all that the client sends over TCP", f"{said['bytes_per_sample']:.0f}",
            f"{100 * said['test_accuracy']:.1f}%", "", point[2])


def listed(text):
    return [part for part in text.split(",") if part]


def photos(o):
    import photo_codecs
    import photo_sets

    settings = settings_of(o.run)
    chosen = photo_sets.photo_set(settings, o.samples)
    count, size = chosen.pixels.shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.write(folder, chosen.pixels)
        found, labels = answers_of(o.run, data, count, "--uplink", "none")
        yardstick = Yardstick(found[0, ""][1], labels, o.by)
        print(f"{settings['model']}, {count} photos of {size}x{size}, the whole network: "
              f"{100 * share(yardstick.answers, labels):.1f}%; at most {100 * LOST:.1f} points of {o.by} are lost\n")
        row("sent", "bytes a photo", "accuracy", "agreement (95% interval)", "setting")
        row("---", "---:", "---:", "---:", "---")
        kinds = photo_codecs.kinds_for(size) if o.kinds is None else listed(o.kinds)
        for kind in kinds:
            by_photo_codec(o, kind, chosen, yardstick)
        for cut in listed(o.cuts):
            at_cut(o.run, cut, data, yardstick, cut)
        for run in o.narrow:
            narrow_cut(run, data, yardstick)


# ---- processes ----


class Server:
    def __init__(self, run, listen=LOOPBACK, *more, before=()):
        self.child = subprocess.Popen([*before, CUTWIRE, "serve", "--run", str(run), "--listen", listen, "--threads", "1",
                                       *map(str, more)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.child.stderr:
            found = re.search(r"answering on (tcp://[0-9.]+:[0-9]+)", line)
            if found:
                self.endpoint = found.group(1)
                return
        sys.exit("inference.py: the server does not begin")

    def seconds(self):
        """Of the processor, so far."""
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        self.child.communicate(timeout=20)


def child_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(server, run, samples, *more):
    """Processor seconds of client and server, and what the client says."""
    client, there = child_seconds(), server.seconds()
    said = cutwire("infer", "--connect", server.endpoint, "--run", run, "--test-limit", samples, "--threads", 1,
                   "--in-flight", 1, "--json", "--quiet", *more)
    return child_seconds() - client, server.seconds() - there, json.loads(said.strip().splitlines()[-1])


def slope(server, run, samples, *more):
    """Milliseconds a photo: client, server."""
    few = ask(server, run, samples // 10, *more)
    many = ask(server, run, samples, *more)
    count = samples - samples // 10
    return [1000 * (many[i] - few[i]) / count for i in (0, 1)], many[2]


def costs(o):
    settings = settings_of(o.run)
    cut = o.cut or settings["cut"]
    uplinks = (o.uplink or settings["uplink"]).split(";")
    server = Server(o.run, LOOPBACK, "--cut", cut)
    rounds = []

    def once(*more):
        per_photo, said = slope(server, o.run, o.samples, "--cut", cut, *more)
        return sum(per_photo), said["p50_ms"], per_photo[0]

    try:
        for _ in range(3):  # in turns
            plain = once("--uplink", "none")
            local = once("--uplink", "none", "--local")
            rounds.append([(local[2] - plain[2], 0), plain[:2]] + [once("--uplink", u)[:2] for u in uplinks])
    finally:
        server.stop()
    whole, *split = [[statistics.median(r[i][j] for r in rounds) for j in (0, 1)] for i in range(len(rounds[0]))]
    print(f"{settings['model']}, cut {cut}, {o.samples} photos one at a time, medians of 3\n")
    row("processor time a photo", "ms", "more than the whole", "request to answer, ms")
    row("---", "---:", "---:", "---:")
    row("the whole network, locally", f"{whole[0]:.3f}", "", "")
    for what, (used, latency) in zip(["none", *uplinks], split):
        row(f"head, {what}, tail", f"{used:.3f}", f"{used - whole[0]:.3f} ms, {100 * (used / whole[0] - 1):.1f}%",
            f"{latency:.2f}")


# ---- many clients ----


def bare_engine(run, batch, seconds):
    """Samples a processor second of the layers after the cut, in batches of this size."""
    import cutwire._infer as infer

    infer.ffi.cdef("""
typedef struct { const char *cut; size_t max_batch; int threads; } cw_network_options;
cw_status cw_network_open(const char *path, const cw_network_options *options, cw_network **out, cw_error *err);
cw_status cw_network_tail(cw_network *network, cw_half **out, cw_error *err);
cw_shape cw_half_in_shape(const cw_half *half);
cw_shape cw_half_out_shape(const cw_half *half);
cw_status cw_half_forward(cw_half *half, const cw_half_call *call, const float *x, float *y, cw_error *err);
""")
    ffi, net = infer.ffi, infer._net
    network, tail, err = ffi.new("cw_network **"), ffi.new("cw_half **"), ffi.new("cw_error *")
    options = ffi.new("cw_network_options *", {"max_batch": batch, "threads": 1})
    net.check(net.lib().cw_network_open(str(run).encode(), options, network, err), err)
    net.check(net.lib().cw_network_tail(network[0], tail, err), err)
    count = [1, 1]
    for i, shape in enumerate((net.lib().cw_half_in_shape(tail[0]), net.lib().cw_half_out_shape(tail[0]))):
        for d in range(shape.ndim):
            count[i] *= shape.dim[d]
    x, y = ffi.new("float[]", batch * count[0]), ffi.new("float[]", batch * count[1])
    call = ffi.new("cw_half_call *", {"mode": net.EVAL, "n": batch})
    done, began = 0, None
    while began is None or time.process_time() - began < seconds:
        net.check(net.lib().cw_half_forward(tail[0], call, x, y, err), err)
        done += batch if began is not None else 0
        began = time.process_time() if began is None else began
    return done / (time.process_time() - began), count[0]


def closed_loop(server, clients, floats, seconds):
    """Every client asks again as soon as it has its answer: seconds from each request to its answer; processor seconds of
    the server, once all clients are there."""
    import select

    import cutwire._infer as infer

    options = {"top": 1, "cut": 0, "head_print": 0, "tail_print": 0, "deadline": 60, "join_timeout": 30}
    x = infer.ffi.new("float[]", [0.5] * floats)
    address = int(infer.ffi.cast("uintptr_t", x))
    remotes = [infer.Remote(server.endpoint, options, infer._net.NetOptions(), "none", None) for _ in range(clients)]
    poll, of_fd, latencies, before = select.poll(), {}, [], 0
    for r in remotes:
        of_fd[r.poll_fd()] = r
        poll.register(r.poll_fd(), select.POLLIN)
        r.submit(address, 1)
    begin = time.monotonic() + seconds / 4  # by then the engine has planned its batch sizes
    end, warm = begin + seconds, False
    while time.monotonic() < end or not latencies:  # one answer at least, on a machine that has no time either
        if not warm and time.monotonic() >= begin:
            warm, before = True, server.seconds()
            latencies.clear()
        ready = [of_fd[fd] for fd, _ in poll.poll(50)] or remotes
        for r in ready:
            ticket = r.poll()
            while ticket:
                latencies.append(r.wait(ticket).seconds)
                r.submit(address, 1)
                ticket = r.poll()
    used = server.seconds() - before
    for r in remotes:
        r.close()
    return sorted(latencies), used


def clients(o):
    sys.path.insert(0, str(ROOT / "build" / "python"))
    settings = settings_of(o.run)
    server = Server(o.run, LOOPBACK, "--max-clients", o.clients, "--max-batch", o.clients, "--json")
    _, floats = bare_engine(o.run, 1, 0.01)
    latencies, used = closed_loop(server, o.clients, floats, o.seconds)
    server.child.send_signal(signal.SIGINT)
    said = json.loads(server.child.communicate(timeout=20)[0].strip().splitlines()[-1])
    batch = max(1, round(said["samples"] / said["batches"]))
    bare = bare_engine_again(o.run, batch, 1.5)
    rate = len(latencies) / used
    print(f"{settings['model']}, cut {settings['cut']}, {o.clients} clients in a closed loop for {o.seconds:g} s\n")
    row("", "samples a processor second")
    row("---", "---:")
    row(f"server, {len(latencies)} samples in batches of {said['samples'] / said['batches']:.1f}", f"{rate:.0f}")
    row(f"bare engine, batches of {batch}", f"{bare:.0f}")
    row("ratio", f"{rate / bare:.3f}")
    quantile = [1000 * latencies[min(len(latencies) - 1, int(len(latencies) * q))] for q in (0.5, 0.95, 0.99)]
    print("\nfrom a request to its answer: p50 {:.1f}, p95 {:.1f}, p99 {:.1f} ms".format(*quantile))


def bare_engine_again(run, batch, seconds):
    """In a process of its own: one network's arena must not disturb the other's."""
    program = (f"import sys; sys.path[:0] = [{str(ROOT / 'research')!r}, {str(ROOT / 'build' / 'python')!r}]; "
               f"import inference; print(inference.bare_engine({str(run)!r}, {batch}, {seconds})[0])")
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


# ---- a thin link ----


def sent_on(name, device):
    """Bytes that a device of this namespace has sent, headers of Ethernet, IP and TCP included."""
    counted = subprocess.run(["ip", "netns", "exec", name, "cat", f"/sys/class/net/{device}/statistics/tx_bytes"],
                             capture_output=True, text=True, check=True)
    return int(counted.stdout)


def many_in_flight(o, server, before=()):
    said = subprocess.run([*before, CUTWIRE, "infer", "--connect", server.endpoint, "--run", str(o.run), "--threads", "1",
                           "--in-flight", "8", "--allow-plaintext", "--test-limit", str(o.samples), "--json", "--quiet",
                           *(["--uplink", o.uplink] if o.uplink else [])], capture_output=True, text=True)
    if said.returncode:
        sys.exit(f"inference.py: {said.stderr.strip()}")
    return json.loads(said.stdout.strip().splitlines()[-1])


def link(o):
    sys.path.insert(0, str(ROOT / "research"))
    import thin_link

    if os.geteuid():
        print("SKIP: network namespaces take root")
        sys.exit(77)
    settings = settings_of(o.run)
    server = Server(o.run)
    free = many_in_flight(o, server)
    server.stop()
    with thin_link.Link(o.mbit) as made:
        inside = [["ip", "netns", "exec", name] for name in made.names]
        server = Server(o.run, f"tcp://{thin_link.SERVER}:{thin_link.PORT}", "--allow-plaintext", before=inside[0])
        try:
            before = sent_on(made.names[1], "cwv1")
            result = many_in_flight(o, server, inside[1])
            wire = sent_on(made.names[1], "cwv1") - before
        finally:
            server.stop()
    rates = [r["samples"] / r["seconds"] for r in (result, free)]
    allowed = [o.mbit * 1e6 / 8 / (b / result["samples"]) for b in (result["uplink_bytes"], wire)]
    print(f"{settings['model']}, cut {settings['cut']}, {result['uplink']}, {o.mbit} Mbit/s, {o.samples} photos, "
          f"{result['bytes_per_sample']:.0f} bytes each\n")
    row("", "requests a second", "of that")
    row("---", "---:", "---:")
    row("over the link", f"{rates[0]:.1f}", "")
    row("what their bytes allow", f"{allowed[0]:.1f}", f"{rates[0] / allowed[0]:.3f}")
    row("with the headers of TCP, IP and Ethernet", f"{allowed[1]:.1f}", f"{rates[0] / allowed[1]:.3f}")
    row("on loopback: what client and server manage", f"{rates[1]:.1f}", f"{rates[0] / rates[1]:.3f}")


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    kinds = p.add_subparsers(dest="kind", required=True)
    for work in (photos, costs, clients, link):
        k = kinds.add_parser(work.__name__)
        k.set_defaults(work=work)
        k.add_argument("run")
        k.add_argument("--samples", type=int, default={"photos": 1000, "costs": 300}.get(work.__name__, 200))
    at = kinds.choices
    at["photos"].add_argument("--narrow", action="append", default=[], help="a run with a bottleneck")
    at["photos"].add_argument("--kinds", help="photo codecs, as 'jpeg,avif 4:4:4'; all that matter to this size; '': none")
    at["photos"].add_argument("--cuts", default="shallow,medium,deep", help="'': none")
    at["photos"].add_argument("--by", choices=("accuracy", "agreement"), default="accuracy")
    at["costs"].add_argument("--cut", help="the run's")
    at["costs"].add_argument("--uplink", help="codecs, parted by semicolons; the run's")
    at["clients"].add_argument("--clients", type=int, default=64)
    at["clients"].add_argument("--seconds", type=float, default=5)
    at["link"].add_argument("--mbit", type=float, default=1)
    at["link"].add_argument("--uplink", help="codec; the run's")
    return p.parse_args()


if __name__ == "__main__":
    given = options()
    given.work(given)
