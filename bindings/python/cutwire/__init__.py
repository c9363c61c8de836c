"""cutwire: the codecs of split learning for numpy and torch.

    import cutwire
    codec = cutwire.Codec("ec:err=0.15")
    blob = codec.encode(x)                 # bytes, of a float tensor of numpy or torch
    y = cutwire.decode(blob)               # numpy, fp32
    cutwire.inspect(blob)                  # codec, shape, sizes

`cutwire.torch` puts a compressed cut into a model of PyTorch; it is the only part that imports torch.

Thread-safety: everything here may be called by any number of threads at once; the GIL is released while C works.
"""
from ._codec import Codec, Family, PayloadInfo, Profile, Traits, codecs, cpu_variant, decode, inspect, library_version
from ._lib import Error
from ._version import __version__

__all__ = ["Codec", "Error", "Family", "PayloadInfo", "Profile", "Traits", "__version__", "codecs", "cpu_variant",
           "decode", "inspect", "library_version"]


def _register() -> None:
    """Codec at numcodecs, where that is installed."""
    try:
        from numcodecs.registry import register_codec
    except ImportError:
        return
    register_codec(Codec)


_register()
