"""Tensors of torch in and out of codecs."""
import numpy
import pytest
import torch

import cutwire
import cutwire.torch as cwt

NONE = cutwire.Codec("none")


def test_same_bytes_as_numpy():
    x = torch.rand(4, 6, 8, 8)
    codec = cutwire.Codec("ec:err=0.15")
    assert codec.encode(x) == codec.encode(x.numpy()) == codec.encode(x.requires_grad_())
    assert codec.encode(x.permute(0, 2, 3, 1)) == codec.encode(x.permute(0, 2, 3, 1).contiguous())
    assert codec.encode(x.to(memory_format=torch.channels_last)) == codec.encode(x)
    assert codec.encode(torch.nn.Parameter(x[:, 2])) == codec.encode(x[:, 2].detach().numpy())


def test_dtypes():
    x = torch.randn(3, 5)
    for dtype, back in ((torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        y = cwt.decode(NONE.encode(x.to(dtype)))
        assert y.dtype == back and torch.equal(y, x.to(dtype).to(back))
    assert cutwire.inspect(NONE.encode(x.bfloat16())).dtype == "bf16"
    assert cutwire.decode(NONE.encode(x.bfloat16())).dtype == numpy.float32


@pytest.mark.parametrize("x", [torch.zeros(2).double(), torch.zeros(2).long(), torch.zeros(2, dtype=torch.complex64),
                               torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.bool)], ids=lambda x: str(x.dtype))
def test_no_float_tensor_is_a_type_error(x):
    with pytest.raises(TypeError, match="float tensor is wanted"):
        NONE.encode(x)


def test_a_lazily_negated_view():
    z = torch.randn(4, dtype=torch.complex64)
    view = z.conj().imag
    assert view.is_neg() and torch.equal(cwt.decode(NONE.encode(view)), -z.imag)


def test_out():
    x = torch.rand(2, 3)
    blob, y = NONE.encode(x), torch.empty(2, 3)
    assert cwt.decode(blob, out=y) is y and torch.equal(x, y)
    assert torch.equal(cutwire.decode(blob, out=torch.empty(2, 3)), x)
    assert torch.equal(cwt.decode(blob, device="cpu"), x)
    narrow = torch.empty(2, 3, dtype=torch.bfloat16)
    assert torch.equal(cwt.decode(NONE.encode(x.bfloat16()), out=narrow), x.bfloat16())
    with pytest.raises(cutwire.Error):
        cwt.decode(blob, out=narrow)
    for out, error in ((torch.empty(3, 2).t(), ValueError), (torch.empty(2, 3).double(), TypeError),
                       (torch.empty(2, 3, requires_grad=True), ValueError), (torch.empty(2, 3).half(), TypeError)):
        with pytest.raises(error):
            cwt.decode(blob, out=out)


def test_support_and_sent():
    codec, g = cutwire.Codec("ec:step=0.5,round=stochastic"), torch.randn(4, 8, 8, 8)
    support = g > 0.5
    blob = codec.encode(g * support, support=support)
    y = cwt.decode(blob, support=support)
    assert not y[~support].any()
    sent = torch.empty(g.shape, dtype=torch.uint8)
    y = cwt.decode(cutwire.Codec("ms:r=0.9").encode(g.relu()), sent=sent)
    assert torch.equal(sent.bool(), y != 0)
