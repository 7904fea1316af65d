"""The selective scan of HyM-UNet: one operator, one module per backend. Depends on torch and on nothing of ours."""

from hymunet.ops.selective_scan import ss2d

__all__ = ["ss2d"]
