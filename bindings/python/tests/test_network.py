"""Server and Client over TCP: equal to a plain loop, with codecs, with what goes wrong, and with cutwire's own programs."""
import copy
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from networks import cnn
from cutwire import _net

torch.set_num_threads(1)
PLAIN = {"up": "none", "down": "none", "update": "none"}
CUTWIRE = os.environ.get("CUTWIRE", "")


def batches(seed=1, sizes=(16, 16, 16, 7), shape=(1, 12, 12), classes=4):
    g = torch.Generator().manual_seed(seed)
    return [(torch.rand(n, *shape, generator=g), torch.randint(0, classes, (n,), generator=g)) for n in sizes]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(8 * 36, 4))


def sgd(module):
    return torch.optim.SGD(module.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


class Thread(threading.Thread):
    """A client's; what it raises is in `failure`."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.failure = work, None
        self.start()

    def run(self):
        try:
            self.work()
        except BaseException as e:
            self.failure = e


def run(server, clients, seconds=60):
    """fit() of all; (history, threads). clients: of (Client, train, test)."""
    threads = [Thread(lambda c=c: c[0].fit(*c[1:])) for c in clients]
    try:
        return server.fit(), threads
    finally:
        for t in threads:
            t.join(seconds)
            assert not t.is_alive()


def good(result):
    history, threads = result
    assert [t.failure for t in threads] == [None] * len(threads)
    return history


def plain_loop(model, optimizer, loss_fn, data, epochs, schedule=None, every="epoch"):
    losses = []
    for _ in range(epochs):
        model.train()
        total = count = 0
        for x, y in data:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total, count = total + float(loss) * len(x), count + len(x)
            if schedule and every == "step":
                schedule.step()
        if schedule and every == "epoch":
            schedule.step()
        losses.append(total / count)
    return losses


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


# ---- equal ----


@pytest.mark.parametrize("optimizer, schedule, every", [
    (sgd, None, "epoch"),
    (lambda m: torch.optim.AdamW(m.parameters(), 1e-2), lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5), "epoch"),
    (lambda m: torch.optim.SGD(m.parameters(), 0.05), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8), "step")])
def test_one_client_is_the_plain_loop_to_the_bit(optimizer, schedule, every):
    reference, model = network(), network()
    o = optimizer(reference)
    losses = plain_loop(reference, o, F.cross_entropy, batches(), 3, schedule and schedule(o), every)
    head, tail = cwt.split(model, after="3")
    oh, ot = optimizer(head), optimizer(tail)
    server = cwt.Server(tail, ot, F.cross_entropy, epochs=3, scheduler=schedule and schedule(ot), scheduler_every=every,
                        **PLAIN)
    client = cwt.Client(head, oh, server.endpoint, scheduler=schedule and schedule(oh), scheduler_every=every)
    history = good(run(server, [(client, batches(), batches(2))]))
    assert [h["train_loss"] for h in history] == losses
    same(reference.state_dict(), model.state_dict())
    reference.eval()
    with torch.no_grad():
        tested = [(float(F.cross_entropy(reference(x), y)), len(x), int((reference(x).argmax(1) == y).sum()))
                  for x, y in batches(2)]
    assert history[-1]["test_loss"] == pytest.approx(sum(t * n for t, n, _ in tested) / 55, abs=1e-12)
    assert history[-1]["test_accuracy"] == sum(c for _, _, c in tested) / 55
    assert history[-1]["train_samples"] == history[-1]["test_samples"] == 55
    assert history[-1]["uplink"]["payload_bytes"] >= history[-1]["uplink"]["raw_bytes"] > 0


def test_a_loader_that_shuffles_gives_the_same_batches():
    def loader():
        x, y = torch.cat([b[0] for b in batches()]), torch.cat([b[1] for b in batches()])
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 16, shuffle=True, drop_last=True)

    reference, model = network(), network()
    torch.manual_seed(7)
    losses = plain_loop(reference, sgd(reference), F.cross_entropy, loader(), 2)
    head, tail = cwt.split(model, after="3")
    torch.manual_seed(7)
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, epochs=2, **PLAIN)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), loader())]))
    assert [h["train_loss"] for h in history] == losses
    assert history[-1]["test_loss"] is None
    same(reference.state_dict(), model.state_dict())


@pytest.mark.parametrize("update", ["none", "ec:step=1,round=stochastic"])
def test_a_cut_is_the_network_with_its_codecs(update):
    codecs = {"up": "ec:err=0.15", "down": "ec:step=4.5,round=stochastic,scope=sample"}
    one, model = network(), network()
    head, tail = cwt.split(one, after="2")
    cut = cwt.Cut(**codecs, mask_gradient=True)
    both, optimizer, losses = nn.Sequential(head, cut, tail), sgd(one), []
    gradients = cwt.compress_gradients(head, update, optimizer=optimizer)
    for epoch in range(2):
        cut.set_epoch(epoch)
        gradients.set_epoch(epoch)
        losses += plain_loop(both, optimizer, F.cross_entropy, batches(), 1)
    head, tail = cwt.split(model, after="2")
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, epochs=2, update=update, mask_gradient=True, **codecs)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint, behind_relu=True), batches())]))
    assert [h["train_loss"] for h in history] == losses
    same(one.state_dict(), model.state_dict())
    assert history[-1]["uplink"]["payload_bytes"] == cut.stats.uplink_bytes
    assert history[-1]["downlink"]["payload_bytes"] == cut.stats.downlink_bytes


def test_two_clients_are_one_on_their_batches_together():
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 4))

    reference, model, heads = net(), net(), []
    mine, others = batches(1, (16, 16, 5)), batches(2, (8, 8))  # batches and numbers of their own
    together = [(torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in zip(mine, others)] + [mine[2]]
    losses = plain_loop(reference, sgd(reference), F.cross_entropy, together, 2)
    tail = cwt.split(model, after="2")[1]
    joined = threading.Event()
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, clients=2, epochs=2, **PLAIN,
                        log=lambda text: joined.set() if "client 1 joined" in text else None)
    clients = []
    for i, data in enumerate((mine, others)):
        head = cwt.split(net() if i == 0 else network_like(net, 5), after="2")[0]
        heads.append(head)
        clients.append((cwt.Client(head, sgd(head), server.endpoint), data, data))
    # The first to join is the first client: its weights are where all begin.
    threads = [Thread(lambda: clients[0][0].fit(mine, mine)),
               Thread(lambda: joined.wait(20) and clients[1][0].fit(others, others))]
    history = server.fit()
    for t in threads:
        t.join(30)
    assert good((history, threads)) is history
    assert [h["train_loss"] for h in history] == pytest.approx(losses, rel=1e-5)
    same(heads[0].state_dict(), heads[1].state_dict())
    assert history[-1]["clients"] == 2 and history[-1]["test_samples"] == 37 + 16
    for a, b in zip(reference[1].parameters(), heads[0].parameters()):
        assert torch.allclose(a, b, atol=1e-5)


def network_like(make, seed):
    """The same network with other weights."""
    net = make()
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape))
    return net


# ---- any model, any loss ----


class TwoInputs(nn.Module):
    """Arguments by name, a frozen weight, one that is never used, a counter of whole numbers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.numbers = nn.Linear(3, 6)
        self.numbers.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, tokens, numbers):
        self.calls += 1
        return self.words(tokens) + self.numbers(numbers)[:, None]


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_inputs_of_several_parts_and_lengths(kind):
    """Batches whose sequences differ in length, so that the cut has no fixed shape."""
    g = torch.Generator().manual_seed(3)
    data = []
    for n, length in ((4, 5), (4, 9), (2, 3)):
        parts = (torch.randint(0, 20, (n, length), generator=g), torch.rand(n, 3, generator=g))
        data.append((dict(tokens=parts[0], numbers=parts[1]) if kind == "dict" else parts,
                     torch.randint(0, 3, (n,), generator=g)))

    def halves():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
        return TwoInputs(), nn.Sequential(layer, Mean(), nn.Linear(6, 3))

    first, last = halves()
    optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], 1e-2, weight_decay=0.1)
    losses = []
    for _ in range(2):
        total = 0
        for x, y in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(last(first(**x) if kind == "dict" else first(*x)), y)
            loss.backward()
            optimizer.step()
            total += float(loss) * len(y)
        losses.append(total / 10)
    head, tail = halves()
    server = cwt.Server(tail, torch.optim.Adam(tail.parameters(), 1e-2, weight_decay=0.1), F.cross_entropy, epochs=2,
                        **PLAIN)
    client = cwt.Client(head, torch.optim.Adam(head.parameters(), 1e-2, weight_decay=0.1), server.endpoint)
    history = good(run(server, [(client, data)]))
    assert [h["train_loss"] for h in history] == losses
    same(first.state_dict(), head.state_dict())
    same(last.state_dict(), tail.state_dict())


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def segmentation():
    g = torch.Generator().manual_seed(4)
    data = [(torch.rand(n, 1, 8, 8, generator=g), torch.randint(-1, 3, (n, 8, 8), generator=g)) for n in (6, 6, 2)]
    data = [(x, torch.where(y < 0, torch.full_like(y, -100), y)) for x, y in data]
    return nn.Conv2d(1, 4, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 3, 1)), F.cross_entropy, data


