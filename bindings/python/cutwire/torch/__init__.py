"""cutwire for PyTorch: a compressed cut in a model of your own.

    import cutwire.torch as cwt
    head, tail = cwt.split(model, after="layer1")
    net = torch.nn.Sequential(head, cwt.Cut(up="ec:err=0.15"), tail)     # your loop, unchanged

Written for PyTorch 1.13 and all that came after it.
"""
from .._net import keygen
from ._cut import Cut, Stats, is_behind_relu
from ._decode import decode
from ._gradients import GradientCompression, compress_gradients
from ._split import cut_points, split
from .inference import Guesses, Remote, Service, fingerprint, serve
from .network import Client, Server

__all__ = ["Client", "Cut", "GradientCompression", "Guesses", "Remote", "Server", "Service", "Stats", "compress_gradients",
           "cut_points", "decode", "fingerprint", "is_behind_relu", "keygen", "serve", "split"]
