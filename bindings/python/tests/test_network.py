"""Server and Client over TCP: equal to a plain loop to the bit, with codecs, any model and any loss."""
import collections
import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from training import PLAIN, Thread, batches, good, network, network_like, plain_loop, run, same, sgd


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


@pytest.mark.parametrize("still", ["head", "tail", "a head without weights"])
def test_a_side_that_learns_nothing_has_no_optimizer(still):
    model = network()
    head, tail = cwt.split(model, after="2")
    if still == "a head without weights":
        head, tail = nn.AvgPool2d(2), nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
        model = nn.Sequential(head, tail)
    else:
        (head if still == "head" else tail).requires_grad_(False)
    reference = copy.deepcopy(model)
    losses = plain_loop(reference, torch.optim.SGD([p for p in reference.parameters() if p.requires_grad], 0.05),
                        F.cross_entropy, batches(), 2)
    optimizers = [torch.optim.SGD(half.parameters(), 0.05) if any(p.requires_grad for p in half.parameters()) else None
                  for half in (head, tail)]
    assert None in optimizers
    server = cwt.Server(tail, optimizers[1], F.cross_entropy, epochs=2, **PLAIN)
    history = good(run(server, [(cwt.Client(head, optimizers[0], server.endpoint), batches())]))
    assert [h["train_loss"] for h in history] == losses
    same(reference.state_dict(), model.state_dict())


def test_a_side_that_learns_needs_an_optimizer():
    head, tail = cwt.split(network(), after="3")
    with pytest.raises(TypeError, match=r"0.weight of this one does: .* requires_grad_"):
        cwt.Client(head, None, "tcp://127.0.0.1:9")
    with pytest.raises(TypeError, match="learns nothing"):
        cwt.Server(tail, None, F.cross_entropy)


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


@pytest.mark.parametrize("kind", [dict, collections.UserDict, tuple])
def test_inputs_of_several_parts_and_lengths(kind):
    """Batches whose sequences differ in length, so that the cut has no fixed shape."""
    g = torch.Generator().manual_seed(3)
    data = []
    for n, length in ((4, 5), (4, 9), (2, 3)):
        parts = (torch.randint(0, 20, (n, length), generator=g), torch.rand(n, 3, generator=g))
        data.append((parts if kind is tuple else kind(tokens=parts[0], numbers=parts[1]),
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
            loss = F.cross_entropy(last(first(*x) if kind is tuple else first(**x)), y)
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


def test_a_tail_that_begins_in_place():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))
    same_as_plain_loop(model, "0", F.cross_entropy)


class LearnedShift(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, output, target):
        return F.cross_entropy(output + self.shift, target)


class TailWithLoss(nn.Module):
    def __init__(self, tail, loss):
        super().__init__()
        self.tail, self.loss = tail, loss

    def forward(self, z):
        return self.tail(z)


def test_a_loss_with_weights_of_its_own():
    model, loss, data = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)), LearnedShift(), batches(1, shape=(6,))
    wanted, its_loss = copy.deepcopy(model), copy.deepcopy(loss)
    head, tail = cwt.split(model, "0")
    with pytest.raises(ValueError, match="the loss has weights that the tail has not: shift"):
        cwt.Server(tail, sgd(tail), loss, **PLAIN)
    tail = TailWithLoss(tail, loss)
    server = cwt.Server(tail, sgd(tail), loss, epochs=2, **PLAIN)
    good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), data)]))
    plain_loop(wanted, sgd(nn.ModuleList([wanted, its_loss])), its_loss, data, 2)
    same(model.state_dict(), wanted.state_dict())
    same(loss.state_dict(), its_loss.state_dict())


def same_as_plain_loop(model, after, loss_fn):
    data, wanted = batches(1, shape=(6,)), copy.deepcopy(model)
    head, tail = cwt.split(model, after)
    server = cwt.Server(tail, sgd(tail), loss_fn, epochs=2, **PLAIN)
    good(run(server, [(cwt.Client(head, sgd(head), server.endpoint), data)]))
    plain_loop(wanted, sgd(wanted), loss_fn, data, 2)
    same(model.state_dict(), wanted.state_dict())


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
