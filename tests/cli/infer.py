#!/usr/bin/python3
"""Trained runs used: eval, and infer with serve; infer.py CUTWIRE."""
import csv
import json
import os
import shutil
import signal
import struct
import time
import zlib

from cli_run import Folder, Process, last_object, run, skip_without_fashion

SMALL = ["--data", "fashion-mnist", "--model", "cnn", "--cut", "2", "--batch", "32", "--threads", "1", "--epochs", "1",
         "--train-limit", "1024", "--test-limit", "128"]


def trained():
    """A run's accuracy as training has it."""
    return last_object(run("train", "--local", *SMALL, "--out", "trained", "--json"))["test_accuracy"]


def evaluated(accuracy):
    """The whole network's answers are the training's; at every cut bytes fall and errors rise with the codec."""
    specs = "none,ec:err=0.05,ms:r=0.9,b=4,ec:err=0.6"
    result = last_object(run("eval", "trained", "--cut", "all", "--uplink", specs, "--json", "--quiet"))
    assert result["samples"] == 128 and result["test_accuracy"] == accuracy, result
    points = result["points"]
    assert len(points) == 6 * 4 and [p["cut"] for p in points[::4]] == [1, 2, 3, 4, 5, 6], points
    assert [p["codec"] for p in points[:4]] == ["none", "ec:err=0.05", "ms:r=0.9,b=4", "ec:err=0.6"], points
    for none, fine, _, coarse in zip(*[iter(points)] * 4):
        assert none["test_accuracy"] == accuracy and none["agreement"] == 1 and none["error"] == 0, none
        assert none["bytes_per_sample"] > none["raw_bytes_per_sample"], none
        assert fine["agreement"] > 0.97 and fine["error"] <= 0.0501, fine
        assert coarse["bytes_per_sample"] < fine["bytes_per_sample"] < none["bytes_per_sample"], (fine, coarse)
        assert coarse["error"] > 0.5, coarse
    one = last_object(run("eval", "trained", "--json"))["points"]
    many = last_object(run("eval", "trained", "--batch", "32", "--json"))["points"]
    assert len(one) == 1 and one[0]["cut"] == 2, one
    assert many[0]["bytes_per_sample"] < one[0]["bytes_per_sample"], (one, many)
    answers_kept(points[:4])
    table = run("eval", "trained", "--cut", "shallow,deep", "--test-limit", "20")
    assert "20 test samples" in table and "shallow" in table and "deep" in table, table


