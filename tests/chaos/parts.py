"""What tests of faults share: links that can be cut, processes of the command, a run of a server and its clients, and the
ledger of what a server's log says it has applied."""
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

FASHION = "/usr/share/datasets/fashion-mnist"
LIMIT = 300  # seconds that a run may take
CUTWIRE = os.path.abspath(next(filter(os.path.isfile, sys.argv[1:]), ""))  # also behind options


class Link:
    """A proxy on 127.0.0.1 that can be cut: silent (nothing passes, nothing is closed), closed, or slow."""

    def __init__(self, port):
        self.target, self.silent, self.stop, self.pairs = port, False, False, []
        self.rate, self.budget, self.last = 0, 0.0, 0.0  # bytes a second from the client; 0: no limit
        self.break_next = False  # close in the middle of the next bytes
        self.heard = b""  # the first bytes of the last connection
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def accept(self):
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=1)
        except OSError:
            client.close()
            return
        self.heard = b""
        self.pairs.append((client, server))

    def share(self):
        """Bytes that a slow link may take now."""
        now = time.monotonic()
        self.budget = min(self.budget + self.rate * (now - self.last), self.rate)
        self.last = now
        return int(self.budget)

    def pass_on(self, a, b, upward):
        try:
            data = a.recv(max(min(self.share(), 65536), 1) if upward and self.rate else 65536)
            self.budget -= len(data)
            if upward and len(self.heard) < 1 << 18:
                self.heard += data
            if self.break_next and len(data) > 1:
                self.break_next = False
                b.sendall(data[:len(data) // 2])
                return False
            b.sendall(data)
        except OSError:
            data = b""
        return bool(data)

    def run(self):
        while not self.stop:
            ends = {} if self.silent else {end: pair for pair in self.pairs for end in pair}
            if self.rate and self.share() < 1:
                ends = {end: pair for end, pair in ends.items() if end is pair[1]}
            watched = list(ends) + ([] if self.silent else [self.listener])
            ready, _, _ = select.select(watched, [], [], 0.05)
            for end in ready:
                if end is self.listener:
                    self.accept()
                elif ends[end] in self.pairs:
                    a, b = ends[end]
                    if not self.pass_on(end, b if end is a else a, end is a):
                        self.close(ends[end])

    def close(self, pair):
        self.pairs.remove(pair)
        for end in pair:
            end.close()

    def cut(self):
        for pair in list(self.pairs):
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Process:
    """A program of ours that runs beside the test; what it says is collected as it comes."""

    def __init__(self, *args, program=None):
        self.args, self.lines = args, []
        self.child = subprocess.Popen([program or CUTWIRE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.readers = [threading.Thread(target=self.read, args=(stream,), daemon=True)
                        for stream in (self.child.stderr, self.child.stdout)]
        for reader in self.readers:
            reader.start()

    def read(self, stream):
        for line in stream:
            self.lines.append((time.monotonic(), line.rstrip()))

    def alive(self):
        return self.child.poll() is None

    def says(self, pattern):
        return next((m for _, line in list(self.lines) if (m := re.search(pattern, line))), None)

    def wait_for(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not (match := self.says(pattern)):
            assert self.alive() and time.monotonic() < end, (self.args, pattern, self.text())
            time.sleep(0.02)
        return match

    def wait_for_next(self, words, seconds=60):
        """A line that has not come yet."""
        first, end = len(self.lines), time.monotonic() + seconds
        while not any(words in line for _, line in self.lines[first:]):
            assert self.alive() and time.monotonic() < end, (self.args, words, self.text())
            time.sleep(0.01)

    def text(self):
        return "\n".join(line for _, line in self.lines if '_applied"' not in line and '"event":"step"' not in line)

    def events(self):
        """Of a log in JSON: (clock, event) as they came."""
        for at, line in list(self.lines):
            if line.startswith("{") and '"event"' in line:
                yield at, json.loads(line)

    def finish(self, seconds=LIMIT):
        code = self.child.wait(timeout=seconds)
        for reader in self.readers:
            reader.join(5)
        return code


class Run:
    """A server and clients, each over a link of its own."""

    KEYS = ["--model", "cnn", "--cut", "2", "--batch", "16", "--epochs", "2", "--train-limit", "1920", "--test-limit",
            "256", "--threads", "1", "--loader-threads", "0", "--checkpoint-steps", "10", "--timeout", "60"]

    def __init__(self, folder, clients=2, keys=(), client_keys=(), liar=None):
        self.folder, self.count, self.keys, self.client_keys = folder, clients, list(keys), list(client_keys)
        self.liar = liar  # (program, number of the lie): the last client
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.began = time.monotonic()
        self.servers = []
        self.server = self.start_server("--out", folder)
        self.links, self.clients = [], []
        for i in range(clients):
            self.links.append(Link(self.port))
            self.clients.append(self.start_client(i))
            self.server.wait_for(f"client {i + 1} joined", 250)

    def start_server(self, *more):
        server = Process("server", "--listen", f"tcp://127.0.0.1:{self.port}", "--clients", str(self.count), "--json",
                         *self.KEYS, *self.keys, *more)
        self.servers.append(server)
        server.wait_for("listening on")
        return server

    def start_client(self, i):
        if self.liar and i == self.count - 1:
            program, number = self.liar
            return Process(self.links[i].endpoint, f"{self.folder}.client{i}", str(number), program=program)
        return Process("client", "--connect", self.links[i].endpoint, "--threads", "1", "--loader-threads", "0",
                       "--identity", f"{self.folder}.client{i}", *self.client_keys)

    def checkpoint(self, seconds=60):
        """Waits for the first, or another one."""
        path = os.path.join(self.folder, "checkpoint.safetensors")
        before = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
        end = time.monotonic() + seconds
        while not os.path.exists(path) or os.stat(path).st_mtime_ns == before:
            assert time.monotonic() < end and self.server.alive(), self.server.text()
            time.sleep(0.005)

    def kill_server(self, down=1.0, number=signal.SIGKILL):
        self.server.child.send_signal(number)
        assert self.server.finish(60) in (0, -signal.SIGKILL), self.server.text()
        time.sleep(down)
        self.server = self.start_server("--resume", self.folder)

    def kill_client(self, i, down=0.5):
        self.clients[i].child.kill()
        self.clients[i].child.wait()
        time.sleep(down)
        self.clients[i] = self.start_client(i)

    def silence(self, i, seconds):
        self.links[i].silent = True
        time.sleep(seconds)
        self.links[i].silent = False

    def stop_for(self, process, seconds):
        process.child.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.child.send_signal(signal.SIGCONT)

    def finish(self, seconds=LIMIT):
        """What came of it: exit codes, seconds, samples of each epoch, a digest of the model."""
        codes = [self.server.finish(seconds)] + [c.finish(30) for c in self.clients]
        seconds = time.monotonic() - self.began
        for link in self.links:
            link.stop = True
        with open(os.path.join(self.folder, "model.safetensors"), "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()[:12]
        with open(os.path.join(self.folder, "metrics.jsonl"), encoding="utf-8") as f:
            samples = [json.loads(line)["train_samples"] for line in f]
        return {"codes": codes, "seconds": round(seconds, 1), "samples": samples, "model": digest}

    def tell(self):
        """Everything that was said, for a test that failed."""
        for p in [*self.servers, *self.clients]:
            print("--", *p.args[:1], p.child.poll(), p.text()[-4000:], sep="\n", file=sys.stderr)

    def end(self):
        for link in self.links:
            link.stop = True
        for p in [self.server, *self.clients]:
            if p.alive():
                p.child.kill()


class Ledger:
    """Which (epoch, step, client) the logs of a run's servers say they have applied: batches to the server's half,
    gradients to the clients' half. What a killed server has done after its last checkpoint is lost with it."""

    LOSSES = ("client_lost", "client_again")
    SCREENED = 5  # steps of a run in which screening may leave out an honest client beside a liar

    def __init__(self, servers):
        self.applied = {"batch_applied": {}, "gradient_applied": {}}
        self.steps, self.losses, self.far, self.trouble = {}, {}, set(), []
        for n, server in enumerate(servers):
            self.take([e for _, e in server.events()], n > 0)

    def take(self, events, again):
        began, said = not again, None
        for e in events:
            name = e["event"]
            if match := re.match("going on after (?:step ([0-9]+) of )?epoch ([0-9]+) of", e.get("text", "")):
                step, epoch = match.groups()
                said = (int(epoch), int(step) + 1) if step else (int(epoch) + 1, 1)
            elif "it begins at its beginning" in e.get("text", ""):
                said = (1, 1)
            if name in self.applied:
                if not began:
                    self.go_back(e["epoch"], e["step"], said)
                    began = True
                self.steps[e["epoch"]] = e["steps"]
                key = (e["epoch"], e["step"], e["client"])
                self.applied[name][key] = self.applied[name].get(key, 0) + 1
            elif name in self.LOSSES:
                self.losses[e["client"]] = self.losses.get(e["client"], 0) + 1
            elif name == "client_far":
                self.far.add(e["client"])

    def go_back(self, epoch, step, said):
        """A server that goes on does so from its checkpoint, as it says, and what came after that is not there."""
        if said and said[1] > self.steps.get(said[0], said[1]):  # it was stopped in the evaluation
            said = (said[0] + 1, 1)
        if (epoch, step) != said:
            self.trouble.append(f"a server went on at step {step} of epoch {epoch}: its checkpoint is of {said}")
        for table in self.applied.values():
            for key in [k for k in table if k[:2] >= (epoch, step)]:
                del table[key]

    def check(self, epochs, clients, may_miss=()):
        """Applied: exactly once each. Of clients that were lost as many may be missing as they were lost, of those that
        screening found far a few more; of those in `may_miss` any."""
        missing = 0
        for name, table in self.applied.items():
            for key, times in table.items():
                if times != 1:
                    self.trouble.append(f"{name} {key}: {times} times")
            for client in range(1, clients + 1):
                absent = [(e, s) for e in range(1, epochs + 1) for s in range(1, self.steps.get(e, 0) + 1)
                          if (e, s, client) not in table]
                if client in may_miss:
                    continue
                missing += len(absent)
                if len(absent) > self.losses.get(client, 0) + self.SCREENED * (client in self.far):
                    self.trouble.append(f"{name}: of client {client} are missing {absent[:5]} and {len(absent)} in all, "
                                        f"lost {self.losses.get(client, 0)} times")
        for e in range(1, epochs + 1):
            if not self.steps.get(e):
                self.trouble.append(f"epoch {e}: no step")
        return missing

    def count(self):
        return sum(len(t) for t in self.applied.values())


class Prober:
    """Loads the run's checkpoint at random moments, in a copy of its folder, by a server that goes on from it."""

    def __init__(self, run, random, pause):
        """`pause`: about how many seconds lie between two looks."""
        self.run, self.random, self.pause, self.loaded, self.trouble, self.stop = run, random, pause, 0, [], False
        self.thread = threading.Thread(target=self.probe, daemon=True)
        self.thread.start()

    def probe(self):
        folder = self.run.folder + ".copy"
        while not self.stop:
            time.sleep(self.random.uniform(0.5, 2.5) * self.pause)
            if not os.path.exists(os.path.join(self.run.folder, "checkpoint.safetensors")):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            for name in os.listdir(self.run.folder):
                if os.path.isfile(os.path.join(self.run.folder, name)) and not name.endswith(".tmp"):
                    shutil.copy(os.path.join(self.run.folder, name), folder)
            self.load(folder)

    def load(self, folder):
        done = subprocess.run([CUTWIRE, "server", "--listen", "tcp://127.0.0.1:*", "--resume", folder, "--join-timeout",
                               "0.1", "--threads", "1", "--quiet"], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0 or "clients joined within" in done.stderr: # 0: the run was over
            self.loaded += 1
        else:
            self.trouble.append(done.stderr.strip())

    def finish(self):
        self.stop = True
        self.thread.join(130)
        return self.trouble


def skip_without_data():
    if not os.path.isdir(FASHION):
        print("SKIP: Fashion-MNIST is not installed (dataset-fashion-mnist)")
        sys.exit(77)
