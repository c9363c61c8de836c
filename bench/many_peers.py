#!/usr/bin/python3
"""What many clients cost a server, by peers that speak the protocol and compute nothing (many_peers.c).

    ninja -C build cutwire many_peers
    bench/many_peers.py [--peers 500] [--steps 10] [--model mlp --sample 1x4x4 --cut 1 --shape 256]

The server has one thread of the engine and no codecs. A smaller network shows what is not the engine's. Prints bytes
of memory for each peer that has joined and waits, and the server's processor time for each peer that joins, and for
each peer and step.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(__file__).resolve().parent.parent / "build"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--sample", default="1x4x4")
    parser.add_argument("--cut", default="1")
    parser.add_argument("--shape", default="256", help="of one sample at the cut")
    parser.add_argument("--heartbeat", type=float, default=2, help="of both ends, in seconds; 0: none")
    parser.add_argument("server", nargs="*", help="more options of the server, behind --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [BUILD / "cutwire", "server", "--listen", "tcp://127.0.0.1:*", "--clients", str(args.peers), "--batch",
                   "1", "--model", args.model, "--sample", args.sample, "--classes", "10", "--cut", args.cut,
                   "--uplink", "none", "--downlink", "none", "--update", "none", "--threads", "1", "--max-samples",
                   str(args.steps + 1), "--heartbeat", str(args.heartbeat), "--timeout", "900", "--join-timeout", "900",
                   "--quiet", "--out", f"{folder}/run", *args.server]
        log = pathlib.Path(folder) / "log"  # a pipe that nobody reads stops the server once some thousands have joined
        with open(log, "w", encoding="utf-8") as f:
            server = subprocess.Popen(command, stderr=f)
        try:
            while not (found := re.search(r"listening on (tcp://[0-9.:]+)", log.read_text())):
                if server.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.05)
            subprocess.run([BUILD / "many_peers", found.group(1), str(server.pid), str(args.peers), str(args.steps),
                            args.shape, "none", str(round(1000 * args.heartbeat))], check=True)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
