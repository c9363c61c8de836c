#!/usr/bin/python3
"""A model's training and inference in PyTorch (fp32, channels_last), for `cutwire bench engine`.

usage: peer_engine.py MODEL SAMPLE CLASSES BATCH THREADS STEPS ACTIVATION INPUT
SAMPLE and INPUT are as `cutwire models` takes them: 3x32x32 image, 64 tokens:20002, 14 table:6/10/17/...
Prints: train images/s, inference images/s (medians over STEPS), peak memory in bytes; between tabs.
"""
import functools
import inspect
import os
import resource
import statistics
import sys
import time

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "nn"))
import torch_reference  # the engine's models in PyTorch


def median_seconds(step, steps):
    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def activation_of(name):
    """In place where PyTorch can."""
    kind = torch_reference.ACTIVATIONS[name]
    return functools.partial(kind, inplace=True) if "inplace" in inspect.signature(kind).parameters else kind


def make_batch(batch, sample, what):
    if what.startswith("tokens:"):
        return torch.randint(int(what.split(":")[1]), (batch, *sample)).float()
    if what.startswith("table:"):
        numeric, fields = torch_reference.fields_of(what)
        return torch.cat([torch.randn(batch, numeric)] + [torch.randint(n, (batch, 1)).float() for n in fields], 1)
    x = torch.randn(batch, *sample)
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


def main():
    name, sample, classes, batch, threads, steps, activation, what = sys.argv[1:9]
    sample, batch, steps = tuple(map(int, sample.split("x"))), int(batch), int(steps)
    torch.set_num_threads(int(threads))
    model = torch_reference.build(name, sample, int(classes), activation_of(activation), what)
    model = model.to(memory_format=torch.channels_last)
    x = make_batch(batch, sample, what)
    labels = torch.randint(int(classes), (batch,))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def train():
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        sgd.step()

    def infer():
        with torch.no_grad():
            model(x)

    model.train()
    trained = median_seconds(train, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model.eval()
    inferred = median_seconds(infer, steps)
    print("%.6g\t%.6g\t%d" % (batch / trained, batch / inferred, peak))


main()
