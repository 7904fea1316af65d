"""What eyes and fingers meet: contrast, room, what is in view, and the whole page by keyboard."""

import pytest

from tests.support.image_files import bad, good
from tests.support.serving_page import ALL_DONE, DONE, NAMES, TEXT, file

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
LONG = "a long name, as cameras and clinics give them, with no room for it " + "x" * 60 + ".png"
CLICK = "document.querySelectorAll('#list button')[{}].click()"
# Everything that may be seen at once or in turn is shown.
ALL_SHOWN = """(() => {
    for (const one of document.querySelectorAll('[hidden]')) one.hidden = false;
    for (const id of ['trouble-text', 'unsaved', 'error-text', 'unseen', 'wait-text', 'lock-error']) {
        document.getElementById(id).textContent ||= 'This is said, in so many words.';
    }
    document.getElementById('lock').show();
})()"""
# Text that is seen -> its contrast with the ground under it, as WCAG 2 defines it; what lies on images, as if on white.
CONTRASTS = """(() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number).concat(1).slice(0, 4);
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const light = (rgb) => rgb.reduce((sum, value, i) => sum + linear(value / 255) * [0.2126, 0.7152, 0.0722][i], 0);
    const white = [255, 255, 255];
    const ground = (element) => {
        if (!element) return white;
        const own = parse(getComputedStyle(element).backgroundColor);
        if (own[3] === 1) return own.slice(0, 3);
        return over(own, element.matches('#list button, .notes') ? white : ground(element.parentElement));
    };
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
        const element = node.parentElement, text = node.textContent.trim();
        if (!text || !element.getClientRects().length || element.closest('noscript, .status, .skip, .unseen')) continue;
        const under = ground(element), ink = over(parse(getComputedStyle(element).color), under);
        const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
        found.push([text.slice(0, 40), (high + 0.05) / (low + 0.05)]);
    }
    return found;
})()"""
CUT = """[...document.querySelectorAll('button, .views span, .badge, dt, dd, p, h2, label, legend')]
    .filter((one) => one.offsetParent && one.id !== 'status' && getComputedStyle(one).display !== 'inline')
    .filter((one) => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 4)
    .map((one) => [one.tagName, one.id, one.textContent.slice(0, 40)])"""
IN_VIEW = """((one) => {{
    const box = one.getBoundingClientRect();
    return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
}})(document.querySelector({!r}))"""


def filled(page, tmp_path):
    """One image done, one that failed, and a long name."""
    contents = {"a.png": good()["PNG"], "cut.png": bad()["PNG cut"][0], LONG: good()["JPEG"]}
    page.choose("#files", *(file(tmp_path, name, content) for name, content in contents.items()))
    page.until(f"document.querySelectorAll('#list li').length === 3 && {ALL_DONE}")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(page, tmp_path, dark):
    page.size(1280, 860, dark=dark)
    filled(page, tmp_path)
    page.evaluate(CLICK.format(2))
    page.evaluate(ALL_SHOWN)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 40
    assert [(text, round(ratio, 1)) for text, ratio in found if ratio < 4.5] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_cut_or_wider_than_the_screen(page, tmp_path, width):
    page.size(width, 800, phone=width < 800)
    assert page.evaluate(CUT) == []
    filled(page, tmp_path)
    for place in range(3):
        page.evaluate(CLICK.format(place))
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CUT) == [], place
    page.evaluate(ALL_SHOWN)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (1280, 720), (1280, 860)])
def test_what_is_going_on_is_seen_without_scrolling_and_covers_nothing(page, tmp_path, width, height):
    """A TIFF that waits: two notes on the place of the picture."""
    page.size(width, height, phone=width < 800)
    page.evaluate("window.fetch = () => new Promise(() => {})")
    page.choose("#files", file(tmp_path, "a.tif", good()["TIFF"]), file(tmp_path, "b.tif", good()["TIFF"]))
    page.until("!document.getElementById('unseen').hidden && !document.getElementById('wait').hidden")
    assert page.evaluate(IN_VIEW.format("#wait"))
    assert page.evaluate(IN_VIEW.format("#unseen"))
    assert page.evaluate("""(() => {
        const [one, other] = ['unseen', 'wait'].map((id) => document.getElementById(id).getBoundingClientRect());
        return one.bottom <= other.top;
    })()""")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_image_that_is_shown_is_in_view_in_the_row(page, tmp_path, width):
    page.size(width, 844, phone=width < 800)
    page.choose("#files", *(file(tmp_path, f"{number}.png", good()["PNG"]) for number in range(20)))
    page.until(f"document.querySelectorAll('#list li').length === 20 && {ALL_DONE}")
    for place in (19, 7, 0):
        page.evaluate(CLICK.format(place))
        assert page.evaluate("""(() => {
            const row = document.getElementById('list').getBoundingClientRect();
            const box = document.querySelector('[aria-current=true]').getBoundingClientRect();
            return box.left >= row.left && box.right <= row.right;
        })()"""), place


