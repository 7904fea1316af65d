"""Images to try the page on: drawn, not photographed."""

from functools import cache

import cv2

from hymunet.data.acquire.synthetic import draw

COUNT, SIZE, SEED = 3, 480, 17


@cache
def sample(number: int) -> bytes:
    """The PNG of one, from 0 to COUNT - 1."""
    image, _ = draw(number, SIZE, SEED)
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