def regression():
    g = torch.Generator().manual_seed(5)
    data = [(torch.rand(n, 6, generator=g), torch.rand(n, 2, generator=g)) for n in (8, 8, 3)]
    return nn.Linear(6, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 2)), F.mse_loss, data


def binary():
    head, tail, _, data = regression()
    return head, tail, lambda y, t: F.binary_cross_entropy_with_logits(y, t.float()), [(x, t > 0.5) for x, t in data]


def no_targets():
    head, tail, _, data = regression()
    return head, tail, lambda y, t: (y ** 2).mean() if t is None else None, [(x, None) for x, _ in data]


@pytest.mark.parametrize("task", [segmentation, regression, binary, no_targets])
def test_losses_of_any_targets(task):
    torch.manual_seed(0)
    first, last, loss_fn, data = task()
    head, tail = copy.deepcopy(first), copy.deepcopy(last)
    both = nn.Sequential(first, last)
    losses = plain_loop(both, sgd(both), loss_fn, data, 2)
    server = cwt.Server(tail, sgd(tail), loss_fn, epochs=2, **PLAIN)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), data, data)]))
    assert [h["train_loss"] for h in history] == losses
    same(last.state_dict(), tail.state_dict())
    assert history[-1]["test_accuracy"] is None and history[-1]["test_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize("given, dtype", [
    (torch.tensor([[1, 2], [3, 255]]), torch.int64), (torch.tensor([[1, -2], [3, 4]]), torch.int64),
    (torch.tensor([[1, 2**40], [3, 4]]), torch.int64), (torch.tensor([[1.5], [2.5]], dtype=torch.float64), torch.float32),
    (torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16), torch.bfloat16),
    (torch.tensor([[1], [2]], dtype=torch.int16), torch.int32), (torch.tensor([3, -1]), torch.int64),
    (torch.tensor([3, 2**31]), torch.int64), (torch.tensor([0.5, 1.5]), torch.float32),
    (torch.tensor([3, 1], dtype=torch.int32), torch.int64), (torch.zeros(2, 0), torch.float32)])
