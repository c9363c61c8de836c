#!/usr/bin/python3
"""remote_example.py CUTWIRE native PROGRAM, or: remote_example.py CUTWIRE arm64 SOURCE BUILD CMAKE CC LAUNCHER:
examples/remote.c, a trained head in plain C, asks a server that has the tail alone. Its answers are those of the whole
network, also on ARM under emulation."""
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

FASHION = "/usr/share/datasets/fashion-mnist"
SAMPLES = 40


def run(*command, code=0, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, check=False, **more)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def npy(path, count):
    """Noise with some order in it, so that all classes do not look alike."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 1, 28, 28), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    dice = random.Random(4)
    values = [dice.gauss(0, 1) + 2 * ((k // 784 + k % 28) % 5 - 2) / 3 for k in range(count * 784)]
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() +
                     struct.pack(f"<{len(values)}f", *values))


def program_for_arm(source, build, cmake, compiler, launcher, folder):
    """The example against the client library alone, both for ARM; or None where they cannot be built."""
    sys.path.insert(0, f"{source}/tests/device")
    arguments, sys.argv = sys.argv, ["device_client.py", "arm64"]
    import device_client
    sys.argv = arguments
    if device_client.missing():
        return None
    prefix = device_client.build("arm64", pathlib.Path(source), pathlib.Path(build) / "device-arm64", cmake, launcher)
    libdir = next(prefix.rglob("libcutwire-client.so")).parent
    environment = dict(os.environ, PKG_CONFIG_LIBDIR=f"{libdir}/pkgconfig:{device_client.PC['arm64']}")
    flags = run("pkg-config", "--cflags", "--libs", "cutwire-client", env=environment).split()
    run("aarch64-linux-gnu-gcc", *device_client.FLAGS, f"{source}/examples/remote.c", *flags, f"-Wl,-rpath,{libdir}",
        "-Wl,--allow-shlib-undefined", "-o", folder / "remote")
    return ["qemu-aarch64", "-L", "/", folder / "remote"]


def check(cutwire, program, folder):
    train = ["train", "--local", "--model", "mlp", "--data", "fashion-mnist", "--cut", "1", "--epochs", "1",
             "--train-limit", "1000", "--test-limit", "64", "--threads", "1", "--quiet", "--lr", "0.05"]
    for name, seed in (("mlp", "1"), ("other", "2")):
        run(cutwire, *train, "--seed", seed, "--out", folder / name)
        run(cutwire, "models", "export", "--run", folder / name, "--head", folder / f"{name}.head", "--tail",
            folder / f"{name}.tail")
    npy(folder / "x.npy", SAMPLES)
    with subprocess.Popen([cutwire, "serve", "--tail", folder / "mlp.tail", "--listen", "tcp://127.0.0.1:*", "--quiet"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            endpoint = re.search(r"tcp://127\.0\.0\.1:\d+", server.stderr.readline()).group(0)
            text = run(*program, endpoint, folder / "mlp.head", folder / "x.npy", "none")
            local = run(cutwire, "infer", "--connect", endpoint, "--run", folder / "mlp", "--uplink", "none", "--local",
                        "--top", "1", folder / "x.npy")
            refused = run(*program, endpoint, folder / "other.head", folder / "x.npy", code=1)
        finally:
            server.terminate()
    assert "100.00% of the answers are the whole network's" in local, local
    own = [(name, float(share)) for name, share in re.findall(r"^sample \d+: class \d+ (.*), ([\d.]+)%", text, re.M)]
    whole = [(name, float(share)) for name, share in re.findall(r"^\S+x\.npy \d+: (.*) ([\d.]+)%", local, re.M)]
    assert len(own) == len(whole) == SAMPLES and len(set(name for name, _ in own)) > 1, (text, local)
    assert all(a[0] == b[0] and abs(a[1] - b[1]) < 0.2 for a, b in zip(own, whole)), (own, whole)
    assert "both need the same run" in refused, refused
    print(f"{len(own)} answers are the whole network's")


def main():
    cutwire, kind, *rest = sys.argv[1:]
    if not os.path.isdir(FASHION):
        print("SKIP: Fashion-MNIST is not installed (dataset-fashion-mnist)")
        return 77
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = rest[:1] if kind == "native" else program_for_arm(*rest, folder)
        if not program:
            print("SKIP: no cross build for ARM (gcc-aarch64-linux-gnu, qemu-user and packages for arm64)")
            return 77
        check(cutwire, program, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
