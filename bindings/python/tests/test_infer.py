"""Remote and serve: a network across its cut is the local one, with what goes wrong, and with cutwire's own programs."""
import contextlib
import copy
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import threading
import time

import numpy
import pytest
import torch
from torch import nn

import cutwire
import cutwire.torch as cwt
from networks import cnn

torch.set_num_threads(1)
CUTWIRE = os.environ.get("CUTWIRE", "")
SHAPE = (8, 6, 6)  # at the cut of network()


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(8 * 36, 4))
    net[1].running_mean.uniform_(-0.2, 0.2)
    return net.eval()


def halves(seed=0):
    return cwt.split(network(seed), after="3")


def images(n=5, seed=1):
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


class refused:
    """cutwire.Error with this code, and a sentence that matches."""

    def __init__(self, status, words=""):
        self.status, self.words = status, words

    def __enter__(self):
        return self

    def __exit__(self, kind, value, _):
        assert kind is cutwire.Error, kind
        assert value.code == self.status and re.search(self.words, str(value)), (value.code, str(value))
        self.value = value
        return True


# ---- equal ----


def test_a_remote_is_the_local_network():
    head, tail = halves()
    with cwt.serve(tail, SHAPE, head=head, model="small", cut=3, classes=["a", "b", "c", "d"], max_batch=4) as service:
        with cwt.Remote(head, service.endpoint, "none", tail=tail, model="small", cut=3) as remote:
            assert remote.model == "small" and remote.cut == 3 and remote.outputs == 4 and remote.up == "none"
            assert remote.class_names == ["a", "b", "c", "d"] and remote.max_samples == 4
            with torch.no_grad():
                for n in (1, 3, 4, 11):  # 11: three requests
                    x = images(n, n)
                    assert torch.allclose(remote(x), network()(x), rtol=1e-6, atol=1e-6)
                one = images(1)
                assert torch.equal(remote(one), network()(one))
            futures = [remote.submit(images(2, seed)) for seed in range(20)]  # more than the credit
            for seed, future in enumerate(futures):
                assert torch.allclose(future.result(20), network()(images(2, seed)), rtol=1e-6, atol=1e-6)
            stats = remote.stats
            assert stats["requests"] == stats["answers"] == 27 and stats["connections"] == 1 and stats["repeated"] == 0
    assert service.stats["requests"] == 27 and service.stats["samples"] == 60 and service.stats["clients"] == 1
    assert 0 < service.stats["p50"] <= service.stats["slowest"]


def test_likeliest_classes_and_a_codec():
    head, tail = halves()
    with cwt.serve(tail, SHAPE, up="ec:err=0.05") as service:
        with cwt.Remote(head, service.endpoint, top=2) as remote:
            assert remote.up == "ec:err=0.05"
            guesses = remote(images(100))
            exact = network()(images(100)).softmax(1).sort(descending=True)
            assert guesses.labels.shape == guesses.probabilities.shape == (100, 2)
            assert (guesses.labels[:, 0] == exact.indices[:, 0]).float().mean() > 0.9
            assert torch.allclose(guesses.probabilities, exact.values[:, :2], atol=0.05)
            assert 0 < remote.stats["payload_bytes"] < 100 * 8 * 36 * 4 / 3


def test_a_profile_is_sent_once():
    head, tail = halves()
    with torch.no_grad():
        maps = head(images(64, 9))
    profile, taken = cutwire.Profile.train(cutwire.Codec("ec:err=0.1"), [maps]), []
    for given in (None, profile):
        with cwt.serve(tail, SHAPE, profile=given) as service:
            with cwt.Remote(head, service.endpoint, "ec:err=0.1") as remote, torch.no_grad():
                answers = torch.cat([remote(x) for x in images(20, 3).split(1)])
                assert (answers.argmax(1) == network()(images(20, 3)).argmax(1)).float().mean() > 0.7
                taken.append(remote.stats["payload_bytes"])
    assert taken[1] < 0.95 * taken[0], taken


