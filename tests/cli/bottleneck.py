#!/usr/bin/python3
"""A narrow place at the cut, trained with the network and alone: bottleneck.py CUTWIRE."""
import json
import pathlib
import struct

from cli_run import Folder, Process, last_object, run, skip_without_fashion

SMALL = ["--data", "fashion-mnist", "--model", "cnn", "--cut", "4", "--batch", "32", "--threads", "1", "--epochs", "1",
         "--train-limit", "768", "--test-limit", "64", "--json", "--quiet"]
NARROW = ["--bottleneck", "4:3/2"]
PLAIN = ["--uplink", "none", "--downlink", "none", "--update", "none"]


def tensors(path):
    """Bytes of each."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + size])
    return {name: data[8 + size:][slice(*t["data_offsets"])] for name, t in head.items() if name != "__metadata__"}


def trained_with_the_network():
    """Split without a codec is unsplit to the bit, also where maps are made smaller and larger again."""
    whole = last_object(run("train", "--local", *SMALL, *NARROW, "--out", "whole"))
    split = last_object(run("train", "--split", *SMALL, *NARROW, *PLAIN, "--out", "split"))
    assert whole["test_accuracy"] == split["test_accuracy"], (whole, split)
    assert tensors("whole/model.safetensors") == tensors("split/model.safetensors")


def trained_alone():
    """On top of a finished network, which stays as it is to the bit, by two clients through the codecs; and it goes on."""
    run("train", "--local", *SMALL, "--out", "plain")
    alone = [*SMALL, *NARROW, "--clients", "2", "--freeze"]
    run("train", "--processes", *alone, "--weights", "plain/model.safetensors", "--out", "alone")
    plain, narrow = tensors("plain/model.safetensors"), tensors("alone/model.safetensors")
    assert all(narrow[name] == plain[name] for name in plain), [n for n in plain if narrow[n] != plain[n]]
    added = sorted(set(narrow) - set(plain))
    assert len(added) == 10 and all(name.startswith("bottleneck.") for name in added), added
    run("train", "--split", *alone, "--epochs", "2", "--resume", "alone", "--out", "on")
    further = tensors("on/model.safetensors")
    assert all(further[name] == plain[name] for name in plain)
    assert further["bottleneck.encode.weight"] != narrow["bottleneck.encode.weight"]


def frozen_weights_do_not_travel():
    """Gradients are of what learns alone, both ways; without a codec the run is the unsplit one to the bit all the same."""
    less = ["--train-limit", "192", "--freeze", "--weights", "plain/model.safetensors"]
    run("train", "--local", *SMALL, *NARROW, *less, "--out", "frozen-whole")
    for n in (1, 2):
        out = f"frozen-{n}"
        more = ["--clients", str(n), "--in-flight", str(n), "--out", out]
        result = last_object(run("train", "--split", *SMALL, *NARROW, *PLAIN, *less, *more))
        learned = sum(len(data) for name, data in tensors(f"{out}/model.safetensors").items()
                      if name.startswith("bottleneck.encode") and "running" not in name)
        least, statistics = 192 // 32 * learned, 1000 * n
        assert learned and least <= result["uplink_weights_bytes"] <= 1.05 * least + statistics, (least, result)
    assert tensors("frozen-whole/model.safetensors") == tensors("frozen-1/model.safetensors")


def used():
    """Few bytes at its cut, the others as they were; over the network from two files, as in one piece."""
    result = last_object(run("eval", "alone", "--cut", "2,4", "--uplink", "none", "--json", "--quiet"))
    other, here = result["points"]
    assert other["raw_bytes_per_sample"] == 16 * 28 * 28 * 4 and here["raw_bytes_per_sample"] == 4 * 7 * 7 * 4, result
    run("models", "export", "--run", "alone", "--head", "head.safetensors", "--tail", "tail.safetensors")
    server = Process("serve", "--tail", "tail.safetensors", "--listen", "tcp://127.0.0.1:*", "--threads", "1")
    endpoint = server.wait_for(r"answering on (tcp://127\.0\.0\.1:[0-9]+):").group(1)
    ask = ["infer", "--connect", endpoint, "--uplink", "none", "--threads", "1", "--json", "--quiet"]
    answers = last_object(run(*ask, "--head", "head.safetensors", "--data", "fashion-mnist", "--test-limit", "64"))
    assert answers["test_accuracy"] == here["test_accuracy"] == result["test_accuracy"], (answers, here)
    assert "both need the same run" in run(*ask, "--run", "plain", code=1)
    server.interrupt()
    server.finish()


def refused():
    assert "C channels" in run("train", "--local", *SMALL, "--bottleneck", "4:2", code=2)
    assert "valid cuts are" in run("train", "--local", *SMALL, "--bottleneck", "4@99", code=2)
    assert "goes with a bottleneck" in run("train", "--local", *SMALL, "--freeze", code=2)
    assert "give --weights" in run("train", "--local", *SMALL, *NARROW, "--freeze", code=2)
    early = run("train", "--split", *SMALL, "--cut", "2", "--bottleneck", "4:3/2@4", "--freeze", "--weights",
                "plain/model.safetensors", code=1)
    assert "cut there or behind it (--cut 4), or train without --freeze" in early, early


if __name__ == "__main__":
    skip_without_fashion()
    with Folder():
        trained_with_the_network()
        trained_alone()
        frozen_weights_do_not_travel()
        used()
        refused()