def test_targets_arrive_as_they_are(given, dtype):
    seen = []

    def loss_fn(y, t):
        seen.append(t)
        return y.sum()

    head, tail = nn.Linear(3, 3), nn.Linear(3, 3)
    server = cwt.Server(tail, sgd(tail), loss_fn, **PLAIN)
    good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), [(torch.rand(2, 3), given)])]))
    assert seen[0].dtype == dtype and torch.equal(seen[0], given.to(dtype))


def test_targets_of_several_tensors():
    """Classes and boxes, by two losses; with one client the plain loop to the bit."""
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes, self.boxes = nn.Linear(8, 4), nn.Linear(8, 2)

        def forward(self, x):
            return self.classes(x), self.boxes(x)

    def loss_fn(output, target):
        classes, boxes = output
        assert target["class"].dtype == torch.int64 and target["extra"][1] is None
        return F.cross_entropy(classes, target["class"]) + F.mse_loss(boxes, target["box"]) + target["extra"][0].mean()

    torch.manual_seed(1)
    first, last = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), Two()
    data = [(torch.rand(n, 6), {"class": torch.randint(0, 4, (n,)), "box": torch.rand(n, 2), "extra": (torch.rand(n), None)})
            for n in (5, 5, 3)]
    head, tail = copy.deepcopy(first), copy.deepcopy(last)
    both = nn.Sequential(first, last)
    losses = plain_loop(both, sgd(both), loss_fn, data, 2)
    metric = lambda output, target: (output[0].argmax(1) == target["class"]).sum()
    server = cwt.Server(tail, sgd(tail), loss_fn, epochs=2, metric=metric, **PLAIN)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), data, data)]))
    assert [h["train_loss"] for h in history] == losses and 0 <= history[-1]["test_accuracy"] <= 1
    same(last.state_dict(), tail.state_dict())


def micro_loop(first, last, loss_fn, data, parts, epochs):
    """A plain loop whose gradients add up over `parts` micro-batches; mean losses of the epochs."""
    both, losses = nn.Sequential(first, last), []
    optimizer = sgd(both)
    for _ in range(epochs):
        total = count = 0
        for x, y in data:
            n, at, given = len(y), 0, 0
            optimizer.zero_grad()
            for i in range(min(parts, n)):
                part = n // min(parts, n) + (i < n % min(parts, n))
                piece = tuple(v[at:at + part] for v in x) if isinstance(x, tuple) else (x[at:at + part],)
                loss = loss_fn(last(first(*piece)), y[at:at + part]) * (part / n)
                loss.backward()
                at, given = at + part, given + float(loss)
            optimizer.step()
            total, count = total + given * n, count + n
        losses.append(total / count)
    return losses


