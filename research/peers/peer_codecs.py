"""What other systems do to activations and gradients, written from their descriptions: for comparison only.

Each has encode(tensor) -> bytes and decode(bytes, shape) -> tensor, all bytes included that its receiver needs.

Fp16          hivemind, NVFlare, SecretFlow ("QuantizedFP" with 16 bits): IEEE half precision
TopK          SecretFlow ("TopkSparse"): the share 1 - rate of largest magnitude, the rest 0. A value of 4 bytes and a
              place for each. SecretFlow sends row and column as 8-byte integers; here a place is 4 bytes
ZeroPoint8    SecretFlow ("QuantizedZeroPoint"), after Jacob et al. 2018: 256 levels from minimum to maximum, 0 among
              them
Uniform8      hivemind ("UNIFORM_8BIT"): 256 equal bins over six standard deviations around the mean; a bin decodes to the
              mean of what fell into it
NormalFloat4  NVFlare's 4-bit filter ("normfloat4", by bitsandbytes), after Dettmers et al. 2023: blocks of 64, each
              divided by its largest magnitude; 16 levels at quantiles of the normal distribution
"""
import statistics

import numpy
import torch


class Fp16:
    name = "fp16"

    def encode(self, x):
        return x.half().numpy().tobytes()

    def decode(self, blob, shape):
        return torch.from_numpy(numpy.frombuffer(blob, numpy.float16).astype("f4").reshape(shape))


class TopK:
    def __init__(self, rate):
        self.rate, self.name = rate, f"top-k, {100 * rate:g}% are 0"

    def encode(self, x):
        flat = x.reshape(-1)
        kept = flat.abs().topk(max(round((1 - self.rate) * flat.numel()), 1)).indices
        return kept.int().numpy().tobytes() + flat[kept].numpy().tobytes()

    def decode(self, blob, shape):
        half = len(blob) // 2
        y = numpy.zeros(shape, "f4")
        y.reshape(-1)[numpy.frombuffer(blob[:half], "i4")] = numpy.frombuffer(blob[half:], "f4")
        return torch.from_numpy(y)


class ZeroPoint8:
    name = "8 bits, zero point"

    def encode(self, x):
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = (high - low) / 255 or 1.0
        zero = round(-low / scale)
        codes = (x / scale + zero).round().clamp(0, 255).byte()
        return numpy.array([scale, zero], "f4").tobytes() + codes.numpy().tobytes()

    def decode(self, blob, shape):
        scale, zero = numpy.frombuffer(blob[:8], "f4")
        codes = numpy.frombuffer(blob, numpy.uint8, offset=8).astype("f4")
        return torch.from_numpy(((codes - zero) * scale).reshape(shape))


class Uniform8:
    name = "8 bits, six deviations"

    def encode(self, x):
        flat = x.reshape(-1)
        width = 6 * float(flat.std()) / 256 or 1.0
        codes = ((flat - flat.mean()) / width + 128).round().clamp(0, 255).long()
        counts = torch.bincount(codes, minlength=256).clamp(min=1)
        book = torch.zeros(256).scatter_add_(0, codes, flat) / counts
        return book.numpy().tobytes() + codes.byte().numpy().tobytes()

    def decode(self, blob, shape):
        book = numpy.frombuffer(blob[:1024], "f4")
        return torch.from_numpy(book[numpy.frombuffer(blob, numpy.uint8, offset=1024)].reshape(shape))


class NormalFloat4:
    name = "4 bits, NF4 in blocks of 64"
    BLOCK, TAIL = 64, 0.9677083  # the outermost quantile: the mean of 1 - 1/30 and 1 - 1/32

    def __init__(self):
        quantile = statistics.NormalDist().inv_cdf
        above = [quantile(self.TAIL + (0.5 - self.TAIL) * i / 8) for i in range(8)]
        below = [-quantile(self.TAIL + (0.5 - self.TAIL) * i / 7) for i in range(7)]
        levels = torch.tensor(sorted([*below, 0.0, *above]))
        self.levels = levels / levels.max()
        self.borders = (self.levels[1:] + self.levels[:-1]) / 2

    def encode(self, x):
        flat = x.reshape(-1)
        blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % self.BLOCK)).reshape(-1, self.BLOCK)
        largest = blocks.abs().amax(1, keepdim=True)
        codes = torch.bucketize(blocks / largest.clamp(min=1e-38), self.borders).byte().reshape(-1)
        return largest.numpy().tobytes() + (codes[::2] * 16 + codes[1::2]).numpy().tobytes()

    def decode(self, blob, shape):
        count = int(numpy.prod(shape))
        blocks = -(-count // self.BLOCK)
        pairs = numpy.frombuffer(blob, numpy.uint8, offset=4 * blocks)
        codes = numpy.stack([pairs >> 4, pairs & 15], 1).reshape(blocks, self.BLOCK)
        y = self.levels.numpy()[codes] * numpy.frombuffer(blob[:4 * blocks], "f4")[:, None]
        return torch.from_numpy(y.reshape(-1)[:count].reshape(shape))


class Channel(torch.autograd.Function):
    """A tensor through one codec, its gradient through the same on the way back. `counted` is [up, down, raw]."""

    @staticmethod
    def forward(ctx, x, codec, counted):
        ctx.codec, ctx.counted = codec, counted
        counted[2] += 4 * x.numel()
        return send(x, codec, counted, 0)

    @staticmethod
    def backward(ctx, dy):
        return send(dy.contiguous(), ctx.codec, ctx.counted, 1), None, None


def send(x, codec, counted, way):
    blob = codec.encode(x.detach())
    counted[way] += len(blob)
    return codec.decode(blob, tuple(x.shape))


class PeerCut(torch.nn.Module):
    def __init__(self, codec):
        super().__init__()
        self.codec, self.counted = codec, [0, 0, 0]

    def forward(self, x):
        return Channel.apply(x, self.codec, self.counted)
