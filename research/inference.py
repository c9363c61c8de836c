#!/usr/bin/python3
"""Inference across a cut beside other ways: what to send, what it costs. Each makes a table of one trained run.

    research/inference.py photos RUN [--narrow RUN ...] [--samples 1000]
                                        bytes a photo at every cut, beside JPEG, WebP and AVIF
    research/inference.py costs RUN [--uplink SPEC] [--samples 300]
                                        processor time of one photo, split and whole
    research/inference.py clients RUN [--clients 64] [--seconds 5]
                                        a server full of clients, and the bare engine
    research/inference.py link RUN [--mbit 1] [--samples 200] [--uplink SPEC]
                                        requests over a thin link (as root)

photos: the least bytes, of all settings tried, at which at most 0.5 points of the whole network's accuracy are lost, one
photo at a time. Of photo codecs headers are not counted: of JPEG the coded scan alone, of WebP the frame behind its
header, of AVIF the AV1 tile data and frame header without sequence header. Their accuracy is the network's on the
decoded photos; their qualities are searched by halving, which takes accuracy to grow with them. For CIFAR-10, whose
photos are pixels. Each --narrow run is one with a bottleneck at its cut; where it has a profile, that is used. Over TCP
a request leaves out what was in the one before, so that all that is sent may be less than the payloads.

costs: server and client on loopback, one thread each; a longer run less a shorter one, in processor time of both.

clients: payloads are made beforehand, by codec none, and sent from one process; the engine runs batches of the same mean
size. Ratios are of processor time, so that other work on the machine spoils them less.
"""
import argparse
import io
import json
import os
import pathlib
import re
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUTWIRE = os.environ.get("CUTWIRE") or str(ROOT / "build" / "cutwire")
LOST = 0.005  # of accuracy, at most
RECORD = 1 + 3 * 32 * 32  # of a CIFAR-10 file
UPLINKS = [f"ec:err={e}" for e in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)]
QUALITIES = {"jpeg": range(5, 96, 6), "webp": range(0, 101, 7), "avif": range(20, 64, 4)}


