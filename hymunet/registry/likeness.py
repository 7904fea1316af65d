"""Images that look alike, by the perceptual hashes that a version keeps of its images: all that is there of another's.

The split step's own comparison needs the images. By their hashes alone copies are found that were encoded again,
scaled, brightened or tinted, and no copies that were cropped or turned.
"""

from collections.abc import Sequence

import numpy as np

BITS = 4  # of 64 that differ at most: docs/registry.md says what that finds, and what by chance


def alike(hashes: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """bool (len(hashes),): whether one of the others looks like it. 64-bit hashes as hexadecimal."""
    ours, theirs = (np.array([int(text, 16) for text in some], np.uint64) for some in (hashes, others))
    return np.array([bool((np.bitwise_count(theirs ^ one) <= BITS).any()) for one in ours], bool)