class Sum(nn.Module):
    """Of two inputs, each through a layer of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(3, 8)

    def forward(self, a, b):
        return F.relu(self.a(a) + self.b(b))


@pytest.mark.parametrize("targets", ["labels", "numbers"])
@pytest.mark.parametrize("parts", [2, 3, 10])
def test_micro_batches_are_a_loop_whose_gradients_add_up(parts, targets):
    """Batches of 8 and 5 samples cannot be cut evenly; the head takes two inputs."""
    torch.manual_seed(2)
    first, last = Sum(), nn.Linear(8, 4)
    make = {"labels": lambda n: torch.randint(0, 4, (n,)), "numbers": lambda n: torch.rand(n, 4)}[targets]
    loss_fn = F.cross_entropy if targets == "labels" else F.mse_loss
    data = [((torch.rand(n, 6), torch.rand(n, 3)), make(n)) for n in (8, 8, 5)]
    head, tail = copy.deepcopy(first), copy.deepcopy(last)
    losses = micro_loop(first, last, loss_fn, data, parts, 2)
    server = cwt.Server(tail, sgd(tail), loss_fn, epochs=2, in_flight=parts, **PLAIN)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), data, data)]))
    assert [h["train_loss"] for h in history] == pytest.approx(losses, rel=1e-6)
    for module, reference in ((head, first), (tail, last)):
        for name, value in module.state_dict().items():
            assert torch.allclose(value, reference.state_dict()[name], atol=1e-6), name


def test_micro_batches_with_masks_and_codecs():
    """Each micro-batch keeps where its own activations came in as 0. Lossless activations, and gradients in steps so fine
    that nothing is lost by them: the loop without codecs."""
    torch.manual_seed(3)
    first, last = Sum(), nn.Linear(8, 4)
    data = [((torch.randn(n, 6), torch.randn(n, 3)), torch.randint(0, 4, (n,))) for n in (50, 50, 37)]
    head, tail = copy.deepcopy(first), copy.deepcopy(last)
    losses = micro_loop(first, last, F.cross_entropy, data, 3, 2)
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, epochs=2, in_flight=3, mask_gradient=True, up="ec:err=1e-5",
                        down="ec:err=1e-5", update="none")
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint, behind_relu=True), data)]))
    assert [h["train_loss"] for h in history] == pytest.approx(losses, rel=1e-4)
    for name, value in head.state_dict().items():
        assert torch.allclose(value, first.state_dict()[name], atol=1e-4), name


def test_micro_batches_of_several_targets_are_refused():
    head, tail = nn.Linear(3, 3), nn.Linear(3, 3)
    server = cwt.Server(tail, sgd(tail), lambda y, t: y.sum(), in_flight=2, join_timeout=2, **PLAIN)
    client = cwt.Client(head, sgd(head), server.endpoint)
    thread = Thread(lambda: client.fit([(torch.rand(4, 3), (torch.rand(4, 1), torch.rand(4, 2)))]))
    with pytest.raises(cutwire.Error):
        server.fit()
    thread.join(30)
    assert isinstance(thread.failure, TypeError) and "micro-batches" in str(thread.failure)


def test_bytes_that_look_packed_arrive_as_they_are():
    from cutwire.torch._targets import MAGIC

    row = list(MAGIC + bytes(8))
    for dtype in (torch.uint8, torch.int64):
        test_targets_arrive_as_they_are(torch.tensor([row, row], dtype=dtype), dtype)


def test_reduce_on_plateau_follows_the_test_loss():
    model, data = network(), batches()
    head, tail = cwt.split(model, after="3")
    ot, oh = sgd(tail), sgd(head)
    plateau = lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=10.0)
    server = cwt.Server(tail, ot, F.cross_entropy, epochs=4, scheduler=plateau(ot), eval_every=2, **PLAIN)
    client = cwt.Client(head, oh, server.endpoint, follow_lr=True)
    history = good(run(server, [(client, data, batches(2))]))
    # Tested after epochs 2 and 4 alone; nothing is better by ten times.
    assert [h["lr"] for h in history] == pytest.approx([0.05, 0.05, 0.025, 0.025])
    assert ot.param_groups[0]["lr"] == pytest.approx(0.0125)
    server = cwt.Server(tail, ot, F.cross_entropy, epochs=3, scheduler=plateau(ot), scheduler_metric="train_loss", **PLAIN)
    history = good(run(server, [(cwt.Client(head, oh, server.endpoint, follow_lr=True), data)]))
    assert [h["lr"] for h in history] == pytest.approx([0.0125, 0.00625, 0.003125])
    assert oh.param_groups[0]["lr"] == pytest.approx(0.003125)
    with pytest.raises(TypeError, match="give it to the server"):
        cwt.Client(head, oh, server.endpoint, scheduler=plateau(oh))
    with pytest.raises(ValueError, match="scheduler_metric"):
        cwt.Server(tail, ot, F.cross_entropy, scheduler=plateau(ot), scheduler_metric="accuracy")


def test_codecs_compress_and_training_learns():
    model = network()
    head, tail = cwt.split(model, after="2")
    data = batches(1, (32,) * 6)
    data = [(x + y.reshape(-1, 1, 1, 1), y) for x, y in data]
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, epochs=6, eval_every=2, mask_gradient=True)
    history = good(run(server, [(cwt.Client(head, sgd(head), server.endpoint, behind_relu=True), data, data)]))
    assert [h["test_loss"] is None for h in history] == [True, False] * 3
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    for way in ("uplink", "downlink"):
        assert 0 < history[-1][way]["payload_bytes"] < history[-1][way]["raw_bytes"] / 5


def test_halves_in_bfloat16():
    head, tail = (half.to(torch.bfloat16) for half in cwt.split(network(), after="3"))
    data = [(x.bfloat16(), y) for x, y in batches()]
    first, last = copy.deepcopy(head), copy.deepcopy(tail)
    both = nn.Sequential(first, last)
    losses = plain_loop(both, torch.optim.SGD(both.parameters(), 0.05), F.cross_entropy, data, 1)
    server = cwt.Server(tail, torch.optim.SGD(tail.parameters(), 0.05), F.cross_entropy, **PLAIN)
    history = good(run(server, [(cwt.Client(head, torch.optim.SGD(head.parameters(), 0.05), server.endpoint), data)]))
    assert history[0]["train_loss"] == pytest.approx(losses[0], abs=1e-6)
    same(last.state_dict(), tail.state_dict())


def test_parts_that_are_in_evaluation_stay_so():
    """A frozen batch norm within a head that trains."""
    head, tail = cwt.split(network(), after="3")
    norm = next(m for m in head.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eval()
    before = norm.running_mean.clone()
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, **PLAIN)
    good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), batches(), batches())]))
    assert torch.equal(norm.running_mean, before) and not norm.training and head.training


# ---- what goes wrong ----


def test_a_mask_where_no_relu_is_known_is_refused():
    head, tail = cwt.split(network(), after="0")
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, mask_gradient=True, join_timeout=1)
    thread = Thread(lambda: cwt.Client(head, sgd(head), server.endpoint).fit(batches()))
    with pytest.raises(cutwire.Error):
        server.fit()
    thread.join(10)
    assert thread.failure.code == "CW_ERR_SPEC" and "ReLU" in str(thread.failure)


def test_fit_is_called_once():
    head, tail = cwt.split(network(), after="3")
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, **PLAIN)
    client = cwt.Client(head, sgd(head), server.endpoint)
    good(run(server, [(client, batches())]))
    for again in (server.fit, lambda: client.fit(batches())):
        with pytest.raises(ValueError, match="closed"):
            again()


def test_hostile_state_is_refused():
    """What a peer may send in place of an optimizer's state."""
    from cutwire.torch import _state

    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    groups = _state.of_optimizer(optimizer)[1]["groups"]
    for tensors, rest in [({"7.exp_avg": torch.zeros(2)}, {"numbers": {}, "groups": groups}),
                          ({"x": torch.zeros(2)}, {"numbers": {}, "groups": groups}),
                          ({"0.exp_avg": torch.zeros(3)}, {"numbers": {}, "groups": groups}),
                          ({}, {"numbers": {}, "groups": []}), ({}, {"numbers": {"-1.step": 3}, "groups": groups})]:
        with pytest.raises(ValueError):
            _state.to_optimizer(optimizer, tensors, rest)


