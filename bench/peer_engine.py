#!/usr/bin/python3
"""A model's training and inference in PyTorch (fp32, channels_last), for `cutwire bench engine`.

usage: peer_engine.py MODEL CxHxW CLASSES BATCH THREADS STEPS
Prints: train images/s, inference images/s (medians over STEPS), peak memory in bytes; between tabs.
"""
import functools
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


def main():
    name, sample, classes, batch, threads, steps = sys.argv[1:7]
    sample, batch, steps = tuple(map(int, sample.split("x"))), int(batch), int(steps)
    torch.set_num_threads(int(threads))
    model = torch_reference.build(name, sample, int(classes), functools.partial(torch.nn.ReLU, inplace=True)).to(memory_format=torch.channels_last)
    x = torch.randn(batch, *sample).to(memory_format=torch.channels_last)
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
