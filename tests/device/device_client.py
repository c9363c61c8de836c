#!/usr/bin/python3
"""device_client.py native|arm64 SOURCE BUILD CMAKE CC LAUNCHER: libcutwire-client, made without our engine, our data sets
and their packages, is built and installed; examples/device_client.c is linked with it alone and trains with BUILD's
server. It must come to what the same program comes to with the whole library: the same losses, to the bit, also on ARM.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CROSS = ["gcc-aarch64-linux-gnu", "qemu-user", "libzmq3-dev:arm64", "libjansson-dev:arm64"]
FLAGS = ["-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
SETTINGS = ["--model", "mlp", "--cut", "1", "--sample", "1x8x8", "--classes", "4", "--momentum", "0", "--weight-decay",
            "0", "--lr", "0.1", "--epochs", "4", "--precision", "fp32", "--threads", "1"]
PC = {"native": None, "arm64": "/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig"}
ALLOWED = re.compile(r"lib(zmq|jansson|m|c|pthread)\.so|ld-linux")  # what the client library may need


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=1000, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def missing():
    """Packages of a cross build that are not there."""
    lines = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Package}:${Architecture}\n"],
                           capture_output=True, text=True, check=False).stdout
    there = {word for line in lines.splitlines() if line.startswith("installed ") for word in line.split()[1:]}
    return [package for package in CROSS if package not in there]


def build(kind, source, folder, cmake, launcher):
    """The installed client library's prefix."""
    more = [f"-DCMAKE_C_COMPILER_LAUNCHER={launcher}"] if launcher else []
    if kind == "arm64":
        more.append(f"-DCMAKE_TOOLCHAIN_FILE={source}/cmake/arm64.cmake")
    run(cmake, "-S", source, "-B", folder, "-DCUTWIRE_CLIENT_ONLY=ON", "-DBUILD_TESTING=OFF", "-DCUTWIRE_WERROR=ON",
        "-DCMAKE_BUILD_TYPE=Release", *more)
    run(cmake, "--build", folder, "--parallel", os.cpu_count() or 1)
    shutil.rmtree(folder / "prefix", ignore_errors=True)
    run(cmake, "--install", folder, "--prefix", folder / "prefix", "--strip")
    return folder / "prefix"


def check_library(prefix, tools):
    library = next(prefix.rglob("libcutwire-client.so"))
    needed = re.findall(r"NEEDED.*\[(.*)\]", run(f"{tools}readelf", "-d", library))
    assert needed and all(ALLOWED.match(name) for name in needed), needed
    names = [line.split()[-1] for line in run(f"{tools}nm", "-D", "--defined-only", library).splitlines()]
    assert "cw_join_with" in names and all(name.startswith("cw_") for name in names), names
    assert "cw_serve" not in names and "cw_part_create" not in names
    print(f"{library.name}: {library.stat().st_size} bytes, stripped")
    return library.parent


def link(compiler, source, target, libdir, kind):
    environment = dict(os.environ, PKG_CONFIG_LIBDIR=f"{libdir}/pkgconfig:{PC[kind] or ''}")
    flags = run("pkg-config", "--cflags", "--libs", "cutwire-client", env=environment).split()
    extra = [f"-Wl,-rpath,{libdir}"] + (["-Wl,--allow-shlib-undefined"] if kind == "arm64" else [])
    run(compiler, *FLAGS, f"{source}/examples/device_client.c", *flags, *extra, "-o", target)


def find_package(cmake, compiler, source, prefix, folder):
    """Both libraries by find_package, of a program that asks for nothing else."""
    project = pathlib.Path(folder) / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(device C)\n"
        "find_package(cutwire-client REQUIRED COMPONENTS static)\n"
        f"add_executable(shared {source}/examples/device_client.c)\n"
        f"add_executable(static {source}/examples/device_client.c)\n"
        "target_link_libraries(shared PRIVATE cutwire::cutwire-client)\n"
        "target_link_libraries(static PRIVATE cutwire::cutwire-client_static)\n")
    run(cmake, "-S", project, "-B", project / "b", f"-DCMAKE_C_COMPILER={compiler}", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", project / "b")


def train(build_folder, client, out, good=True, more=()):
    """The epochs of a run of the server with one client, as its metrics have them; or what a refused client says."""
    with subprocess.Popen([f"{build_folder}/cutwire", "server", "--listen", "tcp://127.0.0.1:*", "--clients", "1", "--out",
                           out, *SETTINGS, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            said = ""
            while not (found := re.search(r"tcp://127\.0\.0\.1:\d+", said)):
                line = server.stdout.readline()
                assert line, f"the server ended: {said}"
                said += line
            done = subprocess.run([*client, found.group(0)], capture_output=True, text=True, timeout=1000, check=False)
            if not good:
                assert done.returncode == 1, done
                return done.stderr
            assert done.returncode == 0, done.stderr
            said += server.stdout.read()
            assert server.wait(120) == 0, said
        finally:
            server.kill()
    lines = (pathlib.Path(out) / "metrics.jsonl").read_text().splitlines()
    return [{key: json.loads(line)[key] for key in ("train_loss", "test_loss", "test_accuracy")} for line in lines]


def main():
    kind, source, build_folder, cmake, compiler, launcher = sys.argv[1:7]
    if kind == "arm64" and (absent := missing()):
        print(f"SKIP: no cross build for ARM: apt-get install {' '.join(absent)}")
        return 77
    tools = "aarch64-linux-gnu-" if kind == "arm64" else ""
    prefix = build(kind, source, pathlib.Path(build_folder) / f"device-{kind}", cmake, launcher)
    libdir = check_library(prefix, tools)
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/device_client"
        link(f"{tools}gcc" if tools else compiler, source, program, libdir, kind)
        if not tools:
            find_package(cmake, compiler, source, prefix, folder)
        client = ["qemu-aarch64", "-L", "/", program] if tools else [program]
        epochs = train(build_folder, client, f"{folder}/device")
        whole = train(build_folder, [f"{build_folder}/tests/example_device_client"], f"{folder}/whole")
        words = train(build_folder, client, f"{folder}/other", good=False, more=["--cut", "2"])
    print(kind, epochs)
    assert len(epochs) == 4 and epochs[-1]["test_accuracy"] > 0.9, epochs
    assert epochs[-1]["train_loss"] < 0.5 * epochs[0]["train_loss"], epochs
    assert epochs == whole, f"with the whole library: {whole}"
    assert "half" in words, words  # whose is not the one before that cut
    return 0


if __name__ == "__main__":
    sys.exit(main())
