#!/usr/bin/python3
"""Trained runs used: eval; infer.py CUTWIRE."""
import json
import os
import shutil

from cli_run import Folder, last_object, run, skip_without_fashion

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
    table = run("eval", "trained", "--cut", "shallow,deep", "--test-limit", "20")
    assert "20 test samples" in table and "shallow" in table and "deep" in table, table


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


if __name__ == "__main__":
    skip_without_fashion()
    with Folder():
        reached = trained()
        evaluated(reached)
        evaluation_refuses()
