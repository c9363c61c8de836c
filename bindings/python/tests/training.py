"""What tests of Server and Client have in common: small networks, fit() of all on threads, a plain loop, files."""
import json
import pathlib
import struct
import threading

import numpy
import torch
from torch import nn

torch.set_num_threads(1)
PLAIN = {"up": "none", "down": "none", "update": "none"}


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


def network_like(make, seed):
    """The same network with other weights."""
    net = make()
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape))
    return net


class Fault(Exception):
    pass


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
