"""Networks of PyTorch that several tests train."""
import torch
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


class Patches(nn.Module):
    """Its asserts are Python's own: pytest rewrites those of test modules."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        assert x.shape[1] == 3, "colours"
        n, c, h, w = x.shape
        assert h % 2 == 0
        assert not h % 2
        if c != 3:
            assert False
        x = self.a(x)
        first, second = x.reshape(n, 8, -1).transpose(1, 2).chunk(2, 2)
        return self.b(torch.cat([second, first], 2)).mean(1)