def test_what_is_none_of_these_is_refused_at_once():
    module = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="Module"):
        cwt.Server("tail", sgd(module), F.cross_entropy)
    with pytest.raises(TypeError, match="closure"):
        cwt.Server(module, torch.optim.LBFGS(module.parameters()), F.cross_entropy)
    with pytest.raises(TypeError, match="float64"):
        cwt.Client(nn.Linear(2, 2).double(), sgd(module), "tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="once an epoch"):
        cwt.Server(module, sgd(module), F.cross_entropy, scheduler_every="step",
                   scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(sgd(module)))
    with pytest.raises(ValueError, match="epoch"):
        cwt.Server(module, sgd(module), F.cross_entropy, scheduler_every="day")
    with pytest.raises(cutwire.Error, match="uplink|no codec|nonsense") as e:
        cwt.Server(module, sgd(module), F.cross_entropy, up="nonsense").fit()
    assert e.value.code == "CW_ERR_SPEC"
    with pytest.raises(cutwire.Error, match="unknown key"):
        cwt.Server(module, sgd(module), F.cross_entropy, config={"batches": 3})
    with pytest.raises(cutwire.Error, match="encrypt|plaintext|key"):
        cwt.Server(module, sgd(module), F.cross_entropy, listen="tcp://0.0.0.0:*")


def test_nobody_comes_nobody_answers():
    module = nn.Linear(2, 2)
    with pytest.raises(cutwire.Error, match="0 of 1 clients joined") as e:
        cwt.Server(module, sgd(module), F.cross_entropy, join_timeout=0.4).fit()
    assert e.value.code == "CW_ERR_TIMEOUT"
    with pytest.raises(cutwire.Error, match="is the server running") as e:
        cwt.Client(module, sgd(module), "tcp://127.0.0.1:9", join_timeout=0.4).fit(batches())
    assert e.value.code == "CW_ERR_TIMEOUT"


class Fault(Exception):
    pass


def spoil(*_):
    raise Fault("on purpose")


@pytest.mark.parametrize("where", ["loss", "tail", "head", "loader"])
def test_what_the_users_code_raises_comes_out_where_it_is(where):
    head, tail = cwt.split(network(), after="3")
    data = batches()
    if where in ("tail", "head"):
        (tail if where == "tail" else head).register_forward_pre_hook(spoil)

    class Loader:
        def __iter__(self):
            if threading.current_thread() is not threading.main_thread() and self.read:
                spoil()
            self.read = True
            return iter(data)

        read = False

    server = cwt.Server(tail, sgd(tail), spoil if where == "loss" else F.cross_entropy, join_timeout=1, **PLAIN)
    client = cwt.Client(head, sgd(head), server.endpoint)
    thread = Thread(lambda: client.fit(Loader() if where == "loader" else data))
    at_server = where in ("loss", "tail")
    with pytest.raises(Fault if at_server else cutwire.Error, match="on purpose"):
        server.fit()
    thread.join(10)
    assert isinstance(thread.failure, cutwire.Error if at_server else Fault)
    assert "on purpose" in str(thread.failure)


@pytest.mark.parametrize("data, match", [
    ([(torch.rand(4, 1, 12, 12), torch.tensor([0, 1, 2, 9]))], "label 9"),
    ([torch.rand(4, 1, 12, 12)], "pair"),
    (batches(1, (4, 8)), "same size"),
    (iter(batches()), "iterator"),
    ([], "no training samples"),
    ([(torch.rand(4, 1, 12, 12), torch.zeros(3))], "dimension 0")])
def test_loaders_that_are_none(data, match):
    head, tail = cwt.split(network(), after="3")
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, classes=4, join_timeout=1, **PLAIN)
    thread = Thread(lambda: cwt.Client(head, sgd(head), server.endpoint).fit(data))
    with pytest.raises(cutwire.Error):
        server.fit()
    thread.join(10)
    assert thread.failure is not None and match in str(thread.failure), thread.failure


