#!/usr/bin/python3
"""--precision: what auto comes to here is recorded, travels and is kept by --resume; bf16 is refused where the engine has
none, and warns where it is emulated: precision.py CUTWIRE.

ONEDNN_MAX_CPU_ISA makes the engine take this CPU for a lesser one.
"""
import json
import os
import platform

from cli_run import CUTWIRE, Folder, Process, last_object, run, skip_without_fashion

RUN = ["--data", "fashion-mnist", "--model", "cnn", "--cut", "2", "--batch", "32", "--train-limit", "128",
       "--test-limit", "64", "--threads", "1"]


def cpu_flags():
    if platform.machine() != "x86_64":
        return set()
    with open("/proc/cpuinfo") as f:
        return set(next((line for line in f if line.startswith("flags")), "").split(":")[-1].split())


HAS_BF16 = "avx512_bf16" in cpu_flags()
HAS_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= cpu_flags()


class Cpu:
    """The engine's CPU, at most."""

    def __init__(self, isa):
        self.isa = isa

    def __enter__(self):
        os.environ["ONEDNN_MAX_CPU_ISA"] = self.isa

    def __exit__(self, *_):
        del os.environ["ONEDNN_MAX_CPU_ISA"]


def recorded(folder):
    """What each of the run's files says it was trained in, epoch by epoch."""
    with open(f"{folder}/config.json") as f:
        found = [json.load(f)["precision"]]
    with open(f"{folder}/summary.json") as f:
        found.append(json.load(f)["precision"])
    with open(f"{folder}/metrics.jsonl") as f:
        return found + [json.loads(line)["precision"] for line in f]


def auto_is_decided_and_recorded():
    expected = "bf16" if HAS_BF16 else "fp32"
    for how in ("--local", "--split", "--processes"):
        done = last_object(run("train", how, *RUN, "--precision", "auto", "--epochs", "1", "--out", "run" + how, "--json"))
        assert done["precision"] == expected, (how, done)
        assert recorded("run" + how) == [expected] * 3, (how, recorded("run" + how))


def a_run_keeps_its_own():
    """Begun where auto is fp32, it stays so on any machine; the command line may still change it."""
    with Cpu("AVX2"):
        run("train", "--local", *RUN, "--precision", "auto", "--epochs", "1", "--out", "kept")
    assert recorded("kept") == ["fp32"] * 3, recorded("kept")
    done = last_object(run("train", "--resume", "kept", "--epochs", "2", "--json"))
    assert done["precision"] == "fp32" and recorded("kept") == ["fp32"] * 4, (done, recorded("kept"))
    if HAS_BF16:
        run("train", "--resume", "kept", "--epochs", "3", "--precision", "auto")
        assert recorded("kept") == ["bf16"] * 2 + ["fp32"] * 2 + ["bf16"], recorded("kept")


def bf16_is_refused_without_avx512():
    words = "this processor lacks AVX-512, without which the engine has no bf16: the run's --precision must be fp32, or auto"
    with Cpu("AVX2"):
        for how in ("--local", "--split", "--processes"):
            assert words in run("train", how, *RUN, "--precision", "bf16", "--out", "refused", code=1)
    assert not os.path.exists("refused")


def emulation_warns_and_a_client_without_bf16_says_why():
    if not HAS_AVX512:
        print("SKIP: no AVX-512 here: emulation, and a client without bf16 in a run with it")
        return
    words = "precision bf16: this processor has no instructions for it and trains at about half its speed in fp32"
    with Cpu("AVX512_CORE"):
        warned = Process("train", "--local", *RUN, "--precision", "bf16", "--epochs", "1", "--out", "emulated")
        warned.wait_for(words)
        warned.finish()
        assert recorded("emulated") == ["bf16"] * 3
        server = Process("server", "--listen", "tcp://127.0.0.1:*", *RUN, "--precision", "bf16", "--epochs", "1")
        endpoint = server.wait_for(r"listening on (tcp://127\.0\.0\.1:[0-9]+) ").group(1)
    with Cpu("AVX2"):
        assert "this processor lacks AVX-512" in run("client", "--connect", endpoint, code=1)
    with Cpu("AVX512_CORE"):
        client = Process("client", "--connect", endpoint)
        client.wait_for(words)
    client.finish()
    server.finish()


skip_without_fashion()
with Folder():
    auto_is_decided_and_recorded()
    a_run_keeps_its_own()
    if platform.machine() == "x86_64":
        bf16_is_refused_without_avx512()
        emulation_warns_and_a_client_without_bf16_says_why()
print(f"precision: as it should be with {'bf16' if HAS_BF16 else 'no bf16'} here ({CUTWIRE})")
