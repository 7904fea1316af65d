"""The page in a real browser that reaches no other host: every way in, views, errors, keys, phone, dark."""

import base64
import json

import numpy as np
import pytest

from hymunet import images
from hymunet.serving.samples import sample
from tests.support.image_files import bad, good
from tests.support.serving import running
from tests.support.serving_page import ALL_DONE, DONE, NAMES, TEXT, canvas, choose_view, file

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_a_chosen_image_is_outlined_and_measured(page, segmenter, tmp_path):
    content = good()["JPEG turned by EXIF"]
    (mask,) = segmenter.masks([images.rgb(content, "it")])
    page.choose("#files", file(tmp_path, "mole <b>1.jpg", content))
    page.until(DONE)
    assert page.evaluate(TEXT.format("name")) == "mole <b>1.jpg", "a name is text"
    assert f"{mask.sum():,} pixels" in page.evaluate(TEXT.format("measures"))
    assert page.evaluate(TEXT.format("measures")).startswith("Confidence")
    choose_view(page, "mask")
    np.testing.assert_array_equal(canvas(page)[..., 0], 255 * mask)
    choose_view(page, "original")
    original = canvas(page)
    assert original.shape[:2] == mask.shape, "turned as its EXIF says"
    assert np.abs(original[..., :3].astype(int) - images.rgb(content, "it")).mean() < 4
    choose_view(page, "overlay")
    assert (canvas(page) != original).any() == mask.any()
    choose_view(page, "probability")
    assert not page.evaluate("document.getElementById('legend').hidden")
    assert "probability" in page.evaluate("document.getElementById('canvas').getAttribute('aria-label')")
    assert page.complaints == []


def test_the_tint_is_changed_by_the_keyboard_alone(page):
    page.evaluate("document.querySelector('[data-sample]').focus()")
    page.press("Enter", 13, "\r")
    page.until(DONE)
    before = canvas(page)
    page.evaluate("document.getElementById('opacity').focus()")
    for _ in range(20):
        page.press("ArrowRight", 39)
    assert page.evaluate(TEXT.format("opacity-value")) == "45 %"
    assert (canvas(page) != before).any()
    assert "45" in page.evaluate("document.getElementById('opacity').getAttribute('aria-valuetext')")


def test_several_in_a_row_one_of_them_broken(page, tmp_path):
    files = [file(tmp_path, f"{name}.bin", good()[name]) for name in ("PNG", "TIFF", "CMYK JPEG", "one pixel")]
    broken = file(tmp_path, "cut.png", bad()["PNG cut"][0])
    page.choose("#files", files[0], broken, *files[1:])
    page.until(f"document.querySelectorAll('#list li').length === 5 && {ALL_DONE}")
    names = page.evaluate(NAMES)
    assert names[1] == "cut.png: failed"
    assert all("image" in name or "nothing outlined" in name for name in (names[0], *names[2:]))
    page.evaluate("document.activeElement.blur()")
    page.press("ArrowRight", 39)
    assert page.evaluate(TEXT.format("name")) == "cut.png"
    assert "truncated or damaged PNG" in page.evaluate(TEXT.format("error-text"))
    page.press("ArrowRight", 39)
    assert page.evaluate(TEXT.format("name")) == "TIFF.bin"
    assert page.evaluate("document.getElementById('unseen').hidden"), "the answer brings what a browser cannot read"
    choose_view(page, "original")
    assert np.abs(canvas(page)[..., :3].astype(int) - images.rgb(good()["TIFF"], "it")).mean() < 6
    choose_view(page, "overlay")
    page.evaluate("document.getElementById('clear').click()")
    assert page.evaluate("document.getElementById('result').hidden")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_pasted_and_dropped(page, way):
    """The page's own events, with a file in them; a system's clipboard cannot be filled in a headless browser."""
    content = base64.b64encode(good()["PNG"]).decode()
    event = {
        "paste": "new ClipboardEvent('paste', { clipboardData: data, bubbles: true })",
        "drop": "new DragEvent('drop', { dataTransfer: data, bubbles: true })",
    }[way]
    page.evaluate(f"""(async () => {{
        const data = new DataTransfer(), text = atob({json.dumps(content)});
        const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
        data.items.add(new File([bytes], 'given.png', {{ type: 'image/png' }}));
        document.body.dispatchEvent({event});
    }})()""")
    page.until(DONE)
    assert page.evaluate(TEXT.format("name")) == "given.png"


