#!/usr/bin/python3
"""The paper's algorithm 1 and 2 line by line in PyTorch, timed on two threads, as rows for `cutwire bench codec`.

usage: peer_torch.py BYTES,... ZEROS,... SECONDS
Rows: peer, setting, bytes, share of zeros, threads, payload bytes, seconds of memcpy, encode, decode (medians).
The codes are not packed here, which spares PyTorch work; the payload bytes are what packing would give.
"""
import statistics
import sys
import time

import numpy
import torch

THREADS = 2
R, BITS = 0.99, 2
LEVELS = 2**BITS - 1


def encode(x):
    flat = x.flatten()
    k = int((1 - R) * flat.numel())
    top = torch.topk(flat, k, sorted=False)
    top_min = top.values.min()
    codes = torch.clamp(torch.round(flat * LEVELS / top_min), max=LEVELS - 1)
    codes[top.indices] = LEVELS
    kept = codes == LEVELS
    return flat[kept], codes.to(torch.uint8)


def decode(values, codes, shape):
    top_min = values.min()
    out = codes.float() * top_min / LEVELS
    out[codes == LEVELS] = values
    return out.reshape(shape)


def timed(call, *args):
    began = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - began, result


def measure(size, zeros, seconds):
    generator = torch.Generator().manual_seed(1)
    shape = (size // 65536, 64, 16, 16)
    x = torch.randn(shape, generator=generator).abs()
    x[torch.rand(shape, generator=generator) < zeros] = 0
    source, copy = x.numpy(), numpy.zeros(shape, numpy.float32)
    copied, encoded, decoded = [], [], []
    end = time.perf_counter() + seconds
    while len(copied) < 5 or time.perf_counter() < end:
        copied.append(timed(numpy.copyto, copy, source)[0])
        spent, (values, codes) = timed(encode, x)
        encoded.append(spent)
        spent, back = timed(decode, values, codes, shape)
        decoded.append(spent)
    assert values.numel() == int((1 - R) * x.numel()) and back.shape == x.shape
    payload = 4 * values.numel() + x.numel() * BITS // 8
    median = statistics.median
    print("pytorch", f"ms:r={R},b={BITS}", size, f"{zeros:g}", THREADS, payload,
          f"{median(copied):.9f}", f"{median(encoded):.9f}", f"{median(decoded):.9f}", sep="\t", flush=True)


def main():
    torch.set_num_threads(THREADS)
    sizes, zeros, seconds = sys.argv[1:]
    for size in sizes.split(","):
        for share in zeros.split(","):
            measure(int(size), float(share), float(seconds))


if __name__ == "__main__":
    main()
