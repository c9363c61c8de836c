#!/usr/bin/python3
"""A trained network of PyTorch used across a cut: its first layers here, the rest at a server.

    PYTHONPATH=build/python /usr/bin/python3 examples/python/remote.py

trains a small network for a minute, serves its tail by a process of its own, and asks that for test images. On two
machines, with the keys that `cutwire keygen` makes:

    remote.py train  --weights small.pth
    remote.py server --weights small.pth --listen tcp://0.0.0.0:5556 --key server.key --clients-keys clients.pub
    remote.py client --weights small.pth --connect tcp://HOST:5556 --key me.key --server-key server.key.pub
"""
import argparse
import multiprocessing
import pathlib
import tempfile
import time

import torch
from torch.nn import functional as F

import cutwire.torch as cwt
from client_and_server import images, network


def train(o):
    torch.manual_seed(1)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    x, y = (t[:o.limit] for t in images(o.data, "train"))
    for batch in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        F.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    torch.save(net.state_dict(), o.weights)


def halves(o):
    net = network()
    net.load_state_dict(torch.load(o.weights))
    return cwt.split(net.eval(), after="2")


def serve(o, tell=lambda endpoint: print("listening on", endpoint, flush=True)):
    head, tail = halves(o)
    with cwt.serve(tail, shape=(16, 28, 28), listen=o.listen, head=head, model="small", secret_key=o.key,
                   client_keys=o.clients_keys) as service:
        tell(service.endpoint)
        service.wait()


def ask(o, endpoint):
    head = halves(o)[0]
    x, y = (t[:o.ask] for t in images(o.data, "t10k"))
    with cwt.Remote(head, connect=endpoint, up=o.up, secret_key=o.key, server_key=o.server_key) as remote:
        began = time.perf_counter()
        answers = [remote.submit(photo) for photo in x.split(1)]  # one at a time, several on their way
        right = sum(int(a.result().argmax()) == int(label) for a, label in zip(answers, y))
        seconds, stats = time.perf_counter() - began, remote.stats
    print(f"{stats['answers']} answers by {remote.model}, {100 * right / len(y):.1f}% right: "
          f"{stats['payload_bytes'] / len(y):.0f} bytes up for {16 * 28 * 28 * 4} of fp32, "
          f"{1000 * seconds / len(y):.2f} ms each")


def both(o):
    """The server is started afresh, not forked: torch and ZeroMQ have threads."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        o.weights = pathlib.Path(folder) / "small.pth"
        train(o)
        told = context.SimpleQueue()
        server = context.Process(target=serve, args=(o, told.put), daemon=True)
        server.start()
        ask(o, told.get())
        server.terminate()


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("role", nargs="?", choices=["both", "train", "server", "client"], default="both")
    p.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--weights", type=pathlib.Path, help="the network's state dict")
    p.add_argument("--limit", type=int, default=20000, help="images to train on")
    p.add_argument("--ask", type=int, default=1000, help="images to ask for")
    p.add_argument("--up", default="ec:err=0.1", help="codec of the activations")
    p.add_argument("--listen", default="tcp://127.0.0.1:*")
    p.add_argument("--connect")
    p.add_argument("--key", help="file with this end's secret key")
    p.add_argument("--server-key", help="file with the server's public key")
    p.add_argument("--clients-keys", help="file with the clients' public keys, one a line")
    return p.parse_args()


def main():
    o = options()
    if o.role == "client":
        ask(o, o.connect)
    else:
        {"both": both, "train": train, "server": serve}[o.role](o)


if __name__ == "__main__":
    main()
