#!/usr/bin/python3
"""What would a compressed cut do to my model? Trains a small network on Fashion-MNIST twice in one process: as it is, and
with a cut whose activations and gradients are real payloads.

    make python
    PYTHONPATH=build/python /usr/bin/python3 examples/python/simulate.py
    PYTHONPATH=build/python /usr/bin/python3 examples/python/simulate.py --up ms:r=0.99,b=2 --down none

To copy from it for a model of your own, take the three lines with `cwt.`.
"""
import argparse
import gzip
import pathlib

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import cutwire.torch as cwt


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--up", default="ec:err=0.15", help="codec of the activations")
    p.add_argument("--down", default="ec:step=4.5,round=stochastic,scope=sample", help="codec of the gradients")
    p.add_argument("--after", default="5", help="cut after this layer of the network below")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--limit", type=int, default=12000, help="training samples")
    p.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="the folder (Debian: dataset-fashion-mnist)")
    return p.parse_args()


def idx(path):
    data = gzip.decompress(path.read_bytes())
    shape = numpy.frombuffer(data, ">i4", data[3], 4)
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * data[3]).reshape(shape)


def read(folder, split, limit):
    x = idx(pathlib.Path(folder) / f"{split}-images-idx3-ubyte.gz")[:limit]
    y = idx(pathlib.Path(folder) / f"{split}-labels-idx1-ubyte.gz")[:limit]
    return torch.from_numpy((x[:, None] / 255 - 0.286).astype("f4") / 0.353), torch.from_numpy(y.astype("i8"))


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 10))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        return sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(500), y.split(500))) / len(y)


def train(name, net, cut, train_set, test_set, epochs):
    """Your loop, unchanged, but for set_epoch, which makes the random streams those of a run over the network."""
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    x, y = train_set
    for epoch in range(epochs):
        if cut:
            cut.set_epoch(epoch)
        net.train()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for i in order.split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[i]), y[i]).backward()
            optimizer.step()
        print(f"{name}: epoch {epoch + 1}: {100 * accuracy(net, *test_set):.2f}%", flush=True)


def main():
    o = options()
    train_set, test_set = read(o.data, "train", o.limit), read(o.data, "t10k", max(o.limit // 2, 1000))
    train("without a cut", network(), None, train_set, test_set, o.epochs)

    model = network()
    head, tail = cwt.split(model, after=o.after)
    cut = cwt.Cut(up=o.up, down=o.down)
    train("with the cut", nn.Sequential(head, cut, tail), cut, train_set, test_set, o.epochs)
    s = cut.stats
    print(f"up {s.uplink_bytes} bytes, {s.uplink_raw_bytes / s.uplink_bytes:.1f} times fewer; "
          f"down {s.downlink_bytes} bytes, {s.downlink_raw_bytes / s.downlink_bytes:.1f} times fewer; "
          f"{s.seconds:.1f} s of coding")


if __name__ == "__main__":
    main()
