"""Server and Client over TCP: what goes wrong, in what is given, in code of the users, by killed processes."""
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cutwire
import cutwire.torch as cwt
from training import PLAIN, Fault, Thread, batches, good, network, run, sgd


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
    with pytest.raises(TypeError, match="weight is torch.complex64"):
        cwt.Client(nn.Linear(2, 2, dtype=torch.complex64), sgd(module), "tcp://127.0.0.1:1")
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
    with pytest.raises(cutwire.Error, match="0 of 1 client joined .*: join_timeout= at the server") as e:
        cwt.Server(module, sgd(module), F.cross_entropy, join_timeout=0.4).fit()
    assert e.value.code == "CW_ERR_TIMEOUT"
    with pytest.raises(cutwire.Error, match="is the server running") as e:
        cwt.Client(module, sgd(module), "tcp://127.0.0.1:9", join_timeout=0.4).fit(batches())
    assert e.value.code == "CW_ERR_TIMEOUT"


@pytest.mark.parametrize("side", ["server", "client"])
def test_close_by_another_thread_ends_fit(side):
    head, tail = cwt.split(network(), after="3")
    told = threading.Event()
    server = cwt.Server(tail, sgd(tail), lambda *a: told.set() or F.cross_entropy(*a), epochs=10**5, join_timeout=1, **PLAIN)
    client = cwt.Client(head, sgd(head), server.endpoint)
    threads = {"server": Thread(server.fit), "client": Thread(lambda: client.fit(batches()))}
    assert told.wait(30)
    with pytest.raises(ValueError, match="running"):
        server.fit()
    {"server": server, "client": client}[side].close()
    for thread in threads.values():
        thread.join(30)
        assert not thread.is_alive()
    assert threads[side].failure.code == "CW_ERR_CANCELLED" and "closed" in str(threads[side].failure)
    if side == "server":
        assert threads["client"].failure is None
    else:
        assert "stopped by its user" in str(threads["server"].failure)


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


@pytest.mark.parametrize("loss, gave", [
    (lambda y, t: F.cross_entropy(y, t, reduction="none"), r"a tensor of shape \(16,\): .*reduction='mean'"),
    (lambda y, t: 0.5, "gave float"),
])
def test_a_loss_that_is_no_number_is_told(loss, gave):
    head, tail = cwt.split(network(), after="3")
    server = cwt.Server(tail, sgd(tail), loss, join_timeout=1, **PLAIN)
    thread = Thread(lambda: cwt.Client(head, sgd(head), server.endpoint).fit(batches()))
    with pytest.raises(TypeError, match=gave):
        server.fit()
    thread.join(10)


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
    server = cwt.Server(tail, sgd(tail), F.cross_entropy, timeout=1, join_timeout=5, config={"grace": 0}, **PLAIN)
    process = to_be_killed[0]
    assert process.line() == "ready"
    process.tell(server.endpoint)
    killer = Thread(lambda: killed.append(process.line() and process.kill()))
    # Once the client is lost the run waits for it to come back, as long as for clients at the beginning.
    with pytest.raises(cutwire.Error, match="all clients are lost") as e:
        server.fit()
    killer.join()
    assert e.value.code == "CW_ERR_TIMEOUT" and time.monotonic() - killed[0] < 1 + 5 + 3


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
