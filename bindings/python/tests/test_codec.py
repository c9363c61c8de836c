"""Codecs through Python: what goes in, what comes out, what is refused. No torch here."""
import copy
import gc
import pickle
import pathlib
import random
import re
import resource
import threading

import numpy
import pytest

import cutwire

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPECS = ["none", "fp16", "bf16", "ms:r=0.9,b=2", "sp:r=0.9", "rt:r=0.9", "qu:b=4", "ec:err=0.15",
         "ec:step=4.5,round=stochastic,scope=sample"]


def relu_map(shape=(4, 8, 12, 12), seed=1):
    x = numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)
    return numpy.maximum(x - 0.5, 0)


def relative(x, y):
    return float(numpy.linalg.norm(x - y) / numpy.linalg.norm(x))


def test_versions():
    project = re.search(r"project\(cutwire VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    assert cutwire.__version__ == cutwire.library_version() == project
    assert cutwire.cpu_variant() in ("scalar", "avx2", "avx512", "neon")
    assert {"none", "ms", "ec"} <= {family.name for family in cutwire.codecs()}


@pytest.mark.parametrize("spec", SPECS)
def test_round_trip(spec):
    x = relu_map()
    blob = cutwire.Codec(spec).encode(x, seed=3)
    y = cutwire.decode(blob)
    assert isinstance(blob, bytes) and y.dtype == numpy.float32 and y.shape == x.shape
    assert relative(x, y) < 2
    info = cutwire.inspect(blob)
    assert info.payload_bytes == len(blob) and info.shape == x.shape and info.elements == x.size and info.dtype == "f32"
    assert cutwire.Codec(info.codec) == cutwire.Codec(spec)


def test_error_of_ec_is_the_one_asked_for():
    x = relu_map()
    assert 0.985 * 0.15 < relative(x, cutwire.decode(cutwire.Codec("ec:err=0.15").encode(x))) <= 0.15


def test_any_strides_give_the_bytes_of_a_contiguous_copy():
    codec, x = cutwire.Codec("ec:err=0.1"), relu_map((6, 5, 8, 10))
    for view in (x.transpose(0, 2, 3, 1), x[::2], x[:, ::-1], x[1:, 2, ::3], numpy.asfortranarray(x), x[..., 3]):
        assert codec.encode(view) == codec.encode(numpy.array(view, order="C", copy=True))
    unaligned = numpy.frombuffer(b"x" + x.tobytes(), numpy.uint8)[1:].view(numpy.float32).reshape(x.shape)
    assert codec.encode(unaligned) == codec.encode(x)


def test_dtypes():
    x, none = relu_map(), cutwire.Codec("none")
    half = x.astype(numpy.float16)
    assert numpy.array_equal(cutwire.decode(none.encode(half)), half.astype(numpy.float32))
    assert numpy.array_equal(cutwire.decode(none.encode(x.astype(">f4"))), x)
    for shape in ((), (0, 3), (1,), (1, 1, 1, 1, 1, 1, 1, 2)):
        z = numpy.ones(shape, numpy.float32)
        assert numpy.array_equal(cutwire.decode(none.encode(z)), z) and cutwire.decode(none.encode(z)).shape == shape


@pytest.mark.parametrize("thing", [
    numpy.zeros(3), numpy.zeros(3, numpy.int32), numpy.zeros(3, bool), numpy.zeros(3, complex), [1.0, 2.0], "x", None, 3.0,
    b"abc", numpy.array(["a"]), numpy.array([None]), {}], ids=repr)
def test_no_float_tensor_is_a_type_error(thing):
    with pytest.raises(TypeError, match="float tensor is wanted"):
        cutwire.Codec("ec").encode(thing)


def test_double_is_told_how_to_cast():
    with pytest.raises(TypeError, match=r"astype\(numpy.float32\)"):
        cutwire.Codec("ec").encode(numpy.zeros(3))


def test_errors_have_code_and_offset():
    x = relu_map()
    x[0, 0, 3, 1] = numpy.nan
    with pytest.raises(cutwire.Error) as caught:
        cutwire.Codec("ec").encode(x)
    assert caught.value.code == "CW_ERR_NONFINITE" and caught.value.offset == 3 * 12 + 1
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.code, copied.offset) == (str(caught.value), "CW_ERR_NONFINITE", 37)
    with pytest.raises(cutwire.Error, match="ms") as caught:
        cutwire.Codec("xx:a=1")
    assert caught.value.code == "CW_ERR_SPEC"
    for spec in ("ec:err=0.1\0", "ec:err=nan", "ec:err=", "ec:\N{SNOWMAN}=1", ""):
        with pytest.raises(cutwire.Error):
            cutwire.Codec(spec)
    with pytest.raises(TypeError):
        cutwire.Codec(b"ec")
    with pytest.raises(cutwire.Error, match="9 dimensions"):
        cutwire.Codec("ec").encode(numpy.zeros((1,) * 9, numpy.float32))
    for keys in ({"seed": -1}, {"seed": 2**64}, {"seed": 1.5}, {"threads": -1}, {"threads": "2"}):
        with pytest.raises(ValueError, match="whole number"):
            cutwire.Codec("ec").encode(x, **keys)