def test_downloads_are_what_the_server_said(page, server, tmp_path):
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.evaluate("document.querySelector('[data-sample=\"1\"]').click()")
    page.until(DONE)
    wanted = {"mask": "sample 2_mask.png", "json": "sample 2.json", "overlay": "sample 2_outline.png"}
    for kind, name in wanted.items():
        page.evaluate(f"document.querySelector('[data-save={kind}]').click()")
        page.until(f"{TEXT.format('status')}.includes('{name} saved')")
        for _ in range(200):
            if (tmp_path / name).exists():
                break
            page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    content = sample(1)
    assert (tmp_path / wanted["mask"]).read_bytes() == server.post(content, query="?output=mask").content
    assert json.loads((tmp_path / wanted["json"]).read_bytes()) == server.post(content).json()
    assert images.read(tmp_path / wanted["overlay"]).shape == images.rgb(content, "it").shape


def test_too_large_a_file_is_refused_before_it_is_sent(chromium, model, tmp_path):
    with running(model, max_bytes=2000) as server:
        chromium.open(f"{server.address}/")
        chromium.until(f"{TEXT.format('hint')}.includes('megapixels')")
        chromium.choose("#files", file(tmp_path, "large.jpg", good()["large"]))
        chromium.until("!document.getElementById('error').hidden")
        assert "MB are taken; save it as JPEG, or smaller" in chromium.evaluate(TEXT.format("error-text"))
        assert 'status="413"' not in server.get("/metrics").text


def test_a_busy_server_is_asked_again(chromium, model):
    with running(model, queue=1) as server:
        chromium.open(f"{server.address}/")
        chromium.until(f"{TEXT.format('hint')}.includes('megapixels')")
        with server.service.admission.slot():
            chromium.evaluate("document.querySelector('[data-sample]').click()")
            chromium.until(f"{TEXT.format('wait-text')}.includes('busy')")
        chromium.until(DONE)


def test_a_key_is_asked_for_until_it_is_right(chromium, model):
    with running(model, key="right") as server:
        chromium.open(f"{server.address}/")
        chromium.evaluate("document.querySelector('[data-sample]').click()")
        for key in ("wrong", "right"):
            chromium.until("document.getElementById('lock').open")
            assert chromium.evaluate("document.getElementById('lock-error').hidden") == (key == "wrong")
            chromium.evaluate("document.getElementById('key').focus()")
            chromium.call("Input.insertText", text=key)
            chromium.press("Enter", 13, "\r")
        chromium.until(DONE)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_all_in_its_width(page, dark):
    page.size(360, 740, phone=True, dark=dark)
    page.evaluate("document.querySelector('[data-sample]').click()")
    page.until(DONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    small = page.evaluate("""[...document.querySelectorAll('button, .views span')].filter((one) => one.offsetParent)
        .map((one) => one.getBoundingClientRect()).filter((box) => box.height < 44 || box.width < 44).length""")
    assert small == 0, "a finger is 44 pixels wide"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere(page, server):
    page.evaluate("document.querySelector('[data-sample]').click()")
    page.until(DONE)
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "radio", "slider", "image", "img")
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored") and node.get("role", {}).get("value") in roles
    ]
    assert {"button", "radio", "slider"} <= {role for role, _ in named}
    assert [role for role, name in named if not name] == []
    assert "Research use only" in page.evaluate("document.querySelector('header').innerText")
    hosts = page.evaluate("performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)")
    assert {host for host in hosts if host != "null"} <= {server.address}
    policy = server.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in line for line in page.complaints), "by the policy, not for want of a server"


