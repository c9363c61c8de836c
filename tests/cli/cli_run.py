"""What the tests of the command share: running it, with the contract of every command checked on the way."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

CUTWIRE = os.path.abspath(sys.argv[1])
LIMIT = 120  # seconds that any one command may take, sanitizers and a busy machine included
FASHION = "/usr/share/datasets/fashion-mnist"


def check_error(args, text):
    """One sentence for a person, on standard error, that begins as scripts expect."""
    last = text.strip().splitlines()[-1] if text.strip() else ""
    assert last.startswith("cutwire: "), (args, text)
    assert text.count("cutwire: ") == 1, (args, text)


def environment(changes):
    """This process's, with the changes; None takes a variable away."""
    changed = os.environ | {name: value for name, value in changes.items() if value is not None}
    return {name: value for name, value in changed.items() if changes.get(name, "") is not None}


def run(*args, code=0, **changes):
    """Runs `cutwire args`; the exit code must be `code`. Returns standard output, or of a failure standard error."""
    done = subprocess.run([CUTWIRE, *args], capture_output=True, timeout=LIMIT, env=environment(changes),
                          encoding="utf-8", errors="backslashreplace")
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    if code:
        assert done.stdout == "", (args, done.stdout)
        check_error(args, done.stderr)
    return done.stderr if code else done.stdout


SUBCOMMANDS = {"codec": ["encode", "decode", "roundtrip", "train", "inspect"], "repro": ["figure1", "figure2", "figure3", "table1", "theorem1", "lemma2", "theorem4"],
               "bench": ["codec", "engine", "loader"], "data": ["list", "fetch", "verify"]}


def commands():
    names = re.findall(r"^  (\w+) +\S", run("--help"), re.M)
    assert {"train", "server", "client", "codec", "repro"} <= set(names), names
    return names


def leaves():
    for name in commands():
        for sub in SUBCOMMANDS.get(name, [None]):
            yield [name, sub] if sub else [name]


def last_object(text):
    lines = text.strip().splitlines()
    assert sum(line.startswith("{") for line in lines) == 1, text
    return json.loads(lines[-1])


class Process:
    """A command that runs beside the test; its standard error is collected as it comes."""

    def __init__(self, *args):
        self.args = args
        self.lines = []
        self.child = subprocess.Popen([CUTWIRE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stderr:
            self.lines.append(line)

    def wait_for(self, pattern, seconds=LIMIT):
        """The match of the first line of standard error that has one."""
        end = time.monotonic() + seconds
        while True:
            ended = self.child.poll() is not None
            for line in list(self.lines):
                match = re.search(pattern, line)
                if match:
                    return match
            assert not ended and time.monotonic() < end, (self.args, pattern, self.lines)
            time.sleep(0.02)

    def interrupt(self, number=signal.SIGINT):
        self.child.send_signal(number)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def finish(self, code=0, seconds=LIMIT):
        out = self.child.stdout.read() if self.child.wait(timeout=seconds) is not None else ""
        self.reader.join()
        assert self.child.returncode == code, (self.args, self.child.returncode, out, self.lines)
        return out


class Folder:
    """A temporary folder as working directory; processes that a failing test leaves behind are its children's children
    and end with it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)

    def __exit__(self, *_):
        os.chdir("/")
        self.folder.cleanup()


def skip_without_fashion():
    if not os.path.isdir(FASHION):
        print("SKIP: Fashion-MNIST is not installed (dataset-fashion-mnist)")
        sys.exit(77)
