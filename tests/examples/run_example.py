#!/usr/bin/python3
"""run_example.py PROGRAM CUTWIRE: an example trains on a few samples, and says what it is there to say."""
import os
import pathlib
import re
import subprocess
import sys

SAMPLES = "600"


def epochs(text):
    return [float(accuracy) for accuracy in re.findall(r"^epoch \d+: .*?test accuracy ([\d.]+)%", text, re.M)]


def run_alone(program):
    done = subprocess.run([program, SAMPLES], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_with_client(program, cutwire):
    """The server in its own poll loop, and a client of the command."""
    with subprocess.Popen([program, "tcp://127.0.0.1:*", SAMPLES], stdout=subprocess.PIPE, text=True) as server:
        endpoint = re.search(r"tcp://\S+", server.stdout.readline()).group(0)
        client = subprocess.run([cutwire, "client", "--connect", endpoint, "--quiet"], capture_output=True, text=True,
                                timeout=240)
        text = server.stdout.read()
        assert client.returncode == 0, client.stderr
        assert server.wait(60) == 0, text
    return text


def main():
    program, cutwire = sys.argv[1:3]
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir() and "CUTWIRE_DATA" not in os.environ:
        print("SKIP: Fashion-MNIST is not installed (dataset-fashion-mnist)")
        return 77
    text = run_with_client(program, cutwire) if program.endswith("poll_loop") else run_alone(program)
    accuracies = epochs(text)
    assert accuracies and all(10 < a <= 100 for a in accuracies), text
    if "up, " in text:  # bytes of both directions are told
        assert all(int(n) > 10000 for n in re.findall(r"(\d+) bytes up", text)), text
    print(f"{pathlib.Path(program).name}: {accuracies}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
