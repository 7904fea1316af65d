"""Distances between the contours of two masks, exact: csrc/contours.cpp where it was built, else a k-d tree."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

LIBRARY = Path(__file__).with_name("_contours.so")
Distances = tuple[np.ndarray, np.ndarray]  # from each pixel of the first contour to the second contour, and back
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def distances(first: np.ndarray, second: np.ndarray) -> Distances:
    """In pixels, float64, row by row; both empty where one of the masks is.

    first, second: uint8 (H, W) of 0 and 1, contiguous. Distances are square roots of whole numbers, so that they are
    the same everywhere; OpenCV's transform gives float32, and its last bit depends on where the buffer lies in memory.
    """
    if not cv2.countNonZero(first) or not cv2.countNonZero(second):
        return np.empty(0), np.empty(0)
    return (_built() or by_tree)(first, second)


def contour(mask: np.ndarray) -> np.ndarray:
    """The mask's pixels with a 4-neighbour outside the mask or the image; uint8 (H, W) of 0 and 1."""
    return mask - cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def by_tree(first: np.ndarray, second: np.ndarray) -> Distances:
    """The same without the C++ part, more slowly."""
    from scipy.spatial import cKDTree

    points = [np.argwhere(contour(mask)) for mask in (first, second)]
    trees = [cKDTree(one, balanced_tree=False) for one in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


@functools.cache
def _built() -> Callable[[np.ndarray, np.ndarray], Distances] | None:
    try:
        function = ctypes.CDLL(str(LIBRARY)).hymunet_distances
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_int64
    function.argtypes = [*[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 3]

    def compute(first: np.ndarray, second: np.ndarray) -> Distances:
        scratch, found = np.empty(6 * first.size, np.uint8), np.empty(2 * first.size)
        total = ctypes.c_int64()
        places = [_address(array) for array in (first, second, scratch, found)]
        count = function(*places[:2], *first.shape, *places[2:], ctypes.byref(total))
        return found[:count].copy(), found[count : total.value].copy()

    return compute


def _address(array: np.ndarray) -> int:
    """Of its memory; `array.ctypes.data`, which takes longer than the distances between two small contours."""
    return array.__array_interface__["data"][0]
