"""The documentation as a site: built and read without a network, no dead links, searchable from a disk."""

import importlib.util
import logging
import re
from pathlib import Path, PurePosixPath

import pytest

from tests.support.devtools import browser

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)\"|<link\b[^>]*\bhref=\"([^\"]+)\"")
OUTSIDE = re.compile(r"^(?:https?:)?//")
PAGES = [
    "first_success",
    "reproduce",
    "own_data",
    "kubernetes",
    "release_managers",
    "troubleshooting",
    "glossary",
    "api",
]


def load(**changes):
    config = pytest.importorskip("mkdocs.config", reason="the extra docs is not installed").load_config
    return config(str(ROOT / "mkdocs.yml"), **changes)


def build(config):
    """Builds as `mkdocs build` does: the messages that strict counts."""
    from mkdocs.commands.build import build as built

    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    config.strict = False
    config.plugins.on_startup(command="build", dirty=False)
    try:
        built(config)
    finally:
        config.plugins.on_shutdown()
        logging.getLogger("mkdocs").removeHandler(handler)
    return messages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    assert build(load(site_dir=str(folder))) == []
    return folder


def test_the_site_has_its_pages_and_what_the_pages_link_to(site):
    for page in PAGES:
        assert (site / f"{page}.html").exists(), page
    assert "POSTGRES_PASSWORD" in (site / "repository/infra/docker/compose.yaml.html").read_text(encoding="utf-8")
    assert (site / "repository/CONTRIBUTING.html").exists()


def test_a_page_loads_nothing_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = [one or other for one, other in LOADED.findall(page.read_text(encoding="utf-8"))]
        assert loaded
        assert [address for address in loaded if OUTSIDE.match(address)] == [], page.name


def test_the_api_names_what_the_architecture_names(site):
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("hymunet.params.load", "hymunet.losses.HybridLoss", "hymunet.registry.promote.promote"):
        assert f'id="{name}"' in text, name


def test_the_search_finds_a_word_from_a_disk(site, tmp_path):
    with browser(tmp_path) as page:
        page.open(f"file://{site / 'index.html'}")
        page.until("document.readyState === 'complete'")
        page.evaluate("document.querySelector('[data-md-toggle=search]').click()")
        page.evaluate(
            "(() => { const box = document.querySelector('.md-search__input'); box.value = 'near-duplicate';"
            " box.dispatchEvent(new Event('keyup', {bubbles: true})); })()"
        )
        page.until("document.querySelector('.md-search-result__item a') !== null")
        assert page.complaints == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](nothing.md)", "nothing.md"),
        ("# Page\n[a](#nowhere)", "nowhere"),
        ("[a](../hymunet/nothing.py)", "nothing.py"),
        ("![a](images/nothing.png)", "nothing.png"),
        ("# Page\nWords:\n- no list", "no list"),
        ("# Page\n[a](#page) [b](../Makefile)\n\n- a list", None),
    ],
)
def test_what_leads_nowhere_fails_the_build(tmp_path, text, said):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(text, encoding="utf-8")
    for name in ("site.css", "iframe-worker.js"):
        (tmp_path / "docs" / name).write_bytes((ROOT / "docs" / name).read_bytes())
    config = load(docs_dir=str(tmp_path / "docs"), site_dir=str(tmp_path / "site"))
    config.nav = None
    messages = build(config)
    if said:
        assert any(said in message for message in messages), messages
    else:
        assert messages == []


@pytest.fixture(scope="module")
def hook():
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    specification = importlib.util.spec_from_file_location("hook", ROOT / "docs/hook.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("docs/data.md", "data.md"),
        ("docs/images/panel.jpg", "images/panel.jpg"),
        ("README.md", "index.md"),
        ("studies/README.md", "repository/studies/README.md"),
        ("infra/docker/compose.yaml", "repository/infra/docker/compose.yaml.md"),
        ("studies/comparison/tables/isic2018/forest.svg", "repository/studies/comparison/tables/isic2018/forest.svg"),
    ],
)
def test_where_a_file_of_the_repository_lies(hook, path, place):
    assert hook.address(PurePosixPath(path)) == PurePosixPath(place)
