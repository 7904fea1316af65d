"""JPEG files at a fraction of their size, by libjpeg-turbo with its SIMD code, which OpenCV's wheels may lack.

The same pixels as OpenCV's (its decoder is libjpeg-turbo too), sooner.
"""

import numpy as np
import simplejpeg

from hymunet.formats.orientation import orientation


def decode_rgb(content: bytes, shape: tuple[int, ...], factor: int) -> np.ndarray | None:
    """uint8 RGB, each side of `shape` divided by `factor` (1, 2, 4, 8) and rounded up.

    None for what only OpenCV is to judge: another shape, one to be turned, other colours than grey or YCbCr, damage.
    """
    height, width = shape
    try:
        found = simplejpeg.decode_jpeg_header(content)
        if found[:2] != (height, width) or found[2] not in ("Gray", "YCbCr") or orientation(content) != 1:
            return None
        return simplejpeg.decode_jpeg(content, "RGB", min_height=-(-height // factor), min_width=-(-width // factor))
    except ValueError:
        return None
