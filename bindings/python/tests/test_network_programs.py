"""Server and Client over TCP with cutwire's own programs at the other end."""
import copy
import json
import os
import subprocess

import pytest
import torch
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from networks import cnn
from training import PLAIN, Thread, network_like, plain_loop, write_safetensors

CUTWIRE = os.environ.get("CUTWIRE", "")


SETTINGS = {"model": "cnn", "cut": "2", "data": "fashion-mnist", "train-limit": "64", "test-limit": "64", "batch": "64",
            "optimizer": "sgd", "lr": "0.02", "momentum": "0.9", "weight-decay": "0.0005", "schedule": "constant",
            "precision": "fp32", "mask-gradient": "0"}
EPOCHS = 10  # of one step each: every step's loss is an epoch's


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    """Weights that all begin with, as a file and as a module, and the engine's own losses from there."""
    if not CUTWIRE:
        pytest.skip("no command cutwire: set CUTWIRE to its path")
    folder = tmp_path_factory.mktemp("mixed")
    torch.manual_seed(0)
    net = cnn()
    write_safetensors(folder / "begin.safetensors",
                      {k: v for k, v in net.state_dict().items() if v.is_floating_point()})
    made = subprocess.run([CUTWIRE, "train", "--split", *options(SETTINGS), "--epochs", str(EPOCHS), "--uplink", "none",
                           "--downlink", "none", "--update", "none", "--weights", str(folder / "begin.safetensors"),
                           "--out", str(folder / "run"), "--quiet", "--threads", "1"], capture_output=True, text=True)
    if "not found" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return folder / "begin.safetensors", net, lines


def options(settings):
    return [word for key, value in settings.items() for word in (f"--{key}", value)]


def follows(history, lines):
    assert len(history) == len(lines) == EPOCHS
    for mine, theirs in zip(history, lines):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-3)
    assert lines[-1]["train_loss"] < 0.8 * lines[0]["train_loss"]
    assert history[-1]["test_loss"] == pytest.approx(lines[-1]["test_loss"], abs=5e-3)


def engine_sgd(module):
    return torch.optim.SGD(module.parameters(), 0.02, momentum=0.9, weight_decay=0.0005)


def test_a_torch_server_with_a_client_of_c(beginning):
    weights, net, lines = beginning
    tail = cwt.split(copy.deepcopy(net), after="features.5")[1]
    server = cwt.Server(tail, engine_sgd(tail), F.cross_entropy, epochs=EPOCHS, **PLAIN,
                        config={**SETTINGS, "weights": weights})
    client = subprocess.Popen([CUTWIRE, "client", "--connect", server.endpoint, "--quiet", "--threads", "1"])
    history = server.fit()
    assert client.wait(20) == 0
    follows(history, lines)


def test_a_server_of_c_with_a_torch_client(beginning, tmp_path):
    """It takes the server's weights and learning rate; the data are those that the engine's client had."""
    weights, net, lines = beginning
    server = subprocess.Popen([CUTWIRE, "server", *options(SETTINGS), "--epochs", str(EPOCHS), "--uplink", "none",
                               "--downlink", "none", "--update", "none", "--weights", str(weights), "--listen",
                               "tcp://127.0.0.1:*", "--out", str(tmp_path / "run"), "--threads", "1"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    heard = []
    for line in server.stdout:
        heard.append(line)
        if "tcp://127.0.0.1:" in line and "*" not in line:
            break
    else:
        pytest.fail("".join(heard))
    words = [w for w in heard[-1].split() if w.startswith("tcp://")]
    reader = Thread(lambda: heard.extend(server.stdout))
    x, y = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    head = cwt.split(network_like(cnn, 3), after="features.5")[0]
    client = cwt.Client(head, engine_sgd(head), words[0].rstrip(".,"), follow_lr=True)
    client.fit([(x, y)], [(x, y)])
    assert server.wait(20) == 0, heard
    reader.join(5)
    server.stdout.close()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    reference = copy.deepcopy(net)
    losses = plain_loop(reference, engine_sgd(reference), F.cross_entropy, [(x, y)], EPOCHS)
    assert [line["train_loss"] for line in lines] == pytest.approx(losses, abs=1e-3)
    for name, value in head.state_dict().items():
        assert torch.allclose(value.float(), reference.state_dict()[name].float(), atol=1e-2), name


def test_a_batch_that_a_server_of_c_does_not_have(beginning):
    """Its clients' batches have the size that it says."""
    weights, net, _ = beginning
    tail = cwt.split(copy.deepcopy(net), after="features.5")[1]
    server = cwt.Server(tail, engine_sgd(tail), F.cross_entropy, join_timeout=1, **PLAIN,
                        config={**SETTINGS, "weights": weights})
    head = cwt.split(cnn(), after="features.5")[0]
    data = [(torch.rand(32, 1, 28, 28), torch.arange(32) % 10)] * 2
    thread = Thread(lambda: cwt.Client(head, engine_sgd(head), server.endpoint).fit(data))
    with pytest.raises(cutwire.Error):
        server.fit()
    thread.join(10)
    assert "batches have 64 samples, the feed's 32" in str(thread.failure)
