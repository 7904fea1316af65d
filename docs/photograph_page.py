"""Pictures of the serving page with the package's model: desktop and phone, light and dark.

    python docs/photograph_page.py [FOLDER]

Four PNGs in FOLDER, to look at; without it docs/images/serving_desktop.jpg and serving_phone.jpg are made anew. Needs
Chromium, and the packages of `make setup`.
"""

import sys
import tempfile
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.serving_server import served  # noqa: E402
from hymunet import bundled  # noqa: E402
from tests.support.devtools import browser  # noqa: E402

SCREENS = {"desktop": (1280, 860, False), "phone": (390, 844, True)}
SHOWN = {"desktop": False, "phone": True}  # dark, in docs/images
DONE = "document.getElementById('result').ariaBusy === 'false' && !document.getElementById('found').hidden"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if sys.argv[1:] else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with served(bundled.folder()) as (address, _), browser(Path(temporary) / "profile") as page:
            for screen, (width, height, phone) in SCREENS.items():
                for dark in (False, True):
                    page.size(width, height, phone=phone, dark=dark)
                    page.open(f"{address}/")
                    for number in (0, 1, 2):
                        page.evaluate(f"document.querySelector('[data-sample=\"{number}\"]').click()")
                        page.until(f"document.querySelectorAll('#list li').length === {number + 1} && {DONE}")
                    target = folder / f"serving_{screen}_{'dark' if dark else 'light'}.png"
                    page.screenshot(target)
                    if not sys.argv[1:] and SHOWN[screen] == dark:
                        picture = cv2.imread(str(target))
                        cv2.imwrite(
                            str(ROOT / f"docs/images/serving_{screen}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 85]
                        )
        print(f"{folder if sys.argv[1:] else 'docs/images'}: written")


if __name__ == "__main__":
    main()
