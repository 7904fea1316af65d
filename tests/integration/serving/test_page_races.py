"""The page while something else happens: images go before they are read or answered, lists change under a pointer,
and what cannot be had is said where people see it."""

import cv2
import numpy as np
import pytest

from tests.support.image_files import good
from tests.support.serving import running
from tests.support.serving_page import ALL_DONE, DONE, NAMES, TEXT, file

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
COUNT = "document.querySelectorAll('#list li').length"
CLICK = "document.getElementById('{}').click()"
# Reading waits for window.load(), the first request for ever, or until it is stopped.
SLOW_READING = """(() => {
    const real = window.createImageBitmap, gate = new Promise((load) => { window.load = load; });
    window.createImageBitmap = (...all) => gate.then(() => real(...all));
})()"""
FIRST_REQUEST = """(() => {
    const real = window.fetch;
    window.fetch = (where, options) => {
        if (!where.startsWith('/v1/segment') || window.asked) return real(where, options);
        window.asked = true;
        return new Promise((answer, fail) => {
            window.answer = answer;
            options.signal?.addEventListener('abort', () => { window.stopped = true; fail(options.signal.reason); });
        });
    };
})()"""


def pngs(tmp_path, *names):
    return [file(tmp_path, name, good()["PNG"]) for name in names]


def settled(page):
    """Every promise that could go on has gone on."""
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")


def test_what_is_removed_while_it_is_read_stays_away(page, tmp_path):
    page.evaluate(FIRST_REQUEST)
    page.evaluate(SLOW_READING)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png", "c.png"))
    page.until(f"{COUNT} === 3 && window.asked")
    page.evaluate(CLICK.format("remove"))
    assert page.evaluate(TEXT.format("name")) == "b.png", "the next is shown"
    page.evaluate("window.load()")
    page.until(f"{COUNT} === 2 && {ALL_DONE}")
    assert [name.split(":")[0] for name in page.evaluate(NAMES)] == ["b.png", "c.png"]
    page.evaluate(CLICK.format("remove"))
    page.evaluate(CLICK.format("remove"))
    assert page.evaluate("document.getElementById('result').hidden")
    assert page.evaluate("document.activeElement.id") == "pick"
    assert page.complaints == []


def test_what_is_cleared_while_it_is_read_stays_away(page, tmp_path):
    page.evaluate(FIRST_REQUEST)
    page.evaluate(SLOW_READING)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png", "c.png"))
    page.until("!document.getElementById('result').hidden")
    page.evaluate(CLICK.format("clear"))
    page.evaluate("window.load()")
    settled(page)
    assert page.evaluate(COUNT) == 0
    assert page.evaluate("document.getElementById('result').hidden")
    assert page.evaluate(TEXT.format("status")) == "All images are cleared"
    page.choose("#files", *pngs(tmp_path, "d.png"))
    page.until(DONE)
    assert page.complaints == []


