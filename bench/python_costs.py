#!/usr/bin/python3
"""What a call from Python costs beside the same call in C: encode, and decode with out=.

    make python && PYTHONPATH=build/python /usr/bin/python3 bench/python_costs.py
    ... bench/python_costs.py --step build/empty_step

The C call is cw_encode or cw_decode with its structs filled before, into a buffer that is kept, with scratch that is
kept: what a careful C program does. Both take turns, on one thread; the table has the median of each, and of the
differences within turns, in microseconds of that thread's processor time. The C call, too, is made from here, which adds
some 0.3 microseconds to it. Arrays are of numpy; where PyTorch is installed, its tensors have rows of their own.

With --step: a whole step of training over TCP, server and client in one process, codecs `none`. bench/empty_step.c has
halves that compute nothing. PyTorch's are linear layers, whose plain loop stands beside them.
"""
import argparse
import statistics
import subprocess
import threading
import time

import numpy

from cutwire import _codec, _lib, _tensors
import cutwire

try:
    import torch
except ImportError:
    torch = None

SPECS = ["none", "ms:r=0.99,b=2", "qu:b=4", "ec:err=0.15"]
SHAPES = [(1, 1, 4, 4), (1, 16, 16, 16), (16, 16, 32, 32), (64, 64, 32, 32)]


class InC:
    """One tensor's calls, prepared."""

    def __init__(self, spec, x):
        self.c, ffi = _lib.load("cutwire-codec"), _lib.ffi
        self.codec, self.call = cutwire.Codec(spec), _codec._Call()
        view = _tensors.of(x)
        tensor = self.call.set_tensor(self.call.tensor, view)
        capacity = self.c.cw_codec_bound(self.codec._codec, tensor)
        self.room = numpy.zeros(capacity, numpy.uint8)
        self.work = numpy.zeros(self.c.cw_codec_work_size(self.codec._codec, tensor) + 64, numpy.uint8)
        base = self.work.__array_interface__["data"][0]
        for args in (self.call.encode, self.call.decode):
            args.work, args.work_size = ffi.cast("void *", base + -base % 64), self.work.size - 64
            args.threads = 1
        self.target = (ffi.from_buffer("uint8_t[]", self.room), capacity)
        self.out = numpy.zeros(x.shape, numpy.float32)
        self.kept = (view, self.codec.encode(x))
        self.blob = ffi.from_buffer("uint8_t[]", self.kept[1])
        self.back = ffi.new("cw_tensor *")
        self.back.dtype, self.back.shape = _lib.F32, tensor.shape
        self.back.data = ffi.cast("void *", self.out.__array_interface__["data"][0])

    def encode(self):
        assert not self.c.cw_encode(self.codec._codec, self.call.tensor, self.call.encode, *self.target, self.call.size,
                                    self.call.err)

    def decode(self):
        assert not self.c.cw_decode(self.blob, len(self.blob), self.back, self.call.decode, self.call.err)


def timed(call):
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def compare(in_c, in_python, seconds):
    """Medians in microseconds: of C, of Python, of their differences. Who comes first changes from turn to turn."""
    end, theirs, ours = time.perf_counter() + seconds, [], []
    while time.perf_counter() < end or len(ours) < 20:
        if len(ours) % 2:
            theirs.append(timed(in_c))
            ours.append(timed(in_python))
        else:
            ours.append(timed(in_python))
            theirs.append(timed(in_c))
    more = [p - c for p, c in zip(ours, theirs)]
    return [1e6 * statistics.median(v) for v in (theirs, ours, more)]


# ---- a step of training over the network ----


def plain_steps(batch, steps, width):
    """The same two halves in a loop of PyTorch's own."""
    head, tail, loss_fn = halves(width)
    optimizers = [torch.optim.SGD(m.parameters(), 0.01) for m in (head, tail)]
    for _ in range(steps):
        for o in optimizers:
            o.zero_grad()
        loss_fn(tail(head(batch[0])), batch[1]).backward()
        for o in optimizers:
            o.step()


def halves(width):
    make = lambda: torch.nn.Linear(width, width, bias=False)
    return make(), make(), torch.nn.functional.cross_entropy


def network_steps(batch, steps, width):
    import cutwire.torch as cwt

    head, tail, loss_fn = halves(width)
    sgd = lambda m: torch.optim.SGD(m.parameters(), 0.01)
    server = cwt.Server(tail, sgd(tail), loss_fn, up="none", down="none", update="none")
    client = cwt.Client(head, sgd(head), server.endpoint)
    thread = threading.Thread(target=client.fit, args=([batch] * steps,))
    thread.start()
    server.fit()
    thread.join()


def processor_time(work, *arguments):
    """Microseconds of a step, of all threads: of many steps less few, over those between."""
    few, many, spent = 100, 1100, []
    for steps in (few, many):
        begin = time.process_time()
        work(arguments[0], steps, *arguments[1:])
        spent.append(time.process_time() - begin)
    return 1e6 * (spent[1] - spent[0]) / (many - few)


def step_costs(program, rounds):
    """Both ends of a step around what their layers compute, in C and with PyTorch, in turns."""
    torch.set_num_threads(1)
    print("\n| cut, floats | C, us a step | PyTorch's loop without a network, us | over the network, us | network adds, us |\n"
          "|---|---:|---:|---:|---:|")
    for samples, width in ((16, 64), (64, 256)):
        batch = torch.rand(samples, width), torch.randint(0, width, (samples,))
        rows = []
        for _ in range(rounds):
            done = subprocess.run([program, "2000", str(samples), str(width)], check=True, stdout=subprocess.PIPE, text=True)
            plain, over = processor_time(plain_steps, batch, width), processor_time(network_steps, batch, width)
            rows.append((float(done.stdout), plain, over, over - plain))
        print(f"| {samples} x {width} | " + " | ".join(f"{statistics.median(c):.0f}" for c in zip(*rows)) + " |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--seconds", type=float, default=1.0, help="for each line")
    p.add_argument("--step", metavar="PROGRAM", help="what a step over the network costs instead, beside that program's: "
                   "build/empty_step")
    p.add_argument("--rounds", type=int, default=5, help="of --step")
    o = p.parse_args()
    if o.step:
        step_costs(o.step, o.rounds)
        return
    seconds = o.seconds
    print("| codec | bytes of fp32 | call | C, us | Python, us | more, us | more, % |\n|---|---:|---|---:|---:|---:|---:|")
    for spec in SPECS:
        for shape in SHAPES:
            x = numpy.maximum(numpy.random.default_rng(1).standard_normal(shape).astype("f4"), 0)
            prepared, codec = InC(spec, x), cutwire.Codec(spec)
            room, blob, out = prepared.room, prepared.kept[1], prepared.out  # the same memory for both
            rows = [("encode", prepared.encode, lambda: codec.encode(x)),
                    ("encode, out=", prepared.encode, lambda: codec.encode(x, out=room)),
                    ("decode, out=", prepared.decode, lambda: cutwire.decode(blob, out=out))]
            if torch:
                x2, out2 = torch.from_numpy(x), torch.from_numpy(out)
                rows += [("encode, torch", prepared.encode, lambda: codec.encode(x2)),
                         ("decode, out=, torch", prepared.decode, lambda: cutwire.decode(blob, out=out2))]
            for name, in_c, in_python in rows:
                c, ours, more = compare(in_c, in_python, seconds)
                print(f"| `{spec}` | {x.nbytes} | {name} | {c:.1f} | {ours:.1f} | {more:.1f} | {100 * more / c:.1f} |",
                      flush=True)


if __name__ == "__main__":
    main()
