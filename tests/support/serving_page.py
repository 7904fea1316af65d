"""What the tests of the serving page ask of it."""

import base64

import numpy as np

DONE = "document.getElementById('result').ariaBusy === 'false' && !document.getElementById('found').hidden"
ALL_DONE = "[...document.querySelectorAll('.badge')].every((badge) => badge.textContent !== '…')"
NAMES = "[...document.querySelectorAll('#list button')].map((button) => button.getAttribute('aria-label'))"
TEXT = "document.getElementById('{}').textContent"


def file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def canvas(page):
    """What is on the canvas: uint8 (H, W, 4)."""
    shape, content = page.evaluate("""(() => {
        const canvas = document.getElementById('canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const text = Array.from(data, (value) => String.fromCharCode(value)).join('');
        return [[canvas.height, canvas.width, 4], btoa(text)];
    })()""")
    return np.frombuffer(base64.b64decode(content), np.uint8).reshape(shape)


def choose_view(page, name):
    page.evaluate(f"document.querySelector('input[value={name}]').click()")
