"""Profiles: what is learned of earlier tensors of a cut, given to encode and decode."""
import pickle

import numpy
import pytest

import cutwire


def maps(samples, seed):
    """Maps as a layer with ReLU makes them: smooth, and channels like each other."""
    rng = numpy.random.default_rng(seed)
    x = rng.normal(size=(samples, 1, 16, 16)) + 0.5 * rng.normal(size=(samples, 8, 16, 16))
    return numpy.maximum(x + numpy.roll(x, 1, 2) + numpy.roll(x, 1, 3), 0).astype(numpy.float32)


@pytest.fixture(scope="module")
def codec():
    return cutwire.Codec("ec:err=0.15")


@pytest.fixture(scope="module")
def profile(codec):
    return cutwire.Profile.train(codec, [maps(64, 1), maps(32, 2)])


def test_a_single_sample_is_smaller(codec, profile):
    x = maps(1, 3)
    alone, helped = codec.encode(x), codec.encode(x, profile=profile)
    assert len(helped) < 0.9 * len(alone)
    assert cutwire.inspect(helped).profile == profile.hash and cutwire.inspect(alone).profile == 0
    y = cutwire.decode(helped, profile=profile)
    assert numpy.linalg.norm(y - x) < 0.16 * numpy.linalg.norm(x)
    assert (cutwire.decode(alone, profile=profile) == cutwire.decode(alone)).all()


def test_channels_last_that_are_mixtures_are_transformed():
    """As a transformer's tokens are: samples, places, channels."""
    rng = numpy.random.default_rng(7)
    x = (rng.normal(size=(48, 40, 6)) @ rng.normal(size=(6, 32)) + 0.1 * rng.normal(size=(48, 40, 32)))
    x = x.astype(numpy.float32)
    codec = cutwire.Codec("ec:err=0.3,layout=nlc")
    with_one = cutwire.Profile.train(codec, [x[:40]])
    without = cutwire.Profile.train(cutwire.Codec("ec:err=0.3,layout=nlc,effort=fast"), [x[:40]])
    assert 6 <= with_one.outputs <= 32 and without.outputs == 0
    small, large = (codec.encode(x[44:45], profile=p) for p in (with_one, without))
    assert len(small) < 0.8 * len(large)
    y = cutwire.decode(small, profile=with_one)
    assert y.shape == (1, 40, 32) and numpy.linalg.norm(y - x[44:45]) <= 0.3 * numpy.linalg.norm(x[44:45])


def test_bytes_and_pickle_make_the_same(codec, profile):
    for same in (cutwire.Profile(profile.data), pickle.loads(pickle.dumps(profile))):
        assert same == profile and hash(same) == hash(profile) and repr(profile)[8:24] == f"{profile.hash:016x}"
        x = maps(1, 4)
        assert codec.encode(x, profile=same) == codec.encode(x, profile=profile)


def test_an_absent_or_other_profile_is_refused_by_its_hash(codec, profile):
    blob = codec.encode(maps(1, 5), profile=profile)
    other = cutwire.Profile.train(codec, [maps(64, 9)])
    for wrong in (None, other):
        with pytest.raises(cutwire.Error, match=f"{profile.hash:016x}") as e:
            cutwire.decode(blob, profile=wrong)
        assert e.value.code == "CW_ERR_MISMATCH"
    with pytest.raises(TypeError, match="Profile"):
        cutwire.decode(blob, profile=profile.data)
    with pytest.raises(TypeError, match="Profile"):
        codec.encode(maps(1, 5), profile="profile.bin")


def test_a_profile_of_one_call_is_not_the_next_one_s(codec, profile):
    x = maps(1, 6)
    codec.encode(x, profile=profile)
    assert cutwire.inspect(codec.encode(x)).profile == 0


def test_what_cannot_be_learned_is_refused(codec):
    for name, tensors in (("none", []), ("shapes", [maps(4, 1), maps(4, 1)[:, :4]])):
        with pytest.raises(cutwire.Error) as e:
            cutwire.Profile.train(codec, tensors)
        assert e.value.code == "CW_ERR_INVALID", name
    with pytest.raises(cutwire.Error):
        cutwire.Profile.train(cutwire.Codec("ms:r=0.99,b=2"), [maps(4, 1)])
    with pytest.raises(TypeError):
        cutwire.Profile.train(codec, [numpy.ones((4, 4), numpy.int64)])


def test_hostile_bytes(profile):
    for n in range(0, len(profile.data), 7):
        with pytest.raises(cutwire.Error):
            cutwire.Profile(profile.data[:n])
    for i in range(len(profile.data)):
        wrong = bytearray(profile.data)
        wrong[i] ^= 0x55
        with pytest.raises(cutwire.Error):
            cutwire.Profile(wrong)
    with pytest.raises(TypeError):
        cutwire.Profile("text")