def test_other_halves_are_refused():
    server = cwt.Server(nn.Linear(4, 2), sgd(nn.Linear(1, 1)), F.cross_entropy, clients=2, join_timeout=2, **PLAIN)
    data = [(torch.rand(4, 3), torch.zeros(4, dtype=torch.long))]
    threads = []
    for width in (4, 5):
        head = nn.Linear(3, width)
        threads.append(Thread(lambda h=head: cwt.Client(h, sgd(h), server.endpoint).fit(data)))
        time.sleep(0.4)
    with pytest.raises(cutwire.Error, match="1 of 2 clients joined"):
        server.fit()
    for t in threads:
        t.join(10)
    assert "CW_ERR_MISMATCH" in [t.failure.code for t in threads]


def test_nan_ends_the_run_with_a_sentence():
    head, tail = cwt.split(network(), after="3")
    data = batches()
    data[1][0].fill_(float("nan"))
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, join_timeout=1, **PLAIN)
    thread = Thread(lambda: cwt.Client(head, sgd(head), server.endpoint).fit(data))
    with pytest.raises(cutwire.Error) as e:
        server.fit()
    thread.join(10)
    assert e.value.code == "CW_ERR_DIVERGED" and "learning rate" in str(e.value)


CLIENT = """
import sys, time, torch, cutwire.torch as cwt
torch.set_num_threads(1)
class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 8000
    def __getitem__(self, i):
        if i == 80:
            print("training", flush=True)
        time.sleep(0.005)
        return torch.rand(3), 0
head = torch.nn.Linear(3, 4)
print("ready", flush=True)
endpoint = sys.stdin.readline().strip()
cwt.Client(head, torch.optim.SGD(head.parameters(), 0.1), endpoint).fit(torch.utils.data.DataLoader(Slow(), 4))
"""

SERVER = """
import torch, cutwire.torch as cwt
torch.set_num_threads(1)
tail = torch.nn.Linear(4, 2)
server = cwt.Server(tail, torch.optim.SGD(tail.parameters(), 0.1), torch.nn.functional.cross_entropy)
print(server.endpoint, flush=True)
server.fit()
"""


