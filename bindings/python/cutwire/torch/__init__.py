"""cutwire for PyTorch: payloads to tensors.

    import cutwire.torch as cwt
    y = cwt.decode(blob, device="cpu")
"""
from ._decode import decode

__all__ = ["decode"]
