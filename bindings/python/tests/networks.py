"""Networks of PyTorch that several tests train."""
from torch import nn


def cnn():
    """The engine's own network of that name."""
    layers, channels, before = [], [16, 16, 32, 32, 64, 64], 1
    for i, c in enumerate(channels):
        layers += [nn.MaxPool2d(2)] if i in (2, 4) else []
        layers += [nn.Conv2d(before, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        before = c
    net = nn.Sequential()
    net.add_module("features", nn.Sequential(*layers))
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", nn.Linear(64 * 49, 10))
    return net