class Process:
    """A program of Python, which is killed at the end if not before."""

    def __init__(self, program):
        self.process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def line(self):
        return self.process.stdout.readline().strip()

    def tell(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return time.monotonic()


@pytest.fixture(scope="module")
def to_be_killed():
    """Two clients and a server, started at once: importing torch takes its time."""
    processes = [Process(CLIENT), Process(CLIENT), Process(SERVER)]
    yield processes
    for p in processes:
        if p.process.poll() is None:
            p.kill()


def test_a_killed_client_ends_a_run_that_has_no_other(to_be_killed):
    tail, killed = nn.Linear(4, 2), []
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, timeout=1, join_timeout=3, config={"grace": 0}, **PLAIN)
    process = to_be_killed[0]
    assert process.line() == "ready"
    process.tell(server.endpoint)
    killer = Thread(lambda: killed.append(process.line() and process.kill()))
    # Once the client is lost the run waits for it to come back, as long as for clients at the beginning.
    with pytest.raises(cutwire.Error, match="all clients are lost") as e:
        server.fit()
    killer.join()
    assert e.value.code == "CW_ERR_TIMEOUT" and time.monotonic() - killed[0] < 1 + 3 + 3


def test_the_others_go_on_without_a_killed_client(to_be_killed):
    tail, head = nn.Linear(4, 2), nn.Linear(3, 4)
    data = [(torch.rand(4, 3), torch.zeros(4, dtype=torch.long))] * 60
    process = to_be_killed[1]
    assert process.line() == "ready"
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, clients=2, timeout=2, config={"grace": 0}, **PLAIN)
    process.tell(server.endpoint)
    killer = Thread(lambda: process.line() and process.kill())
    thread = Thread(lambda: cwt.Client(head, sgd(head), server.endpoint).fit(data, data))
    history = server.fit()
    killer.join()
    thread.join(10)
    assert thread.failure is None and killer.failure is None
    assert history[0]["clients"] == 1 and history[0]["test_samples"] == 240


def test_a_killed_server_is_noticed_within_the_time_out(to_be_killed):
    process, killed, head = to_be_killed[2], [], nn.Linear(3, 4)
    endpoint = process.line()

    class Killer(torch.utils.data.Dataset):
        def __len__(self):
            return 400

        def __getitem__(self, i):
            if i == 40:
                killed.append(process.kill())
            return torch.rand(3), 0

    with pytest.raises(cutwire.Error, match="gone or cut off") as e:
        cwt.Client(head, sgd(head), endpoint, timeout=1).fit(torch.utils.data.DataLoader(Killer(), 4))
    assert e.value.code == "CW_ERR_TIMEOUT" and time.monotonic() - killed[0] < 3


# ---- keys, checkpoints ----


def test_keys_let_in_and_keep_out(tmp_path):
    public = {who: _net.keygen(tmp_path / who) for who in ("server", "client", "stranger")}
    head, tail = cwt.split(network(), after="3")

    def join(who, server_key):
        half = copy.deepcopy(head)
        return cwt.Client(half, sgd(half), server.endpoint, secret_key=tmp_path / who, server_key=server_key,
                          join_timeout=10)

    server = cwt.Server(tail, sgd(tail), F.cross_entropy, secret_key=tmp_path / "server",
                        client_keys=[tmp_path / "client.pub"], **PLAIN)
    stranger = Thread(lambda: join("stranger", public["server"]).fit(batches()))
    training = Thread(lambda: join("client", tmp_path / "server.pub").fit(batches()))
    assert len(server.fit()) == 1
    for t in (stranger, training):
        t.join(20)
    assert training.failure is None
    assert isinstance(stranger.failure, cutwire.Error) and stranger.failure.code == "CW_ERR_CLOSED"