@pytest.mark.parametrize("then", ["another is shown", "all are cleared"])
def test_a_picture_is_saved_of_the_image_that_was_shown(page, tmp_path, then):
    """Decoding a large image takes a while, in which another may come to be shown."""
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.choose("#files", file(tmp_path, "small.png", good()["PNG"]), file(tmp_path, "large.jpg", good()["large"]))
    page.until(f"document.querySelectorAll('#list li').length === 2 && {ALL_DONE}")
    page.evaluate("document.querySelectorAll('#list button')[1].click()")
    turn = {
        "another is shown": "document.querySelectorAll('#list button')[0].click()",
        "all are cleared": "document.getElementById('clear').click()",
    }[then]
    page.evaluate("""(() => {
        const { stroke } = CanvasRenderingContext2D.prototype, { toBlob } = HTMLCanvasElement.prototype;
        CanvasRenderingContext2D.prototype.stroke = function (...rest) {
            this.canvas.outlined = true;
            stroke.apply(this, rest);
        };
        HTMLCanvasElement.prototype.toBlob = function (...rest) {
            window.seen = [this.width, this.height, Boolean(this.outlined)];
            toBlob.apply(this, rest);
        };
    })()""")
    page.evaluate(f"document.querySelector('[data-save=overlay]').click(); {turn}")
    page.until(f"{TEXT.format('status')}.includes('large_outline.png saved')")
    shape = images.rgb(good()["large"], "it").shape
    assert page.evaluate("window.seen") == [shape[1], shape[0], True]
    assert page.complaints == []


@pytest.mark.parametrize("key", ["schlüssel", "ключ", "two words"])
def test_a_key_of_any_letters_opens(chromium, model, key):
    with running(model, key=key) as server:
        chromium.open(f"{server.address}/")
        chromium.evaluate("document.querySelector('[data-sample]').click()")
        chromium.until("document.getElementById('lock').open")
        chromium.evaluate("document.getElementById('key').focus()")
        chromium.call("Input.insertText", text=key)
        chromium.press("Enter", 13, "\r")
        chromium.until(DONE)


ANSWERS = {
    "cut off": ('new Response(\'{"width": 64, "mask_p\')', "The answer broke off. Try again."),
    "a proxy's page": ("new Response('<html>', { status: 502 })", "The server said 502."),
    "no words": ('new Response(\'{"error": ""}\', { status: 500 })', "The server said 500."),
    "none": ("Promise.reject(new TypeError('Failed to fetch'))", "The server does not answer."),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_none_is_said_in_words_and_tried_again(page, name):
    answer, words = ANSWERS[name]
    page.evaluate(f"""window.real = window.fetch;
        window.fetch = (where, ...rest) => where.startsWith('/v1') ? {answer} : window.real(where, ...rest);""")
    page.evaluate("document.querySelector('[data-sample]').click()")
    page.until("!document.getElementById('error').hidden")
    assert page.evaluate(TEXT.format("error-text")).startswith(words)
    page.evaluate("window.fetch = window.real; document.getElementById('retry').click()")
    page.until(DONE)


def test_a_file_that_is_gone_is_told_from_a_server_that_is_gone(page, tmp_path):
    gone = file(tmp_path, "gone.png", good()["PNG"])
    page.evaluate("""window.real = window.fetch;
        window.fetch = (...all) => new Promise((go) => { window.go = go; }).then(() => window.real(...all));""")
    page.choose("#files", gone)
    page.until("Boolean(window.go)")
    gone.unlink()
    page.evaluate("window.go()")
    page.until("!document.getElementById('error').hidden")
    assert "cannot be read" in page.evaluate(TEXT.format("error-text"))


def test_who_has_no_key_is_asked_once_for_all_images(chromium, model, tmp_path):
    with running(model, key="right") as server:
        chromium.open(f"{server.address}/")
        chromium.choose("#files", *(file(tmp_path, f"{number}.png", good()["PNG"]) for number in range(3)))
        chromium.until("document.getElementById('lock').open")
        chromium.press("Escape", 27)
        chromium.until(f"document.querySelectorAll('#list li').length === 3 && {ALL_DONE}")
        assert not chromium.evaluate("document.getElementById('lock').open")
        assert all(name.endswith("failed") for name in chromium.evaluate(NAMES))
        chromium.evaluate("document.getElementById('retry').click()")
        chromium.until("document.getElementById('lock').open")
