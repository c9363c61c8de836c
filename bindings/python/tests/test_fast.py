"""The short way of codec calls (fast.c) beside the long one (_codec.py): the same results, errors and memory."""
import gc
import os
import resource
import threading

import numpy
import pytest

import cutwire
from cutwire import _codec

SPECS = ["none", "fp16", "ms:r=0.9,b=2", "rt:r=0.9", "qu:b=4", "ec:err=0.15", "ec:step=4.5,round=stochastic,scope=sample"]
SHAPES = [(), (0, 3), (1,), (4, 3, 5, 5), (2, 16, 24, 24), (1, 1, 1, 1, 1, 1, 1, 2)]

BUILT = os.environ.get("CUTWIRE_FAST") == "1"  # says CMake: then it must be here
if not BUILT and _codec._fast_encode is _codec._not_here:
    pytestmark = pytest.mark.skip(reason="cutwire._fast was not built: Python's headers were not here")


def relu_map(shape, seed=1):
    return numpy.maximum(numpy.random.default_rng(seed).standard_normal(shape).astype("f4"), 0)


@pytest.fixture
def long_way(monkeypatch):
    """Calls a function without fast.c."""
    def call(function, *arguments, **named):
        with monkeypatch.context() as m:
            m.setattr(_codec, "_fast_encode", _codec._not_here)
            m.setattr(_codec, "_fast_decode", _codec._not_here)
            return function(*arguments, **named)
    return call


@pytest.fixture
def short_way(monkeypatch):
    """Calls a function with fast.c alone: the long way's thread-local structs are not there."""
    class Nothing:
        def take(self):
            raise AssertionError("the long way was taken")

    def call(function, *arguments, **named):
        with monkeypatch.context() as m:
            m.setattr(_codec, "_calls", Nothing())
            return function(*arguments, **named)
    return call


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bytes_and_tensors(spec, shape, short_way, long_way):
    codec, x = cutwire.Codec(spec), numpy.asarray(relu_map(shape), "f4")
    try:
        blob = long_way(codec.encode, x, seed=2**64 - 1, evaluate=True)
    except cutwire.Error as e:  # a layout that such a tensor does not have
        with pytest.raises(cutwire.Error, match=e.code and str(e)[:20]):
            codec.encode(x, seed=2**64 - 1, evaluate=True)
        return
    room, out = bytearray(codec.bound(x)), numpy.full(shape, 7, "f4")
    for threads in (1, 2):
        for _ in range(3):  # payloads of the same size come to be written in place
            assert short_way(codec.encode, x, seed=2**64 - 1, evaluate=True, threads=threads) == blob
        part = short_way(codec.encode, x, seed=2**64 - 1, evaluate=True, threads=threads, out=room)
        assert isinstance(part, memoryview) and part.format == "B" and part == blob and part.obj is room
        out[...] = 7
        assert short_way(cutwire.decode, blob, out=out, threads=threads) is out
        assert numpy.array_equal(out, long_way(cutwire.decode, blob))


def test_tensors_of_many_sizes_in_turns(short_way, long_way):
    codecs = [cutwire.Codec(spec) for spec in SPECS]
    random = numpy.random.default_rng(3)
    for i in range(60):
        codec = codecs[random.integers(len(codecs))]
        x = relu_map((int(random.integers(1, 4)), 8, *map(int, random.integers(1, 20, 2))), i)
        blob, out = short_way(codec.encode, x, seed=i), numpy.empty_like(x)
        assert blob == long_way(codec.encode, x, seed=i)
        assert numpy.array_equal(short_way(cutwire.decode, blob, out=out), long_way(cutwire.decode, blob))


def test_a_codec_at_the_address_of_one_that_is_gone(short_way):
    """Their bounds differ, and must not be mixed up."""
    x = relu_map((2, 8, 16, 16))
    for spec in ("ms:r=0.99,b=2", "none", "qu:b=2", "none", "ec:err=0.5", "fp16") * 3:
        codec = cutwire.Codec(spec)
        assert cutwire.inspect(short_way(codec.encode, x)).codec == codec.spec
        del codec
        gc.collect()


@pytest.mark.parametrize("make", [
    lambda x: x.astype("f2"), lambda x: x.transpose(1, 0), lambda x: x[::2], lambda x: x.astype(">f4"), memoryview,
    lambda x: numpy.frombuffer(b"x" + x.tobytes(), "u1")[1:].view("f4").reshape(x.shape), lambda x: x.view(numpy.matrix)])
