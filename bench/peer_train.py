#!/usr/bin/python3
"""Texts and tables in plain PyTorch (fp32), by the recipes of cutwire's presets, for docs/notebook/training.md.

usage: peer_train.py ag-news|sst-2|adult SEED [DUMP_SAMPLES]

The same models, token ids and columns (DUMP_SAMPLES is build/tests/dump_samples, a test's program), batch size,
optimizer and schedule; weights begin in the same distributions, drawn by PyTorch. Data lie where cutwire finds them.
Prints test accuracy after each epoch and the processor time.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "nn"))
import torch_reference  # the engine's models in PyTorch

BATCH, WARMUP = 64, 0.3
# data, training samples at most, classes, epochs, rate, weight decay
RECIPES = {"ag-news": ("ag-news", 120000, 4, 3, 0.002, 0), "sst-2": ("sst-2@48", 70000, 2, 2, 0.001, 0),
           "adult": ("adult", 33000, 2, 10, 0.05, 5e-4)}


def dump(program, data, split, count, folder):
    out = folder / split
    done = subprocess.run([program, data, split, str(count), str(out)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"peer_train: {data}: cannot be read (cutwire data verify)")
    return torch.from_numpy(np.load(f"{out}.x.npy")), torch.from_numpy(np.load(f"{out}.y.npy")).long(), done.stdout.strip()


def build(what, width, classes):
    """torch_reference's model with the dropout that it leaves out, and cutwire's initial distributions."""
    model = torch_reference.build("textcnn" if what.startswith("tokens") else "mlp", (width,), classes, nn.ReLU, what)
    for layer in model.modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, 0, 0.1)
            if layer.padding_idx is not None:
                nn.init.zeros_(layer.weight[layer.padding_idx].detach())
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
            if layer is not model.classifier:
                nn.init.kaiming_normal_(layer.weight)
    if what.startswith("tokens"):
        model.classifier = nn.Sequential(nn.Dropout(0.5), model.classifier)
    return model


def rate_at(progress, peak):
    return peak * (progress / WARMUP if progress < WARMUP else 1 - (progress - WARMUP) / (1 - WARMUP))


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x[i:i + 1000]).argmax(1) == y[i:i + 1000]).sum()) for i in range(0, len(x), 1000))
    model.train()
    return 100 * right / len(x)


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in RECIPES:
        sys.exit(__doc__)
    data, count, classes, epochs, peak, decay = RECIPES[sys.argv[1]]
    torch.manual_seed(int(sys.argv[2]))
    torch.set_num_threads(1)
    program = sys.argv[3] if len(sys.argv) > 3 else str(ROOT / "build" / "tests" / "dump_samples")
    with tempfile.TemporaryDirectory() as folder:
        x, y, what = dump(program, data, "train", count, pathlib.Path(folder))
        tx, ty, _ = dump(program, data, "test", 20000, pathlib.Path(folder))
    model = build(what, x.shape[1], classes)
    if what.startswith("tokens"):
        optimizer = torch.optim.Adam(model.parameters(), lr=peak, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=peak, momentum=0.9, weight_decay=decay)
    shown, began, steps = [], time.process_time(), -(-len(x) // BATCH)
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for step in range(steps):
            pick = order[step * BATCH:(step + 1) * BATCH]
            for group in optimizer.param_groups:
                group["lr"] = rate_at((epoch + step / steps) / epochs, peak)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
            optimizer.step()
        shown.append(f"{accuracy(model, tx, ty):.2f}")
    print(f"{sys.argv[1]}, seed {sys.argv[2]}, {what[:12]}, {len(x)} training and {len(tx)} test samples: "
          f"{' '.join(shown)}; {time.process_time() - began:.0f} s")


if __name__ == "__main__":
    main()