def test_seeds_and_threads():
    codec, x = cutwire.Codec("ec:step=1,round=stochastic"), relu_map()
    assert codec.encode(x, seed=1) == codec.encode(x, seed=1, threads=2) != codec.encode(x, seed=2)
    assert codec.encode(x, seed=2**64 - 1) != codec.encode(x, seed=0)
    blob = codec.encode(relu_map((64, 16, 16, 16)))
    assert numpy.array_equal(cutwire.decode(blob), cutwire.decode(blob, threads=2))


def test_out_of_encode_and_decode():
    codec, x = cutwire.Codec("ec:err=0.15"), relu_map()
    room = bytearray(codec.bound(x))
    blob = codec.encode(x, out=room)
    assert bytes(blob) == codec.encode(x)
    y = numpy.empty_like(x)
    assert cutwire.decode(blob, out=y) is y and numpy.array_equal(y, cutwire.decode(bytes(blob)))
    with pytest.raises(cutwire.Error) as caught:
        codec.encode(x, out=bytearray(9))
    assert caught.value.code == "CW_ERR_TOO_SMALL"
    with pytest.raises((TypeError, BufferError, ValueError)):
        codec.encode(x, out=bytes(room))
    with pytest.raises(cutwire.Error) as caught:
        cutwire.decode(blob, out=numpy.empty(x.size, numpy.float32))
    assert caught.value.code == "CW_ERR_MISMATCH"
    frozen = numpy.empty_like(x)
    frozen.flags.writeable = False
    for out, error in ((numpy.empty(x.shape), TypeError), (numpy.empty(x.shape, numpy.float16), TypeError),
                       (numpy.empty((8,) + x.shape[1:], numpy.float32)[::2], ValueError), (frozen, ValueError),
                       (bytearray(4 * x.size), TypeError)):
        with pytest.raises(error):
            cutwire.decode(blob, out=out)


def test_support_and_sent():
    codec, x = cutwire.Codec("ec:step=0.5,round=stochastic"), relu_map()
    support = (relu_map(seed=2) > 0).astype(numpy.uint8)
    g = (x - 0.3) * support
    blob = codec.encode(g, support=support)
    assert len(blob) < len(codec.encode(g))
    y = cutwire.decode(blob, support=support.astype(bool))
    assert not y[support == 0].any() and relative(g, y) < 0.5
    with pytest.raises(cutwire.Error) as caught:
        cutwire.decode(blob)
    assert caught.value.code == "CW_ERR_MISMATCH"
    sent = numpy.empty(x.shape, bool)
    y = cutwire.decode(cutwire.Codec("ms:r=0.9").encode(x), sent=sent)
    assert numpy.array_equal(sent, y != 0)
    for bad, error in ((support[:1], ValueError), (support.astype(numpy.float32), TypeError), ([1, 0], TypeError)):
        with pytest.raises(error):
            codec.encode(g, support=bad)


