"""Server and Client over TCP: keys, checkpoints, clients that join later."""
import copy
import json

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from cutwire import _net
from training import PLAIN, Fault, Thread, batches, good, network, network_like, plain_loop, read_safetensors, run, same, sgd


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

    def train():
        stranger.join(20)  # is turned away before it has said a word, whatever it was at
        assert not stranger.is_alive()
        return join("client", tmp_path / "server.pub").fit(batches())

    training = Thread(train)
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
