#!/usr/bin/python3
"""Standard streams that fail: streams.py CUTWIRE. Every command says so and exits with 1."""
import os
import signal
import subprocess
import time

from cli_run import CUTWIRE, LIMIT, Folder, commands, leaves, run, skip_without_fashion

SMALL = ["--local", "--train-limit", "32", "--test-limit", "32", "--epochs", "1", "--threads", "1", "--quiet"]


def printing():
    """A call of every command that prints something and is done at once, as text, help and JSON."""
    yield from ([], ["--help"], ["-h"], ["--version"], ["help"], ["help", "codec"])
    yield from ([name, "--help"] for name in commands())
    yield from ([*leaf, "--help"] for leaf in leaves())
    for call in (["models"], ["models", "vgg19"], ["data", "list"], ["data", "verify", "fashion-mnist"],
                 ["repro", "figure1"], ["codec", "roundtrip", "--codec", "none", "--in", "x.npy"],
                 ["codec", "encode", "--codec", "none", "--in", "x.npy", "--out", "y.cw"],
                 ["codec", "decode", "--in", "x.cw", "--out", "y.npy"], ["codec", "inspect", "x.cw"],
                 ["report", "run"], ["train", *SMALL, "--out", "again", "--overwrite"],
                 ["bench", "loader", "--data", "fashion-mnist", "--seconds", "0.01"],
                 ["bench", "codec", "--quick", "--no-peers", "--codec", "none", "--variant", "scalar", "--seconds", "0.01"],
                 ["bench", "engine", "--model", "cnn", "--batch", "4", "--steps", "1", "--no-pytorch"]):
        yield call
        yield [*call, "--json"]
    yield ["train", "--preset", "list"]
    yield ["server", "--preset", "list"]
    yield ["codec", "encode", "--codec", "none", "--in", "x.npy", "--out", "-"]
    yield ["codec", "decode", "--in", "x.cw", "--out", "-"]
    yield ["codec", "roundtrip", "--codec", "none", "--in", "x.npy", "--out", "-"]


def call(args, stdout):
    return subprocess.run([CUTWIRE, *args], stdout=stdout, stderr=subprocess.PIPE, timeout=LIMIT, text=True)


def said(text):
    return [line for line in text.splitlines() if line.startswith("cutwire: ")]


def unwritable(args):
    wanted = 1 if args else 2  # the usage on standard error is all that is printed without a command
    with open("/dev/full", "w") as full:
        done = call(args, full)
    assert done.returncode == wanted, (args, done)
    if args:
        assert len(said(done.stderr)) == 1 and "standard output" in done.stderr, (args, done)
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", CUTWIRE, *args], stderr=subprocess.PIPE, timeout=LIMIT,
                            text=True)
    assert closed.returncode == wanted, (args, closed)
    if args:
        assert len(said(closed.stderr)) == 1 and "standard output" in closed.stderr, (args, closed)


def broken_pipe(args):
    """A reader that has gone is no reason for a message, and none for success either."""
    read, write = os.pipe()
    os.close(read)
    done = call(args, write)
    os.close(write)
    assert done.returncode == (1 if args else 2) and said(done.stderr) == [], (args, done)


def keys_and_files_are_not_printed_into():
    """What is opened while standard output is closed does not take its place."""
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", CUTWIRE, "codec", "encode", "--codec", "none", "--in",
                           "x.npy", "--out", "z.cw"], timeout=LIMIT)
    assert done.returncode == 1
    with open("z.cw", "rb") as f, open("x.cw", "rb") as g:
        assert f.read() == g.read()
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", CUTWIRE, "keygen", "key"], timeout=LIMIT,
                          stderr=subprocess.DEVNULL)
    assert done.returncode == 1
    run("client", "--key", "key", "--server-key", "key.pub", "--connect", "tcp://127.0.0.1:9", "--join-timeout", "0.1",
        "--quiet", code=1)


def a_short_reader_is_enough():
    for args in ("models", "train --help", "data list --json", "models vgg19"):
        done = subprocess.run(f'"{CUTWIRE}" {args} | head -n 1', shell=True, capture_output=True, text=True, timeout=LIMIT)
        assert done.stderr == "" and done.stdout.count("\n") == 1, (args, done)


def a_lost_terminal_ends_no_run():
    """Progress that nobody reads is no reason to stop."""
    read, write = os.pipe()
    child = subprocess.Popen([CUTWIRE, "train", *[a for a in SMALL if a != "--quiet"], "--epochs", "3", "--out", "lost"],
                             stdout=subprocess.DEVNULL, stderr=write)
    os.close(read)
    os.close(write)
    assert child.wait(timeout=LIMIT) == 0 and os.path.exists("lost/summary.json")


def signals():
    """SIGINT, SIGTERM and SIGHUP are alike: the run ends cleanly; under nohup SIGHUP does nothing."""
    many = ["train", *SMALL, "--epochs", "100000"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        out = f"stopped{int(number)}"
        child = subprocess.Popen([CUTWIRE, *many, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(out + "/checkpoint.safetensors", child)
        child.send_signal(number)
        if number == signal.SIGHUP:  # a shell and the kernel may both send it
            child.send_signal(number)
        _, text = child.communicate(timeout=LIMIT)
        assert child.returncode == 0 and "stopped after" in text, (number, child.returncode, text)
        assert os.path.exists(out + "/model.safetensors")
    child = subprocess.Popen(["nohup", CUTWIRE, *many, "--out", "nohup"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("nohup/checkpoint.safetensors", child)
    child.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=LIMIT) == 0


def wait_for(path, child):
    end = time.monotonic() + LIMIT
    while not os.path.exists(path):
        assert child.poll() is None and time.monotonic() < end, path
        time.sleep(0.02)


skip_without_fashion()
with Folder():
    HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (40, 10), }"
    HEADER += b" " * (-(len(HEADER) + 11) % 64) + b"\n"
    with open("x.npy", "wb") as x:
        x.write(b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER + bytes(1600))
    run("codec", "encode", "--codec", "none", "--in", "x.npy", "--out", "x.cw")
    run("train", *SMALL, "--out", "run")
    for ARGS in printing():
        unwritable(ARGS)
        broken_pipe(ARGS)
    keys_and_files_are_not_printed_into()
    a_short_reader_is_enough()
    a_lost_terminal_ends_no_run()
    signals()
print("what cannot be printed is said, and nothing else breaks")