def test_config_and_identity():
    codec = cutwire.Codec("ec:err=0.15")
    assert codec.get_config() == {"id": "cutwire", "spec": codec.spec}
    assert cutwire.Codec.from_config(codec.get_config()) == codec == pickle.loads(pickle.dumps(codec))
    assert copy.deepcopy(codec) == codec and hash(codec) == hash(cutwire.Codec(codec.spec)) and codec != "ec"
    assert eval(repr(codec), {"Codec": cutwire.Codec}) == codec
    for config in ({}, {"id": "zlib", "spec": "ec"}, {"spec": "ec", "level": 1}):
        with pytest.raises(ValueError):
            cutwire.Codec.from_config(config)
    assert cutwire.Codec("none").traits.lossless and cutwire.Codec("ec").traits.takes_support


def test_decoding_into_another_shape_as_numcodecs_does():
    codec, x = cutwire.Codec("bf16"), relu_map()
    flat = numpy.empty(x.size, numpy.float32)
    assert codec.decode(codec.encode(x), out=flat) is flat
    assert numpy.array_equal(flat.reshape(x.shape), codec.decode(codec.encode(x)))


def test_numcodecs():
    registry = pytest.importorskip("numcodecs.registry")
    codec = registry.get_codec({"id": "cutwire", "spec": "ec:err=0.15"})
    assert isinstance(codec, cutwire.Codec)
    x = relu_map()
    assert relative(x, codec.decode(codec.encode(x))) <= 0.15


def hostile(blob, rng):
    """A payload with some bytes changed, cut off or added."""
    bad = bytearray(blob)
    for _ in range(rng.randint(0, 3)):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    choice = rng.random()
    if choice < 0.3:
        del bad[rng.randrange(len(bad)):]
    elif choice < 0.5:
        bad += bytes(rng.randrange(9))
    return bytes(bad)


@pytest.mark.parametrize("spec", SPECS)
def test_hostile_payloads(spec):
    blob, rng, refused = cutwire.Codec(spec).encode(relu_map((2, 3, 8, 8))), random.Random(spec), 0
    for _ in range(300):
        bad = hostile(blob, rng)
        try:
            cutwire.decode(bad)
        except cutwire.Error as e:
            refused += 1
            assert e.code.startswith("CW_ERR_") and (e.offset is None or e.offset <= max(len(bad), len(blob)))
    assert refused > 200
    with pytest.raises(cutwire.Error) as caught:
        cutwire.decode(blob[:20])
    assert caught.value.code == "CW_ERR_TRUNCATED" and caught.value.offset is not None


@pytest.mark.parametrize("thing", [None, 3, "text", [1, 2], numpy.zeros((4, 4))[:, 1], object()], ids=repr)
def test_what_is_no_payload_is_a_type_error(thing):
    for call in (cutwire.decode, cutwire.inspect):
        with pytest.raises(TypeError, match="contiguous bytes"):
            call(thing)


def test_payloads_from_any_buffer():
    blob = cutwire.Codec("ec").encode(relu_map())
    whole = cutwire.decode(blob)
    for same in (bytearray(blob), memoryview(blob), numpy.frombuffer(blob, numpy.uint8)):
        assert numpy.array_equal(cutwire.decode(same), whole)


def test_threads_share_a_codec():
    codec, x = cutwire.Codec("ec:step=1,round=stochastic"), relu_map((32, 8, 16, 16))
    wanted = [codec.encode(x, seed=s) for s in range(8)]
    wrong = []

    def work(first):
        for i in range(24):
            seed = (first + i) % 8
            blob = codec.encode(x, seed=seed)
            if blob != wanted[seed] or not numpy.array_equal(cutwire.decode(blob), cutwire.decode(wanted[seed])):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_no_leak_over_ten_thousand_calls():
    codecs, x = [cutwire.Codec("qu:b=4"), cutwire.Codec("ec:err=0.15")], relu_map((1, 2, 4, 4))

    def calls(n):
        for i in range(n):
            blob = codecs[i % 100 == 0].encode(x)
            cutwire.decode(blob)
            cutwire.inspect(blob)
            cutwire.Codec("ms")
            try:
                cutwire.decode(blob[:-1])
            except cutwire.Error:
                pass
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(500)
    assert calls(10000) - before < 4096  # KiB
