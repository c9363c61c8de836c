#!/usr/bin/python3
"""A transformer that tells the topic of news (AG News), cut in the middle.

    PYTHONPATH=build/python /usr/bin/python3 examples/python/transformer.py --data FOLDER

FOLDER holds train.tsv and test.tsv with the columns label and text. Behind a transformer's block activations have both
signs: they take more bytes than behind a ReLU, and no gradient is masked.
"""
import argparse
import collections
import pathlib
import re

import torch
from torch import nn
from torch.nn import functional as F

import cutwire.torch as cwt

WIDTH, LENGTH, WORDS = 64, 48, 8000
CACHE = pathlib.Path.home() / ".cache/cutwire/data/ag-news"


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--data", type=pathlib.Path, default=CACHE)
    p.add_argument("--after", default="encoder.layers.1", help="encoder.layers.0 to encoder.layers.3, or embed")
    p.add_argument("--up", default="ec:err=0.15")
    p.add_argument("--down", default="ec:step=4.5,round=stochastic,scope=sample")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--limit", type=int, default=10000, help="training texts")
    return p.parse_args()


def read(path, limit):
    rows = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()[1:limit + 1]]
    texts = [re.findall(r"\w+", text.lower())[:LENGTH] for _, text in rows]
    return texts, torch.tensor([int(label) for label, _ in rows])


def numbers(texts, vocabulary):
    """n x LENGTH; 0 stands behind the end, 1 for a word that is not known."""
    out = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    for row, words in zip(out, texts):
        row[:len(words)] = torch.tensor([vocabulary.get(w, 1) for w in words])
    return out


class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(1, LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, norm=nn.LayerNorm(WIDTH))
        self.classify = nn.Linear(WIDTH, classes)

    def forward(self, tokens):
        return self.classify(self.encoder(self.embed(tokens) + self.position).mean(1))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        return sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(250), y.split(250))) / len(y)


def train(name, net, x, y, test_x, test_y, epochs):
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for i in order.split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[i]), y[i]).backward()
            optimizer.step()
        print(f"{name}: epoch {epoch + 1}: {100 * accuracy(net, test_x, test_y):.2f}%", flush=True)


def main():
    o = options()
    texts, y = read(o.data / "train.tsv", o.limit)
    test_texts, test_y = read(o.data / "test.tsv", min(o.limit, 2000))
    common = collections.Counter(word for words in texts for word in words).most_common(WORDS - 2)
    vocabulary = {word: i + 2 for i, (word, _) in enumerate(common)}
    data = numbers(texts, vocabulary), y, numbers(test_texts, vocabulary), test_y, o.epochs

    torch.manual_seed(1)
    train("without a cut", Network(4), *data)
    torch.manual_seed(1)
    head, tail = cwt.split(Network(4), after=o.after)
    cut = cwt.Cut(up=o.up, down=o.down)
    train("with the cut", nn.Sequential(head, cut, tail), *data)
    s = cut.stats
    print(f"up {s.uplink_raw_bytes / s.uplink_bytes:.1f} times fewer bytes, "
          f"down {s.downlink_raw_bytes / s.downlink_bytes:.1f}; {s.seconds:.1f} s of coding")


if __name__ == "__main__":
    main()