def answers_kept(points):
    """Of each sample, each in its place: their counts are the shares that are told."""
    run("eval", "trained", "--cut", "1", "--uplink", ",".join(p["codec"] for p in points), "--answers", "a.csv", "--quiet")
    with open("a.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    whole = [r for r in rows if r["cut"] == "0"]
    assert [int(r["sample"]) for r in whole] == list(range(128)) and len(rows) == 128 * 5, len(rows)
    for p in points:
        own = [r for r in rows if r["codec"] == p["codec"]]
        assert [r["sample"] for r in own] == [r["sample"] for r in whole] and {r["cut"] for r in own} == {"1"}, p
        assert sum(r["answer"] == r["label"] for r in own) == round(128 * p["test_accuracy"]), p
        assert sum(r["answer"] == w["answer"] for r, w in zip(own, whole)) == round(128 * p["agreement"]), p
    assert "cannot write nowhere/a.csv" in run("eval", "trained", "--answers", "nowhere/a.csv", code=1)
    assert "No space left" in run("eval", "trained", "--answers", "/dev/full", code=1)


def evaluation_refuses():
    assert "valid cuts are" in run("eval", "trained", "--cut", "2,99", code=2)
    assert "no key \"q\"" in run("eval", "trained", "--uplink", "none,ec:q=1", code=2)
    assert "from 1 to 64" in run("eval", "trained", "--batch", "0", code=2)
    assert "config.json" in run("eval", ".", code=1)
    shutil.copytree("trained", "cut_short")
    for name in ("model.safetensors", "checkpoint.safetensors"):
        os.remove("cut_short/" + name)
    assert "has not come to an end" in run("eval", "cut_short", code=1)
    with open("cut_short/config.json") as f:
        config = json.load(f)
    shutil.copy("trained/model.safetensors", "cut_short")
    with open("cut_short/config.json", "w") as f:
        json.dump(config | {"model": "mlp", "cut": "1"}, f)
    assert "cut_short" in run("eval", "cut_short", code=1)
    with open("cut_short/config.json", "w") as f:
        f.write("[1]")
    assert "config.json" in run("eval", "cut_short", code=1)


def profiled(accuracy):
    """What the maps have in common is sent once: single samples take less, the answers are as good, and a server that comes
    back without it is told from the one before."""
    server, endpoint = serve()
    ask = ["infer", "--run", "trained", "--threads", "1", "--json", "--quiet"]
    before = last_object(run(*ask, "--connect", endpoint))
    server.interrupt()
    server.finish()
    learned = last_object(run("models", "profile", "--run", "trained", "--samples", "64", "--threads", "1", "--json"))
    assert learned["cut"] == 2 and learned["bytes_per_sample"] < 0.9 * learned["bytes_per_sample_without"], learned
    assert os.path.getsize("trained/cut2.profile") == learned["profile_bytes"] > 100, learned
    run("models", "export", "--run", "trained", "--tail", "profiled.safetensors")
    for more in (["--run", "trained"], ["--tail", "profiled.safetensors"]):
        server = Process("serve", *more, "--listen", "tcp://127.0.0.1:*", "--threads", "1", "--json")
        endpoint = server.wait_for(r"answering on (tcp://127\.0\.0\.1:[0-9]+):").group(1)
        after = last_object(run(*ask, "--connect", endpoint))
        assert after["payload_bytes_per_sample"] < 0.95 * before["payload_bytes_per_sample"], (before, after)
        assert abs(after["test_accuracy"] - before["test_accuracy"]) < 0.05, (before, after)
        assert last_object(run(*ask, "--connect", endpoint, "--uplink", "none"))["test_accuracy"] == accuracy
        server.interrupt()
        server.finish()
    points = last_object(run("eval", "trained", "--cut", "2,deep", "--json"))["points"]
    assert abs(points[0]["bytes_per_sample"] - after["payload_bytes_per_sample"]) < 1, (points, after)
    assert "for codec ec" in run("models", "profile", "--run", "trained", "--uplink", "none", code=1)
    assert "--samples" in run("models", "profile", "--run", "trained", "--samples", "1", code=2)
    with open("trained/cut2.profile", "r+b") as f:
        f.write(b"x")
    assert "cut2.profile" in run("eval", "trained", code=1)
    os.remove("trained/cut2.profile")


def killed():
    """The place of a client that is killed is free long before --timeout, and what it asked for harms nobody."""
    server, endpoint = serve("--max-clients", "1", "--max-batch", "64", "--max-wait", "60000")
    ask = ["infer", "--connect", endpoint, "--run", "trained", "--threads", "1", "--test-limit", "4", "--json", "--quiet"]
    client = Process(*ask)  # which waits: no batch is full
    server.wait_for("client 1 joined")
    assert "place of this run is taken" in run(*ask, code=1)
    client.kill()
    began = time.monotonic()
    server.wait_for("client 1 is out: its connection is gone", 10)
    assert time.monotonic() - began < 5
    other = Process(*ask[:-4], "--json", "--quiet", "--batch", "64", "--test-limit", "64")
    assert last_object(other.finish())["samples"] == 64
    server.interrupt()
    server.finish()


def serve(*more, listen="tcp://127.0.0.1:*"):
    server = Process("serve", "--run", "trained", "--listen", listen, "--threads", "1", "--json", *more)
    return server, server.wait_for(r"answering on (tcp://127\.0\.0\.1:[0-9]+):").group(1)


def public_key(name):
    with open(f"{name}.key.pub", encoding="utf-8") as f:
        return next(line.strip() for line in f if line[0] not in "#\n")


def rotation():
    """SIGHUP reads the list of keys again: a key that is new on it is let in, one that is off it refused. Who is connected
    stays, and a list that is broken changes nothing."""
    for name in ("server", "alice", "bob"):
        run("keygen", f"{name}.key")

    def write(text):
        with open("clients.pub", "w", encoding="utf-8") as f:
            f.write(text + "\n")
    write(public_key("alice"))
    server, endpoint = serve("--key", "server.key", "--client-keys", "clients.pub", "--max-batch", "64", "--max-wait", "600000")
    ask = ["infer", "--connect", endpoint, "--run", "trained", "--threads", "1", "--server-key", "server.key.pub", "--json",
           "--quiet", "--deadline", "600"]
    alice = Process(*ask, "--key", "alice.key", "--test-limit", "4")  # which waits: no batch is full
    server.wait_for("client 1 joined")
    for text, said in (("no key", "the list of keys stays as it was: clients.pub, line 1: not a key"),
                       (public_key("bob"), "read clients.pub again: 1 key of clients is let in from now on")):
        assert "not on its list" in run(*ask, "--key", "bob.key", code=1)
        write(text)
        server.interrupt(signal.SIGHUP)
        server.wait_for(said)
    assert "not on its list" in run(*ask, "--key", "alice.key", code=1)
    assert last_object(run(*ask, "--key", "bob.key", "--batch", "60", "--test-limit", "60"))["samples"] == 60
    assert last_object(alice.finish())["samples"] == 4
    server.interrupt()
    server.finish()


def npy(name, values, *shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(name, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        f.write(struct.pack(f"<{len(values)}f", *values))


def inferred(accuracy):
    """Without loss the answers are the whole network's; with the run's codec nearly, in a fraction of the bytes."""
    server, endpoint = serve("--max-batch", "16")
    ask = ["infer", "--connect", endpoint, "--run", "trained", "--threads", "1", "--local", "--json", "--quiet"]
    exact = last_object(run(*ask, "--uplink", "none"))
    assert exact["samples"] == 128 and exact["test_accuracy"] == accuracy and exact["agreement"] == 1, exact
    assert exact["local_accuracy"] == accuracy and exact["bytes_per_sample"] > 16 * 28 * 28 * 4, exact
    coded = last_object(run(*ask))
    assert coded["uplink"] == "ec:err=0.15" and coded["agreement"] > 0.9 and coded["repeated"] == 0, coded
    assert 100 < coded["bytes_per_sample"] < coded["payload_bytes_per_sample"] < 3000, coded  # less than whole payloads
    assert 0 < coded["p50_ms"] <= coded["p95_ms"] <= coded["p99_ms"] and coded["seconds"] > 0, coded
    assert coded["downlink_bytes"] < 20000, coded
    many = last_object(run(*ask, "--batch", "16", "--in-flight", "2", "--test-limit", "40"))
    assert many["samples"] == 40 and many["requests"] == 3, many
    assert many["bytes_per_sample"] < coded["bytes_per_sample"], (many, coded)
    printed = run("infer", "--connect", endpoint, "--run", "trained", "--test-limit", "2", "--top", "2", "--print")
    assert "sample 2: " in printed and "it is Pullover" in printed and "%" in printed, printed
    from_files(endpoint)
    refused(endpoint)
    server.interrupt()
    totals = last_object(server.finish())
    assert totals["requests"] > 260 and totals["refused"] == 0 and totals["clients"] >= 4, totals


def from_files(endpoint):
    """.npy files of one sample and of several; what is none, or of another shape, is named."""
    ask = ["infer", "--connect", endpoint, "--run", "trained"]
    npy("one.npy", [0.5] * 784, 1, 28, 28)
    npy("two.npy", [0.0] * 784 + [1.0] * 784, 2, 1, 28, 28)
    printed = run(*ask, "one.npy", "two.npy")
    assert "one.npy 1: " in printed and "two.npy 2: " in printed and "3 samples" in printed, printed
    npy("other.npy", [0.0] * 784, 28, 28)
    npy("bad.npy", [float("nan")] + [0.0] * 783, 1, 28, 28)
    with open("text.npy", "w") as f:
        f.write("not an array")
    photos(ask)
    assert "1x28x28" in run(*ask, "other.npy", code=1)
    assert "NaN" in run(*ask, "bad.npy", code=1)
    assert "text.npy" in run(*ask, "one.npy", "text.npy", "--json", code=1)
    assert "absent.npy" in run(*ask, "absent.npy", code=1)


def png(name, width, height, grey):
    """A grey PNG; grey(x, y)."""
    rows = b"".join(b"\0" + bytes(grey(x, y) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(name, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def photos(ask):
    """A photo of the right size is what the data set would make of its pixels; others are resized."""
    def grey(x, y):
        return (x * 9 + y * 5) % 256 if 6 < x < 22 else 0

    os.makedirs("photos/more")
    png("photos/b.png", 28, 28, grey)
    png("photos/more/a.png", 56, 56, lambda x, y: grey(x // 2, y // 2))
    npy("same.npy", [(grey(x, y) / 255 - 0.28604060) / 0.35302424 for y in range(28) for x in range(28)], 1, 28, 28)
    printed = run(*ask, "--uplink", "none", "photos", "same.npy").splitlines()
    answers = [line.split(": ")[1] for line in printed[:3]]
    assert printed[0].startswith("photos/b.png 1: ") and printed[1].startswith("photos/more/a.png 1: "), printed
    assert answers[0] == answers[2] and answers[1].count("%") == 3, printed
    with open("torn.jpg", "wb") as f:
        f.write(b"\xff\xd8\xff\xe0 no more")
    assert "torn.jpg" in run(*ask, "torn.jpg", code=1)
    os.makedirs("empty")
    assert "no images" in run(*ask, "empty", code=1)


def refused(endpoint):
    text = run("infer", "--connect", endpoint, "--run", "trained", "--cut", "deep", "--test-limit", "1", code=1)
    assert "cnn cut at 2" in text and "cnn cut at 5" in text, text
    run("train", "--local", *SMALL, "--seed", "2", "--train-limit", "64", "--out", "another")
    text = run("infer", "--connect", endpoint, "--run", "another", "--test-limit", "1", code=1)
    assert text.count("cnn cut at 2") == 2 and "same run" in text, text
    assert "cutwire infer" in run("client", "--connect", endpoint, code=1)
    text = run("infer", "--connect", "tcp://127.0.0.1:1", "--run", "trained", "--join-timeout", "0.5", code=1)
    assert "is the server running there?" in text, text
    assert "--run is missing" in run("infer", code=2) and "--run is missing" in run("serve", code=2)
    assert "exclude each other" in run("infer", "--run", "trained", "--data", "cifar-10", "x.npy", code=2)


def server_comes_back(accuracy):
    """Killed in the middle and started again: every sample has its answer, once."""
    server, endpoint = serve()
    client = Process("infer", "--connect", endpoint, "--run", "trained", "--threads", "1", "--uplink", "none", "--json",
                     "--print", "--test-limit", "128")
    server.wait_for("client 1 joined")
    server.child.send_signal(signal.SIGKILL)
    server.child.wait()
    again, _ = serve(listen=endpoint)
    result = last_object(client.finish())
    assert result["samples"] == 128 and result["test_accuracy"] == accuracy, result
    again.interrupt()
    again.finish()


def exported(accuracy):
    """A device with the head alone, a server with the tail alone; sides that do not belong together are refused."""
    done = last_object(run("models", "export", "--run", "trained", "--cut", "deep", "--head", "h.safetensors", "--tail",
                           "t.safetensors", "--json"))
    assert done["cut"] == 5 and done["head_weights"] != done["tail_weights"], done
    run("models", "export", "--run", "another", "--cut", "deep", "--head", "h2.safetensors")
    server = Process("serve", "--tail", "t.safetensors", "--listen", "tcp://127.0.0.1:*", "--quiet")
    endpoint = server.wait_for(r"answering on (tcp://127\.0\.0\.1:[0-9]+):").group(1)
    ask = ["infer", "--connect", endpoint, "--uplink", "none", "--json", "--quiet"]
    result = last_object(run(*ask, "--head", "h.safetensors"))
    assert result["test_accuracy"] == accuracy and result["cut"] == 5, result
    assert last_object(run(*ask, "--run", "trained", "--cut", "deep", "--local", "--test-limit", "9"))["agreement"] == 1
    assert "both need the same run" in run(*ask, "--head", "h2.safetensors", code=1)
    assert "only the layers after" in run(*ask, "--head", "t.safetensors", code=1)
    server.interrupt()
    server.finish()
    assert "only the layers before" in run("serve", "--tail", "h.safetensors", code=1)
    assert "cut 5, not 2" in run("serve", "--tail", "t.safetensors", "--cut", "2", code=1)
    assert "one side of a network" in run("eval", "h.safetensors", code=1)
    assert "--local needs" in run(*ask, "--head", "h.safetensors", "--local", code=2)
    assert "name no side" in run("serve", "--tail", "trained/model.safetensors", code=1)
    with open("t.safetensors", "r+b") as f:
        f.seek(-1000, os.SEEK_END)
        f.write(b"\0" * 8)
    assert "t.safetensors" in run("serve", "--tail", "t.safetensors", code=1)
    assert "--run DIR is missing" in run("models", "export", code=2)


if __name__ == "__main__":
    skip_without_fashion()
    with Folder():
        reached = trained()
        evaluated(reached)
        evaluation_refuses()
        inferred(reached)
        server_comes_back(reached)
        killed()
        rotation()
        profiled(reached)
        exported(reached)
