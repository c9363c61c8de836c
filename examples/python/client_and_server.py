#!/usr/bin/python3
"""A network of PyTorch trained by a server and two clients, each a process of its own, over TCP.

    PYTHONPATH=build/python /usr/bin/python3 examples/python/client_and_server.py

On several machines, with the keys that `cutwire keygen` makes:

    client_and_server.py server --listen tcp://0.0.0.0:5555 --key server.key --clients-keys clients.pub
    client_and_server.py client --connect tcp://HOST:5555 --key me.key --server-key server.key.pub --share 0/2

The server has the layers after the cut and never sees the others'. Each client has its share of Fashion-MNIST.
"""
import argparse
import gzip
import multiprocessing
import pathlib

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import cutwire.torch as cwt


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 10))


def halves():
    return cwt.split(network(), after="2")


def optimizer(half):
    return torch.optim.SGD(half.parameters(), 0.02, momentum=0.9)


def images(folder, split):
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as f:
        x = numpy.frombuffer(f.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as f:
        y = numpy.frombuffer(f.read(), numpy.uint8, offset=8)
    return torch.from_numpy(x.astype(numpy.float32) / 255 - 0.3), torch.from_numpy(y.astype(numpy.int64))


def loader(folder, split, share, limit, shuffle):
    i, n = map(int, share.split("/"))
    x, y = (t[i:limit:n] for t in images(folder, split))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 64, shuffle=shuffle)


def serve(o, tell=lambda endpoint: print("listening on", endpoint, flush=True)):
    torch.manual_seed(3)
    tail = halves()[1]
    server = cwt.Server(tail, optimizer(tail), F.cross_entropy, listen=o.listen, clients=2, epochs=o.epochs,
                        mask_gradient=True, secret_key=o.key, client_keys=o.clients_keys)
    tell(server.endpoint)
    for epoch in server.fit():
        up, down = epoch["uplink"], epoch["downlink"]
        print(f"epoch {epoch['epoch']}: test accuracy {100 * epoch['test_accuracy']:.1f}%, {up['socket_bytes']} bytes up "
              f"for {up['raw_bytes'] + up['eval_raw_bytes']} of fp32, {down['socket_bytes']} down for "
              f"{down['raw_bytes']}")


def join(o, endpoint, share):
    torch.set_num_threads(1)
    torch.manual_seed(3)
    head = halves()[0]
    client = cwt.Client(head, optimizer(head), endpoint, behind_relu=True, secret_key=o.key, server_key=o.server_key)
    client.fit(loader(o.data, "train", share, o.limit, True), loader(o.data, "t10k", share, o.limit, False))


def both(o):
    """Clients are started afresh, not forked: torch and ZeroMQ have threads."""
    context = multiprocessing.get_context("spawn")
    clients = []

    def start(endpoint):
        for i in range(2):
            clients.append(context.Process(target=join, args=(o, endpoint, f"{i}/2")))
            clients[-1].start()

    serve(o, start)
    for c in clients:
        c.join()


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("role", nargs="?", choices=["both", "server", "client"], default="both")
    p.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--limit", type=int, default=10000, help="images of each split, of both clients")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--listen", default="tcp://127.0.0.1:*")
    p.add_argument("--connect")
    p.add_argument("--share", default="0/1", help="I/N: the I-th of N parts of the data, from 0")
    p.add_argument("--key", help="file with this end's secret key")
    p.add_argument("--server-key", help="file with the server's public key")
    p.add_argument("--clients-keys", help="file with the clients' public keys, one a line")
    return p.parse_args()


def main():
    o = options()
    if o.role == "client":
        join(o, o.connect, o.share)
    else:
        (both if o.role == "both" else serve)(o)


if __name__ == "__main__":
    main()
