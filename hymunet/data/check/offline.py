"""Great Expectations' Data Docs, made to read well without a network.

The stock pages fetch style sheets, scripts and a logo from seven hosts; offline they fall apart, and online they tell
those hosts who reads. Everything that is fetched goes out, and one style sheet of our own goes in.
"""

import re
from pathlib import Path

from hymunet import atomic

REMOTE = (
    r"<link\b[^>]*href=\"https?://[^>]*>",
    r"<script\b[^>]*src=\"https?://[^>]*>\s*</script>",
    r"<img\b[^>]*src=\"https?://[^>]*>",
    r"<style\b[^>]*>.*?</style>",
    r"<script\b[^>]*>.*?</script>",  # what is left of the scripts only drives those taken out
)
STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1b2733; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem }
h1, h2, h3, h4, h5 { line-height: 1.2; margin: 1.2em 0 .4em } a { color: #0b62a4 }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.4rem; font-size: 14px }
th, td { border-bottom: 1px solid #d6dde4; padding: .35rem .6rem; text-align: left; vertical-align: top }
th { background: #f1f4f7 } tr:hover td { background: #fafbfc } p { margin: .3rem 0 }
.badge { background: #e8edf2; border-radius: 3px; padding: 0 .35em; font-family: ui-monospace, monospace }
.text-success, .fa-check-circle { color: #18794e } .text-danger, .fa-times { color: #c02626 }
.fa-check-circle::before { content: "\\2714" } .fa-times::before { content: "\\2718" }
.fa-exclamation-triangle::before { content: "\\26A0" }
nav ol, .breadcrumb { list-style: none; padding: 0; display: flex; gap: .8em; flex-wrap: wrap }
.navbar, footer, #ge-cta-footer, .modal, button, .d-none, .cooltip .top, .ge-walkthrough { display: none }
pre, code { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px }
</style></head>"""


def make_offline(site: Path) -> None:
    """Rewrites every page below `site`."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern in REMOTE:
            text = re.sub(pattern, "", text, flags=re.DOTALL)
        atomic.write(page, text.replace("</head>", STYLE, 1))