ANSWERS = {
    "it never comes": "undefined",
    "it comes later": "window.answer(new Response('{}'))",
    "it is a refusal": 'window.answer(new Response(\'{"error": "no"}\', { status: 422 }))',
    "it asks for a key": 'window.answer(new Response(\'{"error": "a key"}\', { status: 401 }))',
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_who_clears_all_waits_for_no_answer(page, tmp_path, answer):
    page.evaluate(FIRST_REQUEST)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png"))
    page.until("Boolean(window.asked)")
    page.evaluate(CLICK.format("clear"))
    page.choose("#files", *pngs(tmp_path, "new.png"))
    page.evaluate(ANSWERS[answer])
    page.until(DONE)
    settled(page)
    assert page.evaluate("window.stopped"), "the server is told that nobody waits"
    assert page.evaluate(COUNT) == 1
    assert page.evaluate(TEXT.format("status")).startswith("new.png:")
    assert not page.evaluate("document.getElementById('lock').open")
    assert page.complaints == []


def test_who_clears_all_waits_for_no_busy_server(chromium, model, tmp_path):
    with running(model, queue=1) as server:
        chromium.open(f"{server.address}/")
        chromium.evaluate("""(() => {
            const real = window.fetch;
            window.fetch = (where, ...rest) => where.startsWith('/v1/segment') && !window.asked++
                ? Promise.resolve(new Response('{}', { status: 429, headers: { 'Retry-After': '600' } }))
                : real(where, ...rest);
            window.asked = 0;
        })()""")
        chromium.choose("#files", *pngs(tmp_path, "a.png", "b.png"))
        chromium.until(f"{TEXT.format('wait-text')}.includes('600 s')")
        chromium.evaluate(CLICK.format("clear"))
        chromium.choose("#files", *pngs(tmp_path, "new.png"))
        chromium.until(DONE)


def mouse(page, kind, selector):
    x, y = page.evaluate(f"""(() => {{
        const box = document.querySelector({selector!r}).getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})()""")
    page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_a_click_outlasts_an_answer_that_comes_in_between(page, tmp_path):
    page.evaluate(FIRST_REQUEST)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png"))
    page.until(f"window.asked && {COUNT} === 2")
    settled(page)
    mouse(page, "mousePressed", "#list li:last-child button")
    page.evaluate('window.answer(new Response(\'{"error": "no"}\', { status: 422 }))')
    page.until(ALL_DONE)
    mouse(page, "mouseReleased", "#list li:last-child button")
    page.until(f"{TEXT.format('name')} === 'b.png'")


def test_two_choices_come_one_after_the_other(page, tmp_path):
    page.evaluate(SLOW_READING)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png"))
    page.choose("#files", *pngs(tmp_path, "c.png", "d.png"))
    page.evaluate("window.load()")
    page.until(f"{COUNT} === 4 && {ALL_DONE}")
    assert [name[0] for name in page.evaluate(NAMES)] == ["a", "b", "c", "d"]


def test_an_image_that_waits_is_seen_in_the_list(page, tmp_path):
    page.evaluate(FIRST_REQUEST)
    page.choose("#files", *pngs(tmp_path, "a.png", "b.png"))
    colours = """(() => {
        const pen = document.querySelector('#list li:last-child canvas').getContext('2d');
        return new Set(Array.from(new Uint32Array(pen.getImageData(0, 0, 168, 168).data.buffer))).size;
    })()"""
    page.until(f"{COUNT} === 2 && {colours} > 50")
    assert page.evaluate(NAMES)[1] == "b.png: waiting"


MODELS = {
    "no answer": ("Promise.reject(new TypeError('Failed to fetch'))", "The server does not answer."),
    "an error": ("Promise.resolve(new Response('<html>', { status: 502 }))", "The server said 502."),
    "of another": ("Promise.resolve(new Response('{}'))", "Its answer is not understood."),
}


@pytest.mark.parametrize("heals", ["by hand", "by an answer"])
@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_is_not_told_is_said_where_people_see_it(chromium, server, case, heals):
    answer, words = MODELS[case]
    broken = f"""const real = window.fetch;
        window.fetch = (where, ...rest) => where === '/v1/model' && !window.mended ? {answer} : real(where, ...rest);"""
    script = chromium.call("Page.addScriptToEvaluateOnNewDocument", source=broken)["identifier"]
    try:
        chromium.complaints.clear()
        chromium.open(f"{server.address}/")
        chromium.until("!document.getElementById('trouble').hidden")
    finally:
        chromium.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    assert chromium.evaluate("document.getElementById('trouble').innerText").startswith("Which model answers here is")
    assert words in chromium.evaluate("document.getElementById('trouble').innerText")
    click = CLICK.format("again") if heals == "by hand" else "document.querySelector('[data-sample]').click()"
    chromium.evaluate(f"window.mended = true; {click}")
    chromium.until(f"document.getElementById('trouble').hidden && {TEXT.format('hint')}.includes('megapixels')")
    assert chromium.complaints == []


def test_a_sample_that_does_not_come_is_said_and_had_again(page):
    page.evaluate("""window.real = window.fetch; window.fetch = () => Promise.reject(new TypeError('Failed'));
        document.querySelector('[data-sample="1"]').click()""")
    page.until("!document.getElementById('trouble').hidden")
    assert "sample 2 does not come" in page.evaluate(TEXT.format("trouble-text"))
    page.evaluate(f"window.fetch = window.real; {CLICK.format('again')}")
    page.until(DONE)
    assert page.evaluate("document.getElementById('trouble').hidden")


def test_a_drop_without_a_file_is_said(page):
    page.evaluate("""(() => {
        const data = new DataTransfer();
        data.setData('text/uri-list', 'https://elsewhere.example/lesion.jpg');
        document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    })()""")
    assert "is no file" in page.evaluate("document.getElementById('trouble').innerText")


@pytest.mark.parametrize("cause", ["too large for a canvas", "the browser gives none"])
def test_a_picture_that_the_browser_cannot_make_is_said(page, tmp_path, cause):
    line = cv2.imencode(".png", np.full((3, 70_000, 3), 90, np.uint8))[1].tobytes()
    page.choose("#files", file(tmp_path, "it.png", line if cause == "too large for a canvas" else good()["PNG"]))
    page.until(DONE)
    if cause == "the browser gives none":
        page.evaluate("HTMLCanvasElement.prototype.toBlob = (use) => { setTimeout(() => use(null)); }")
    page.evaluate("document.querySelector('[data-save=overlay]').click()")
    page.until("!document.getElementById('unsaved').hidden")
    words = page.evaluate("document.getElementById('unsaved').innerText")
    assert words.startswith("This browser makes no picture of ")
    assert page.evaluate(TEXT.format("status")) == words
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.evaluate("document.querySelector('[data-save=json]').click()")
    page.until(f"{TEXT.format('status')} === 'it.json saved' && document.getElementById('unsaved').hidden")
    assert page.complaints == []