def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path):
    """Also where another client, with other weights, takes it up."""
    adam = lambda m: torch.optim.AdamW(m.parameters(), 1e-2)
    schedule = lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 2], 0.5)

    def train(model, epochs, **more):
        head, tail = cwt.split(model, after="3")
        oh, ot = adam(head), adam(tail)
        server = cwt.Server(tail, ot, F.cross_entropy, epochs=epochs, scheduler=schedule(ot), **PLAIN, **more)
        client = cwt.Client(head, oh, server.endpoint, scheduler=schedule(oh))
        return good(run(server, [(client, batches(), batches(2))]))

    whole, first, second = network(), network(), network_like(network, 9)
    history = train(whole, 3, out=tmp_path / "whole")
    part = train(first, 2, out=tmp_path / "part")
    rest = train(second, 3, resume=tmp_path / "part")
    assert [h["train_loss"] for h in part + rest] == [h["train_loss"] for h in history]
    assert [h["lr"] for h in part + rest] == pytest.approx([0.01, 0.005, 0.0025])
    same(whole.state_dict(), second.state_dict())
    lines = [json.loads(line) for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
    assert [line["train_loss"] for line in lines] == [h["train_loss"] for h in history]
    saved = read_safetensors(tmp_path / "part" / "model.safetensors")
    assert set(saved) == set(whole.state_dict())
    for name, value in saved.items():
        assert numpy.array_equal(value, whole.state_dict()[name].numpy()), name


class Noisy(nn.Module):
    """Draws from torch's random numbers while it trains, and also where it should not matter: in evaluations."""

    def forward(self, x):
        return F.dropout(x, 0.5) if self.training else x + 0 * torch.rand(1)


@pytest.mark.parametrize("where", ["head", "tail"])
@pytest.mark.parametrize("steps", [0, 2], ids=["after an epoch", "within an epoch"])
def test_random_numbers_go_on_too(where, steps, tmp_path):
    """Dropout on one side, which shares its random numbers with the other here; and a loader that shuffles."""
    def loader(data):
        x, y = torch.cat([b[0] for b in data]), torch.cat([b[1] for b in data])
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 8, shuffle=where == "head")

    def train(epochs, stop=0, **more):
        head, tail = nn.Sequential(nn.Flatten(), nn.Linear(144, 8)), nn.Sequential(nn.ReLU(), nn.Linear(8, 4))
        (head if where == "head" else tail).append(Noisy())
        calls = []

        def loss_fn(output, target):
            calls.append(1)
            if len(calls) == stop:
                raise Fault("stopped")
            return F.cross_entropy(output, target)

        server = cwt.Server(tail, sgd(tail), loss_fn, epochs=epochs, config={"checkpoint-steps": steps}, **PLAIN, **more)
        client = cwt.Client(head, sgd(head), server.endpoint)
        losses, threads = [], [Thread(lambda: client.fit(loader(batches()), loader(batches(2))))]
        try:
            losses = [h["train_loss"] for h in server.fit()]
        except Fault:
            assert stop
        threads[0].join(60)
        return losses, {**head.state_dict(), **{f"tail.{k}": v for k, v in tail.state_dict().items()}}

    torch.manual_seed(3)
    losses, whole = train(3, out=tmp_path / "whole")
    torch.manual_seed(3)
    # An epoch has 7 steps, and its evaluation 7 batches.
    part = train(3, stop=14 + 6, out=tmp_path / "part")[0] if steps else train(1, out=tmp_path / "part")[0]
    torch.manual_seed(4)
    rest, model = train(3, resume=tmp_path / "part")
    assert (part + rest)[-2:] == losses[1:]
    same(whole, model)


def test_clients_beside_others_draw_their_own():
    """One state for all would make them draw the same."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    tail = nn.Linear(4, 4)
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, clients=2, **PLAIN)
    clients = [cwt.Client(copy.deepcopy(head), sgd(head), server.endpoint) for _ in range(2)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    good(run(server, [(c, batches()) for c in clients]))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_that_joins_later_gets_everything():
    """A client that is replaced after the first epoch: the second has the optimizer's state too."""
    adam = lambda m: torch.optim.Adam(m.parameters(), 1e-2)
    whole, second, first = network(), network_like(network, 9), network()
    losses = plain_loop(whole, adam(whole), F.cross_entropy, batches(), 2)
    tail = cwt.split(first, after="3")[1]
    server = cwt.Server(tail, adam(tail), F.cross_entropy, epochs=2, **PLAIN)

    class Once:
        """Ends its client when it is read for the second epoch."""
        reads = 0

        def __iter__(self):
            self.reads += 1
            if self.reads == 3:  # the first is to count
                raise Fault("enough")
            return iter(batches())

    def clients():
        head = cwt.split(first, after="3")[0]
        with pytest.raises(Fault):
            cwt.Client(head, adam(head), server.endpoint).fit(Once())
        head = cwt.split(second, after="3")[0]
        cwt.Client(head, adam(head), server.endpoint).fit(batches())

    thread = Thread(clients)
    history = server.fit()
    thread.join(10)
    assert thread.failure is None
    assert [h["train_loss"] for h in history] == losses
    for name, value in cwt.split(second, after="3")[0].state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


# ---- with cutwire's own programs ----


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + size])
    dtypes = {"F32": numpy.float32, "I64": numpy.int64}
    return {name: numpy.frombuffer(data[8 + size:][slice(*t["data_offsets"])], dtypes[t["dtype"]]).reshape(t["shape"])
            for name, t in head.items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    head, blob = {}, b""
    for name, t in tensors.items():
        raw = t.numpy().tobytes()
        head[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


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
