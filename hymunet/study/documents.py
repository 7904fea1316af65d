"""A study's tables and pictures as files beside its results, and as blocks in documents; written, or only compared.

A block of a document stands between `<!-- study comparison isic2018/table_1 -->` and `<!-- end of study -->`; the text
between is that of `studies/comparison/tables/isic2018/table_1.md`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hymunet import atomic
from hymunet.study import pictures, tables
from hymunet.study.formats import comma_separated, latex, markdown
from hymunet.study.plan import Plan
from hymunet.study.scores import Scored, load

FORMS = (".md", ".tex", ".csv")  # of every table, side by side
BEGIN = re.compile(r"<!-- study \S+ \S+ -->")
BLOCK = re.compile(r"(<!-- study (?P<study>\S+) (?P<name>\S+) -->\n).*?(<!-- end of study -->)", re.DOTALL)


def build(plan: Plan) -> dict[str, str]:
    """Place below `tables/` -> content, of every set that has results."""
    files: dict[str, str] = {}
    for images in plan.study.sets:
        scored = load(plan, images)
        if scored is None:
            continue
        grids = {
            name: tables.scores(plan, scored, name) for name in plan.study.tables if _worth_showing(plan, name, scored)
        }
        grids["differences"] = tables.differences(plan, scored)
        for name, grid in grids.items():
            written = (markdown(grid), latex(grid, f"{images}-{name}"), comma_separated(grid))
            files |= {f"{images}/{name}{form}": text for form, text in zip(FORMS, written, strict=True)}
        found, ranking = tables.comparisons(plan, scored)
        title = {name: plan.study.models[name].title for name in scored.models}
        if found:
            reference = plan.study.models[plan.study.reference].title
            files[f"{images}/forest.svg"] = pictures.forest(found, [title[one.name] for one in found], reference)
        if ranking is not None:
            files[f"{images}/ranks.svg"] = pictures.ranks(ranking, list(title.values()))
    return files


def _worth_showing(plan: Plan, table: str, scored: Scored) -> bool:
    """Whether a model of it has results, and not the reference alone is in the set where the table has others."""
    rows, whole = tables.rows_of(plan, table, scored.images), plan.study.tables[table].models
    alone = rows == [plan.study.reference] and len(whole) > 1
    return not alone and any(model in scored.models for model in rows)


def write(plan: Plan, documents: Sequence[Path]) -> list[str]:
    """Writes what differs, removes tables that no result makes any more, and returns the paths that changed."""
    changed = stale(plan, documents)
    for path, text in changed.items():
        if text is None:
            path.unlink()
        else:
            atomic.write(path, text)
    return [str(path) for path in changed]


def stale(plan: Plan, documents: Sequence[Path]) -> dict[Path, str | None]:
    """Files that do not agree with the results -> what they should hold; None for one that should not be there."""
    files, folder = build(plan), plan.folder / "tables"
    wanted: dict[Path, str | None] = {folder / name: text for name, text in files.items()}
    wanted |= {path: None for path in _made(folder) if path not in wanted}
    wanted |= {document: with_blocks(document, plan.folder.resolve().name, files) for document in documents}
    return {path: text for path, text in wanted.items() if not _holds(path, text)}


def _made(folder: Path) -> list[Path]:
    """What this program wrote below `tables/`: tables in all their forms, pictures with their stamp. What else lies
    there is somebody's own."""
    return [
        path
        for path in sorted(folder.glob("*/*"))
        if (path.suffix in FORMS and all(path.with_suffix(form).is_file() for form in FORMS))
        or (path.suffix == ".svg" and pictures.stamp(path.read_text(encoding="utf-8", errors="replace")))
    ]


def with_blocks(document: Path, study: str, files: Mapping[str, str]) -> str:
    """A document's text with this study's blocks filled. Raises ValueError where it has none, for a block that no
    result makes, and for one without an end, which would reach into what follows."""
    if document.exists() and not document.is_file():
        raise ValueError(f"{document}: no file; name a document with blocks of studies")
    try:
        text = document.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{document}: not UTF-8 text; save it as UTF-8, or name another document") from None
    whole = {match.start() for match in BLOCK.finditer(text) if not BEGIN.search(match[0], len(match[1]))}
    if opened := [match for match in BEGIN.finditer(text) if match.start() not in whole]:
        line = text.count("\n", 0, opened[0].start()) + 1
        raise ValueError(f"{document}: line {line}: {opened[0][0]} has no <!-- end of study --> before the next block")

    made = ", ".join(sorted(file.removesuffix(".md") for file in files if file.endswith(".md"))) or "none yet"
    if study not in {match["study"] for match in BLOCK.finditer(text)}:
        raise ValueError(
            f"{document}: has no block of study {study}; where a table shall stand, write the lines <!-- study {study} "
            f"NAME --> and <!-- end of study -->, with a NAME of: {made}"
        )

    def filled(match: re.Match[str]) -> str:
        if match["study"] != study:
            return match[0]
        name = f"{match['name']}.md"
        if name not in files:
            raise ValueError(f"{document}: block {match['name']} of study {study}: no such table; there are: {made}")
        return f"{match[1]}{files[name]}{match[4]}"

    return BLOCK.sub(filled, text)


def _holds(path: Path, text: str | None) -> bool:
    """Pictures are compared by what they were drawn from: their lines depend on the drawing library's version."""
    if text is None or not path.is_file():
        return text is None and not path.is_file()
    found = path.read_text(encoding="utf-8", errors="replace")
    return found == text or (path.suffix == ".svg" and pictures.stamp(found) == pictures.stamp(text))