def test_other_tensors_take_the_long_way(make, long_way):
    codec, x = cutwire.Codec("ms:r=0.5,b=4"), make(relu_map((6, 8)))
    assert codec.encode(x) == long_way(codec.encode, x)


def read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("call, kind", [
    (lambda c, x, b: c.encode(x + numpy.nan), cutwire.Error),
    (lambda c, x, b: c.encode(x.astype("f8")), TypeError),
    (lambda c, x, b: c.encode([1.0]), TypeError),
    (lambda c, x, b: c.encode(numpy.zeros((1,) * 9, "f4")), cutwire.Error),
    (lambda c, x, b: c.encode(x, seed=-1), ValueError),
    (lambda c, x, b: c.encode(x, seed=2**64), ValueError),
    (lambda c, x, b: c.encode(x, seed="1"), ValueError),
    (lambda c, x, b: c.encode(x, threads=2**15), ValueError),
    (lambda c, x, b: c.encode(x, out=bytearray(10)), cutwire.Error),
    (lambda c, x, b: c.encode(x, out=bytes(100000)), (BufferError, ValueError)),
    (lambda c, x, b: c.encode(x, out=3), TypeError),
    (lambda c, x, b: cutwire.decode(b[:-1], out=x), cutwire.Error),
    (lambda c, x, b: cutwire.decode(b"", out=x), cutwire.Error),
    (lambda c, x, b: cutwire.decode("text", out=x), TypeError),
    (lambda c, x, b: cutwire.decode(b[:20] + b"\xff" + b[21:], out=x), cutwire.Error),
    (lambda c, x, b: cutwire.decode(b, out=x[0]), cutwire.Error),
    (lambda c, x, b: cutwire.decode(b, out=x.astype("f8")), (TypeError, ValueError)),
    (lambda c, x, b: cutwire.decode(b, out=read_only(x.copy())), ValueError),
    (lambda c, x, b: cutwire.decode(b, out=x, threads=-1), ValueError)])
def test_same_errors(call, kind, long_way):
    codec, x = cutwire.Codec("ms:r=0.9,b=2"), relu_map((2, 4, 6, 6))
    blob = codec.encode(x)
    with pytest.raises(kind) as short:
        call(codec, x, blob)
    with pytest.raises(kind) as long:
        long_way(call, codec, x, blob)
    assert type(short.value) is type(long.value) and str(short.value) == str(long.value)
    assert vars(short.value) == vars(long.value)


def test_what_evaluate_may_be(long_way):
    codec, x = cutwire.Codec("rt:r=0.5"), relu_map((2, 4, 6, 6))
    for evaluate in (True, False, 1, 0, "yes", None):
        assert codec.encode(x, seed=5, evaluate=evaluate) == long_way(codec.encode, x, seed=5, evaluate=evaluate)


def test_any_writable_memory_takes_a_payload(short_way):
    codec, x = cutwire.Codec("ms:r=0.9,b=2"), relu_map((2, 4, 6, 6))
    blob, bound = codec.encode(x), codec.bound(x)
    for room in (bytearray(bound), memoryview(bytearray(bound + 9))[9:], numpy.zeros((2, bound), "u1"),
                 numpy.zeros(bound, "f8"), numpy.zeros(bound, "i1")):
        assert short_way(codec.encode, x, out=room) == blob


def test_threads_of_many_lives():
    """Each thread keeps memory, and gives it back when it ends."""
    x = relu_map((16, 16, 32, 32))
    codec, out = cutwire.Codec("none"), numpy.empty_like(x)
    failed = []

    def work():
        mine = numpy.empty_like(x)
        for seed in range(3):
            blob = codec.encode(x, seed=seed)
            if cutwire.decode(blob, out=mine) is not mine or not numpy.array_equal(mine, x):
                failed.append(seed)

    def grown(times):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(times):
            threads = [threading.Thread(target=work) for _ in range(2)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    grown(20)
    assert grown(60) < 60 * 2 * 100 and not failed  # in KiB; each thread keeps 1024 of them while it lives
    assert cutwire.decode(codec.encode(x), out=out) is out


def test_no_leak_over_many_calls():
    codec, x = cutwire.Codec("qu:b=4"), relu_map((4, 8, 8, 8))
    out, room = numpy.empty_like(x), bytearray(codec.bound(x))

    def calls(times):
        for _ in range(times):
            blob = codec.encode(x)
            codec.encode(x, out=room)
            cutwire.decode(blob, out=out)
            codec.encode(x.T)  # the long way

    calls(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(10000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2000