def test_inputs_of_several_parts_and_no_head():
    class Both(nn.Module):
        def forward(self, a, b=None):
            return a + b

    tail = nn.Linear(3, 2)
    with cwt.serve(tail, (3,)) as service:
        x = torch.rand(2, 4, 3)
        with cwt.Remote(Both(), service.endpoint, "none") as remote:
            assert torch.allclose(remote({"a": x[0], "b": x[1]}), tail(x[0] + x[1]), atol=1e-6)
            assert torch.allclose(remote((x[0], x[1])), tail(x[0] + x[1]), atol=1e-6)
        with cwt.Remote(None, service.endpoint, "none") as remote:
            assert torch.allclose(remote(x[0]), tail(x[0]), atol=1e-6)


def test_threads_and_clients_are_answered_together():
    head, tail = halves()
    done, local = [], network()
    with torch.no_grad(), cwt.serve(tail, SHAPE, max_wait=0.02) as service:
        def ask(remote, seed):
            for i in range(5):
                x = images(1, 100 * seed + i)
                assert torch.allclose(remote(x), local(x), rtol=1e-5, atol=1e-6)
            done.append(seed)

        remotes = [cwt.Remote(copy.deepcopy(head), service.endpoint, "none") for _ in range(3)]
        threads = [threading.Thread(target=ask, args=(remotes[i % 3], i)) for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        for r in remotes:
            r.close()
    assert sorted(done) == list(range(6))
    assert service.stats["batches"] < service.stats["requests"] == 30 and service.stats["clients"] == 3


# ---- fingerprints ----


def test_fingerprints():
    head, tail = halves()
    assert cwt.fingerprint(head) == cwt.fingerprint(halves()[0]) != cwt.fingerprint(halves(1)[0])
    net = network()
    whole = cwt.fingerprint(net)
    assert (cwt.fingerprint(head) + cwt.fingerprint(tail)) % 2**64 == whole  # split keeps the names
    net[1].num_batches_tracked += 1
    assert cwt.fingerprint(net) == whole == cwt.fingerprint(net.train())
    with torch.no_grad():
        net[5].bias[0] += 1e-3
    assert cwt.fingerprint(net) != whole
    odd = nn.Module()
    for name, dtype in (("a", torch.bool), ("b", torch.int8), ("c", torch.int16), ("d", torch.complex64)):
        odd.register_buffer(name, torch.tensor([0, 1], dtype=dtype))
    other = copy.deepcopy(odd)
    assert cwt.fingerprint(odd) == cwt.fingerprint(other)
    for buffer in other.buffers():
        kept = buffer.clone()
        buffer[0] = 1j if buffer.is_complex() else 1
        assert cwt.fingerprint(odd) != cwt.fingerprint(other)
        buffer.copy_(kept)
    half = nn.Linear(2, 2).bfloat16()
    assert cwt.fingerprint(half) == cwt.fingerprint(copy.deepcopy(half).float())


def test_other_weights_are_refused_with_both_names():
    head, tail = halves()
    other_head, other_tail = halves(1)
    with cwt.serve(tail, SHAPE, head=head, model="small", cut=3) as service:
        here = f"{cwt.fingerprint(other_head):016x}"
        with refused("CW_ERR_MISMATCH", here) as r:
            cwt.Remote(other_head, service.endpoint)
        assert f"{cwt.fingerprint(head):016x}" in str(r.value) and "small cut at 3" in str(r.value)
        with refused("CW_ERR_MISMATCH", f"{cwt.fingerprint(other_tail):016x}") as r:
            cwt.Remote(head, service.endpoint, tail=other_tail)
        assert f"{cwt.fingerprint(tail):016x}" in str(r.value)
        with refused("CW_ERR_MISMATCH", "large cut at 3"):
            cwt.Remote(head, service.endpoint, model="large", cut=3)
        with refused("CW_ERR_MISMATCH", "small cut at 3.*cut at 4"):
            cwt.Remote(head, service.endpoint, cut=4)
        cwt.Remote(None, service.endpoint, weights=cwt.fingerprint(head)).close()
        with refused("CW_ERR_MISMATCH", "0000000000000005"):
            cwt.Remote(head, service.endpoint, weights=5)


# ---- what goes wrong ----


def test_another_shape_and_nan_are_errors_here():
    head, tail = halves()
    with cwt.serve(tail, SHAPE, max_batch=4) as service, cwt.Remote(head, service.endpoint, "none") as remote:
        with refused("CW_ERR_MISMATCH", r"\(8, 8, 8\).*\(8, 6, 6\)"):
            remote(torch.rand(1, 1, 16, 16))
        with refused("CW_ERR_INVALID", "4 in a request"):
            remote.submit(images(5))
        with refused("CW_ERR_MISMATCH", "no samples"):
            remote(images(0))
        with pytest.raises(TypeError, match="at the cut"):
            cwt.Remote(None, service.endpoint)([1, 2])
        with refused("CW_ERR_NONFINITE"):
            remote(images(1) * float("nan"))
        assert torch.equal(remote(images(1)), network()(images(1)))  # nothing is spoilt by it


def test_what_the_tail_raises_is_told_to_who_asked():
    class Moody(nn.Linear):
        def forward(self, z):
            if (z > 100).any():
                raise ValueError("more than a hundred")
            return super().forward(z) if (z >= 0).all() else super().forward(z) * float("inf")

    said = []
    with cwt.serve(Moody(3, 2), (3,), log=said.append) as service:
        with cwt.Remote(None, service.endpoint, "none") as remote:
            with pytest.raises(cutwire.Error, match="more than a hundred"):
                remote(torch.full((1, 3), 101.0))
            with refused("CW_ERR_NONFINITE", "not finite"):
                remote(torch.full((1, 3), -1.0))
            assert remote(torch.ones(2, 3)).shape == (2, 2)
    assert any("ValueError: more than a hundred" in s for s in said) and any("joined" in s for s in said)


def test_what_makes_no_sense_is_refused_at_once():
    head, tail = halves()
    with pytest.raises(TypeError, match="torch.nn.Module"):
        cwt.serve(lambda x: x, SHAPE)
    with pytest.raises(TypeError, match="torch.nn.Module"):
        cwt.Remote(lambda x: x, "tcp://127.0.0.1:1")
    with pytest.raises(RuntimeError):  # PyTorch's own: the tail cannot take it
        cwt.serve(tail, (3, 6, 6))
    with pytest.raises(TypeError, match="gave tuple"):
        cwt.serve(nn.LSTM(3, 2), (4, 3))
    with pytest.raises(TypeError, match=r"sizes of one sample .* or \(8,\), not 8"):
        cwt.serve(nn.Linear(8, 2), 8)

    class Squeezing(nn.Linear):
        def forward(self, z):
            return super().forward(z).squeeze()

    with pytest.raises(TypeError, match=r"of shape \(2,\) for 1 sample of \(8,\): .*a squeeze"):
        cwt.serve(Squeezing(8, 2), (8,))
    with refused("CW_ERR_SPEC", "uplink"):
        cwt.serve(tail, SHAPE, up="zip")
    with refused("CW_ERR_MISMATCH", "3 names of classes for 4"):
        cwt.serve(tail, SHAPE, classes=["a", "b", "c"])
    with refused("CW_ERR_INVALID"):
        cwt.serve(tail, SHAPE, listen="somewhere")
    with refused("CW_ERR_INVALID", "not be encrypted"):
        cwt.serve(tail, SHAPE, listen="tcp://192.0.2.1:5")
    with cwt.serve(tail, SHAPE) as service, refused("CW_ERR_IO"):
        cwt.serve(tail, SHAPE, listen=service.endpoint)  # taken
    with refused("CW_ERR_TIMEOUT", "is the server running there"):
        cwt.Remote(head, "tcp://127.0.0.1:1", join_timeout=0.3)
    with cwt.serve(tail, SHAPE) as service:
        with refused("CW_ERR_SPEC"):
            cwt.Remote(head, service.endpoint, "zip")
        with refused("CW_ERR_INVALID", "4"):
            cwt.Remote(head, service.endpoint, top=5)
    service.close()


def test_a_server_without_room_says_so_at_once():
    head, tail = halves()
    with cwt.serve(tail, SHAPE, max_clients=1) as service:
        with cwt.Remote(head, service.endpoint):
            began = time.monotonic()
            with pytest.raises(cutwire.Error, match="the one place"):
                cwt.Remote(head, service.endpoint)
            assert time.monotonic() - began < 5


def test_a_deadline_ends_in_an_error_and_close_in_another():
    gate = threading.Event()

    class Slow(nn.Linear):
        def forward(self, z):
            if z.any():
                gate.wait(20)
            return super().forward(z)

    with cwt.serve(Slow(3, 2), (3,)) as service:
        try:
            with cwt.Remote(None, service.endpoint, "none", deadline=0.5) as remote:
                began = time.monotonic()
                with refused("CW_ERR_TIMEOUT", "within 0.5 s"):
                    remote(torch.ones(1, 3))
                assert 0.4 < time.monotonic() - began < 5
        finally:
            gate.set()
        remote = cwt.Remote(None, service.endpoint, "none")
        gate.clear()
        try:
            future = remote.submit(torch.ones(1, 3))
            remote.close()
            with refused("CW_ERR_CANCELLED", "closed"):
                future.result(5)
            with pytest.raises(ValueError, match="closed"):
                remote(torch.ones(1, 3))
            remote.close()
        finally:
            gate.set()


def test_a_callback_cannot_wait_for_an_answer():
    head, tail = halves()
    x, got, done = images(), [], threading.Event()

    def ask(_):
        for call in (remote, remote.submit):
            try:
                got.append(call(x))
            except RuntimeError as e:
                got.append(e)
        done.set()

    gate = threading.Event()
    tail.register_forward_pre_hook(lambda _, z: None if not z[0].any() or gate.wait(20) else z)
    with cwt.serve(tail, SHAPE) as service, cwt.Remote(head, service.endpoint, "none") as remote:
        remote.submit(x).add_done_callback(ask)
        gate.set()
        assert done.wait(30)
        assert "let another thread ask" in str(got[0])
        assert torch.equal(got[1].result(30), remote(x))  # submit() need not wait where there is room


def test_a_forked_child_leaves_its_parents_connections_alone():
    head, tail = halves()
    x = images()
    with cwt.serve(tail, SHAPE) as service, cwt.Remote(head, service.endpoint, "none") as remote:
        wanted = remote(x)
        child = os.fork()
        if child == 0:
            remote.close()
            service.close()
            os._exit(0)
        try:
            ended = time.monotonic() + 20
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                assert time.monotonic() < ended
                time.sleep(0.05)
            child = None
        finally:
            if child:
                os.kill(child, 9)
                os.waitpid(child, 0)
        assert torch.equal(remote(x), wanted)


#: It keeps requests waiting for others.
SERVER = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_infer, cutwire.torch as cwt
head, tail = test_infer.halves()
service = cwt.serve(tail, test_infer.SHAPE, head=head, max_wait=1000, max_batch=8)
print(service.endpoint, flush=True)
service.wait()
"""


@contextlib.contextmanager
def started(*command):
    """A program whose output has its endpoint; killed in the end."""
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(cutwire.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as p:
        try:
            found = (re.search(r"tcp://127.0.0.1:\d+", line) for line in p.stdout)
            yield p, next(f.group() for f in found if f)
        finally:
            p.kill()


def test_a_killed_server_that_comes_back_is_asked_again():
    given = []
    folder = str(pathlib.Path(__file__).parent)
    with started(sys.executable, "-c", SERVER, folder) as (_, endpoint):
        remote = cwt.Remote(halves()[0], endpoint, "none", deadline=60)
        futures = [remote.submit(images(1, seed)) for seed in range(3)]
        for seed, f in enumerate(futures):
            f.add_done_callback(lambda _, seed=seed: given.append(seed))
        time.sleep(0.3)
    assert not given
    head, tail = halves()
    with remote, cwt.serve(tail, SHAPE, endpoint, head=head, max_batch=8), torch.no_grad():
        for seed, future in enumerate(futures):
            assert torch.allclose(future.result(30), network()(images(1, seed)), rtol=1e-6, atol=1e-6)
        assert torch.allclose(remote(images(4)), network()(images(4)), rtol=1e-6, atol=1e-6)
        assert sorted(given) == [0, 1, 2]  # none twice
        stats = remote.stats
        assert stats["connections"] >= 2 and stats["repeated"] == 3 and stats["answers"] == 4


def test_keys_let_in_and_keep_out(tmp_path):
    head, tail = halves()
    for name in ("server", "device", "stranger"):
        cwt.keygen(tmp_path / name)
    with cwt.serve(tail, SHAPE, secret_key=tmp_path / "server", client_keys=tmp_path / "device.pub") as service:
        with cwt.Remote(head, service.endpoint, "none", secret_key=tmp_path / "device",
                        server_key=tmp_path / "server.pub") as remote:
            assert torch.equal(remote(images(1)), network()(images(1)))
        with refused("CW_ERR_CLOSED", ""):
            cwt.Remote(head, service.endpoint, secret_key=tmp_path / "stranger", server_key=tmp_path / "server.pub",
                       join_timeout=3)


# ---- with cutwire's own programs ----


def load(net, path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = {k: v for k, v in json.loads(data[8:8 + size]).items() if k != "__metadata__"}
    state = {name: torch.from_numpy(numpy.frombuffer(data[8 + size:][slice(*t["data_offsets"])],
                                                     numpy.float32).copy().reshape(t["shape"]))
             for name, t in head.items() if t["dtype"] == "F32"}
    missing = net.load_state_dict(state, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys) and not missing.unexpected_keys


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, its network in PyTorch, and 20 images of its test split."""
    if not CUTWIRE:
        pytest.skip("no command cutwire: set CUTWIRE to its path")
    folder = tmp_path_factory.mktemp("infer")
    made = subprocess.run([CUTWIRE, "train", "--local", "--model", "cnn", "--cut", "2", "--data", "fashion-mnist",
                           "--train-limit", "256", "--test-limit", "20", "--epochs", "1", "--threads", "1", "--quiet",
                           "--out", str(folder / "run")], capture_output=True, text=True)
    if "not found" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    net = cnn().eval()
    load(net, folder / "run" / "model.safetensors")
    x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    numpy.save(folder / "x.npy", x.numpy())
    return folder, net, x


def test_a_head_of_pytorch_with_a_server_of_c(trained):
    folder, net, x = trained
    head, tail = cwt.split(net, after="features.5")
    with started(CUTWIRE, "serve", "--run", str(folder / "run"), "--listen", "tcp://127.0.0.1:*", "--threads",
                 "1") as (_, endpoint):
        with cwt.Remote(head, endpoint, "none", tail=tail, model="cnn", cut=2) as remote:
            assert torch.allclose(remote(x), net(x), atol=1e-4)
        other = copy.deepcopy(head)
        with torch.no_grad():
            next(other.parameters())[0, 0, 0, 0] += 1e-3
        with refused("CW_ERR_MISMATCH", f"{cwt.fingerprint(other):016x}"):
            cwt.Remote(other, endpoint)


def test_a_head_of_c_with_a_server_of_pytorch(trained):
    folder, net, x = trained
    head_file = folder / "head.safetensors"
    subprocess.run([CUTWIRE, "models", "export", "--run", str(folder / "run"), "--cut", "2", "--head", str(head_file),
                    "--tail", str(folder / "tail.safetensors")], check=True, capture_output=True)
    head, tail = cwt.split(net, after="features.5")
    with cwt.serve(tail, (16, 28, 28), head=head, model="cnn", cut=2) as service:
        ask = [CUTWIRE, "infer", "--head", str(head_file), "--connect", service.endpoint, "--uplink", "none", "--print",
               "--threads", "1", str(folder / "x.npy")]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said = [int(n) for n in re.findall(r"x\.npy.*?\b(\d+)\s+\d+\.\d+", done.stdout)]
        print(done.stdout)
        assert len(said) >= 20 or "x.npy" in done.stdout
    with torch.no_grad():
        next(tail.parameters())[0] += 1
    with cwt.serve(tail, (16, 28, 28), head=head, model="cnn", cut=2) as service:
        ask[ask.index("--connect") + 1] = service.endpoint
        done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and f"{cwt.fingerprint(tail):016x}" in done.stderr, done.stderr