def cutwire(*words):
    done = subprocess.run([CUTWIRE, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"inference.py: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def evaluate(run, *options):
    return json.loads(cutwire("eval", run, "--json", "--quiet", *options).strip().splitlines()[-1])


def settings_of(run):
    with open(pathlib.Path(run) / "config.json") as f:
        return json.load(f)


# ---- photos ----


def cifar_folder():
    for parent in (os.environ.get("CUTWIRE_DATA"), pathlib.Path.home() / ".cache/cutwire/data"):
        folder = pathlib.Path(parent or "/nowhere") / "cifar-10-batches-bin"
        if (folder / "test_batch.bin").exists():
            return folder
    print("SKIP: CIFAR-10 is not here (cutwire data fetch cifar-10)")
    sys.exit(77)


def photos_of(records):
    import numpy

    data = numpy.frombuffer(records, numpy.uint8).reshape(-1, RECORD)
    return data[:, :1], numpy.ascontiguousarray(data[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def jpeg_scan(blob):
    """Bytes between the scan's header and the end marker."""
    at = blob.index(b"\xff\xda")
    return len(blob) - at - 2 - struct.unpack(">H", blob[at + 2:at + 4])[0] - 2


def webp_frame(blob):
    """Of a VP8 chunk without the 10 bytes of its frame header."""
    at = blob.index(b"VP8 ")
    return struct.unpack("<I", blob[at + 4:at + 8])[0] - 10


def by_pillow(kind, quality, photos):
    """Mean bytes, decoded photos."""
    import numpy
    from PIL import Image

    sizes, decoded = [], numpy.empty_like(photos)
    how = {"jpeg": {"optimize": True}, "webp": {"method": 6}}[kind]
    for i, photo in enumerate(photos):
        out = io.BytesIO()
        Image.fromarray(photo).save(out, kind.upper(), quality=quality, **how)
        sizes.append({"jpeg": jpeg_scan, "webp": webp_frame}[kind](out.getvalue()))
        decoded[i] = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
    return statistics.fmean(sizes), decoded


def obu_bytes(frame):
    """Of an AV1 temporal unit, without temporal delimiter and sequence header."""
    at = total = 0
    while at < len(frame):
        kind, extension, begin = frame[at] >> 3 & 15, frame[at] >> 2 & 1, at
        at += 1 + extension
        size = shift = 0
        while True:
            size |= (frame[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not frame[at - 1] & 128:
                break
        at += size
        total += 0 if kind in (1, 2) else at - begin
    return total


def by_ffmpeg(quality, photos):
    """AV1 stills, as AVIF holds them: all photos are key frames (a distance of 0)."""
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/photos.ivf"
        base = ["ffmpeg", "-v", "error", "-y", "-threads", "1"]
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "32x32"]
        subprocess.run([*base, *raw, "-i", "-", "-c:v", "libaom-av1", "-crf", str(quality), "-b:v", "0", "-g", "0",
                        "-usage", "allintra", "-cpu-used", "4", "-pix_fmt", "yuv420p", path], input=photos.tobytes(),
                       check=True)
        data, at, sizes = pathlib.Path(path).read_bytes(), 32, []
        while at < len(data):
            size = struct.unpack("<I", data[at:at + 4])[0]
            sizes.append(obu_bytes(data[at + 12:at + 12 + size]))
            at += 12 + size
        back = subprocess.run([*base, "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True,
                              check=True).stdout
    assert len(sizes) == len(photos), (len(sizes), len(photos))
    return statistics.fmean(sizes), numpy.frombuffer(back, numpy.uint8).reshape(photos.shape)


def accuracy_of(run, labels, photos, samples):
    """The whole network's, on these pixels."""
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        pixels = photos.transpose(0, 3, 1, 2).reshape(len(photos), -1)
        rest = (cifar_folder() / "test_batch.bin").read_bytes()[len(photos) * RECORD:]  # a whole file is wanted
        pathlib.Path(folder, "test_batch.bin").write_bytes(numpy.hstack([labels, pixels]).tobytes() + rest)
        pathlib.Path(folder, "batches.meta.txt").write_bytes((cifar_folder() / "batches.meta.txt").read_bytes())
        return evaluate(run, "--data", f"cifar-10:{folder}", "--test-limit", samples, "--uplink", "none")["test_accuracy"]


def least_of_photo_codec(kind, run, labels, photos, wanted):
    """(bytes, accuracy, setting) of the least that is good enough, or None: qualities from the smallest on."""
    qualities = list(QUALITIES[kind])
    low, high, found = 0, len(qualities) - 1, None
    if kind == "avif":
        qualities.reverse()
    while low <= high:
        middle = (low + high) // 2
        size, decoded = by_ffmpeg(qualities[middle], photos) if kind == "avif" else by_pillow(kind, qualities[middle],
                                                                                              photos)
        accuracy = accuracy_of(run, labels, decoded, len(photos))
        if accuracy >= wanted:
            found, high = (size, accuracy, qualities[middle]), middle - 1
        else:
            low = middle + 1
    return found


def least_of_points(points, wanted):
    good = [p for p in points if p["test_accuracy"] >= wanted]
    return min(good, key=lambda p: p["bytes_per_sample"], default=None)


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def show_least(what, found, note=""):
    if found is None:
        row(what, "none was good enough", "", note)
    else:
        row(what, f"{found[0]:.0f}", f"{100 * found[1]:.2f}%", found[2])


def over_tcp(run, uplink, samples):
    """What `infer` says of a server on loopback, one photo at a time."""
    server = Server(run)
    try:
        return json.loads(cutwire("infer", "--connect", server.endpoint, "--run", run, "--uplink", uplink, "--test-limit",
                                  samples, "--threads", 1, "--in-flight", 1, "--top", 1, "--json",
                                  "--quiet").strip().splitlines()[-1])
    finally:
        server.stop()


def photos(o):
    data = (cifar_folder() / "test_batch.bin").read_bytes()[:o.samples * RECORD]
    labels, pixels = photos_of(data)
    specs = ",".join(UPLINKS)
    result = evaluate(o.run, "--cut", o.cuts, "--uplink", specs, "--test-limit", o.samples)
    whole = result["test_accuracy"]
    print(f"{settings_of(o.run)['model']}, {o.samples} photos, the whole network: {100 * whole:.2f}%\n")
    row("sent", "bytes a photo", "accuracy", "setting")
    row("---", "---:", "---:", "---")
    for kind in ("jpeg", "webp", "avif"):
        show_least(f"{kind.upper()} of the photo", least_of_photo_codec(kind, o.run, labels, pixels, whole - LOST))
    for cut in sorted({p["cut"] for p in result["points"]}):
        point = least_of_points([p for p in result["points"] if p["cut"] == cut], whole - LOST)
        show_least(f"cut {cut}", point and (point["bytes_per_sample"], point["test_accuracy"], point["codec"]))
    for run in o.narrow:
        settings = settings_of(run)
        result = evaluate(run, "--uplink", specs, "--test-limit", o.samples)
        point = least_of_points(result["points"], whole - LOST)
        show_least(f"cut {settings['cut']}, bottleneck {settings['bottleneck'].split('@')[0]}",
                   point and (point["bytes_per_sample"], point["test_accuracy"], point["codec"]),
                   f"without a codec {100 * result['test_accuracy']:.2f}%")
        if point:
            said = over_tcp(run, point["codec"], o.samples)
            show_least("that over TCP, all that the client sends", (said["bytes_per_sample"], said["test_accuracy"], ""))


# ---- processes ----


class Server:
    def __init__(self, run, listen="tcp://127.0.0.1:*", *more, before=()):
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
    uplink = o.uplink or settings["uplink"]
    server = Server(o.run)
    try:
        rounds = []
        for _ in range(3):  # in turns
            plain, _ = slope(server, o.run, o.samples, "--uplink", "none")
            local, _ = slope(server, o.run, o.samples, "--uplink", "none", "--local")
            coded, said = slope(server, o.run, o.samples, "--uplink", uplink)
            rounds.append((local[0] - plain[0], sum(plain), sum(coded), said["p50_ms"]))
    finally:
        server.stop()
    whole, plain, coded, latency = (statistics.median(r[i] for r in rounds) for i in range(4))
    print(f"{settings['model']}, cut {settings['cut']}, {o.samples} photos one at a time, medians of 3\n")
    row("processor time a photo", "ms", "more than the whole")
    row("---", "---:", "---:")
    row("the whole network, locally", f"{whole:.3f}", "")
    row("head, none, tail", f"{plain:.3f}", f"{plain - whole:.3f} ms, {100 * (plain / whole - 1):.1f}%")
    row(f"head, {uplink}, tail", f"{coded:.3f}", f"{coded - whole:.3f} ms, {100 * (coded / whole - 1):.1f}%")
    print(f"\nfrom a request to its answer, loopback, median: {latency:.2f} ms")


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
    while time.monotonic() < end:
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
    server = Server(o.run, "tcp://127.0.0.1:*", "--max-clients", o.clients, "--max-batch", o.clients, "--json")
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
    at["photos"].add_argument("--cuts", default="shallow,medium,deep")
    at["costs"].add_argument("--uplink", help="codec; the run's")
    at["clients"].add_argument("--clients", type=int, default=64)
    at["clients"].add_argument("--seconds", type=float, default=5)
    at["link"].add_argument("--mbit", type=float, default=1)
    at["link"].add_argument("--uplink", help="codec; the run's")
    return p.parse_args()


if __name__ == "__main__":
    given = options()
    given.work(given)
