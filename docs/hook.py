"""Pages of the site link to files outside docs/, the only folder that MkDocs knows; this brings them in.

A Markdown file becomes a page, any other text a page that shows it, a folder a page that lists it; the repository's
README.md is the site's own first page.
"""

import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)")
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".sh": "bash", ".tf": "hcl", ".toml": "toml"}
PICTURES = {".svg", ".png", ".jpg"}
log = logging.getLogger("mkdocs.hooks")


def address(path: PurePosixPath) -> PurePosixPath:
    """Where a file of the repository lies in the site."""
    if path.parts[0] == "docs":
        return path.relative_to("docs")
    if path == PurePosixPath("README.md"):
        return PurePosixPath("index.md")
    shown_as_it_is = path.suffix in PICTURES | {".md"}
    return PurePosixPath("repository") / (path if shown_as_it_is else path.with_name(path.name + ".md"))


def targets(page: PurePosixPath, text: str) -> dict[str, PurePosixPath]:
    """The links of a page that lead to something in the repository: as they are written, and what they name."""
    found = {}
    for _, link in LINK.findall(CODE.sub("", text)):
        path = PurePosixPath(os.path.normpath(page.parent / link))
        if not path.is_absolute() and path.parts[0] != ".." and (ROOT / path).exists():
            found[link] = path
    return found


def shown(path: PurePosixPath) -> str:
    """The Markdown of a page for a file or folder of the repository."""
    file = ROOT / path
    if path.suffix == ".md":
        return file.read_text(encoding="utf-8")
    if file.is_dir():
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in file.iterdir())
        return f"# {path}/\nIn the repository:\n\n" + "".join(f"- `{name}`\n" for name in names)
    fence = "`" * 4
    return f"# {path}\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{file.read_text(encoding='utf-8')}{fence}\n"


def on_files(files: Files, *, config: Any) -> Files:
    todo = [(PurePosixPath("docs") / file.src_uri, file.content_string) for file in files.documentation_pages()]
    seen = {page for page, _ in todo}
    while todo:
        page, text = todo.pop()
        for path in targets(page, text).values():
            if path in seen or address(path).parts[0] != "repository":
                continue
            seen.add(path)
            if path.suffix in PICTURES:
                files.append(File.generated(config, str(address(path)), abs_src_path=str(ROOT / path)))
                continue
            files.append(File.generated(config, str(address(path)), content=shown(path)))
            if path.suffix == ".md":
                todo.append((path, shown(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links as the site has them, of the page as the repository has it."""
    site = PurePosixPath(page.file.src_uri)
    if site.parts[0] == "repository":
        source = site.relative_to("repository")
    else:
        source = PurePosixPath("docs") / site
    for line, before in zip(lines := markdown.splitlines(), ["", *lines], strict=False):
        if line.startswith("- ") and before[:1].isalpha():
            log.warning("%s: a list that follows text without an empty line is no list here: %r", site, line[:60])
    here = {link: os.path.relpath(address(path), site.parent) for link, path in targets(source, markdown).items()}
    return LINK.sub(lambda match: match[1] + here.get(match[2], match[2]), markdown)