def test_every_control_is_reached_by_keyboard_and_seen_to_be(page, tmp_path):
    filled(page, tmp_path)
    page.evaluate(CLICK.format(0))
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(40):
        page.press("Tab", 9)
        name, seen = page.evaluate("""(async () => {
            await new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); });
            const one = document.activeElement;
            if (one === document.body) return ['', true];
            const shown = one.matches('.views input') ? one.nextElementSibling : one, style = getComputedStyle(shown);
            const box = shown.getBoundingClientRect();
            const ringed = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
            const here = box.left >= 0 && box.top > -1 && box.bottom < innerHeight + 1;
            return [(one.id || one.value || one.textContent || one.dataset.sample).trim(), ringed && here];
        })()""")
        if not name:
            break
        assert seen, name
        reached.append(name)
    assert reached[:3] == ["Skip to the image", "pick", "shoot"]
    assert {"clear", "remove", "overlay", "opacity", "Picture", "Mask", "Probability", "Contours (JSON)"} <= set(
        reached
    )
    assert len(reached) == 17, reached


def test_arrow_keys_take_the_focus_along_and_leave_the_browser_its_own(page, tmp_path):
    filled(page, tmp_path)
    page.evaluate(CLICK.format(0))
    page.evaluate("document.querySelector('#list button').focus()")
    page.press("ArrowRight", 39)
    assert page.evaluate(TEXT.format("name")) == "cut.png"
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.press("ArrowRight", 39)
    page.press("ArrowRight", 39)
    assert page.evaluate(TEXT.format("name")) == LONG, "the last stays"
    for modifiers in (1, 2, 4, 8):  # Alt, Ctrl, Meta, Shift
        page.call(
            "Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowLeft", windowsVirtualKeyCode=37, modifiers=modifiers
        )
        page.call(
            "Input.dispatchKeyEvent", type="keyUp", key="ArrowLeft", windowsVirtualKeyCode=37, modifiers=modifiers
        )
    assert page.evaluate(TEXT.format("name")) == LONG
    page.press("Enter", 13, "\r")
    assert page.evaluate(TEXT.format("name")) == LONG, "Enter is of the one in focus"


def test_the_focus_is_told_from_the_image_that_is_shown(page, tmp_path):
    filled(page, tmp_path)
    page.evaluate(CLICK.format(0))
    page.evaluate("document.activeElement.blur()")
    looks = """(() => {
        const style = getComputedStyle(document.querySelector('#list [aria-current=true]'));
        return [style.outlineStyle, style.outlineOffset, style.boxShadow].join();
    })()"""
    before = page.evaluate(looks)
    page.evaluate("document.getElementById('shoot').focus()")
    page.press("Tab", 9)
    page.evaluate("document.querySelector('#list button').focus()")
    assert page.evaluate(looks) != before


def test_one_image_alone_is_removed_by_keyboard_and_another_is_taken(page, tmp_path):
    page.choose("#files", file(tmp_path, "a.png", good()["PNG"]))
    page.until(DONE)
    page.evaluate("document.getElementById('remove').focus()")
    page.press("Enter", 13, "\r")
    assert page.evaluate("document.getElementById('result').hidden")
    assert page.evaluate(NAMES) == []
    assert page.evaluate(TEXT.format("status")) == "a.png removed"
    assert page.evaluate("document.activeElement.id") == "pick"


def test_the_focus_goes_to_the_image_that_is_tried_again(page, tmp_path):
    page.choose("#files", file(tmp_path, "cut.png", bad()["PNG cut"][0]))
    page.until("!document.getElementById('error').hidden")
    page.evaluate("document.getElementById('retry').focus()")
    page.press("Enter", 13, "\r")
    assert page.evaluate("document.activeElement.id") == "name"
