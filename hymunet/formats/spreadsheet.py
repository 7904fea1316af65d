"""Tables as people's spreadsheets write them: with commas, semicolons or tabs, in UTF-8 or UTF-16."""

import codecs
import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

DELIMITERS = ",;\t"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what spreadsheets take for one, and what `quoted` makes of it


def quoted(text: str) -> str:
    """A cell as a table for people has it: a file's name that a spreadsheet would compute, as `=cmd` or `-1+1`, behind
    an apostrophe, which makes it text. Numbers stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def unquoted(text: str) -> str:
    """What `quoted` made the cell of."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text, 1) else text


def read(path: Path, known: Collection[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns' names and the rows. known: names in lower case, of which the first line should hold one.

    Raises ValueError for a file that is not there, in another encoding, or no table.
    """
    try:
        content = path.read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x} in line {line}"
        raise ValueError(f"{path}: not a CSV in UTF-8 ({found}); save it as CSV UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as old Macs end lines
    first = text.partition("\n")[0]
    cells = {one: [cell.strip(' "').lower() for cell in first.split(one)] for one in DELIMITERS}
    delimiter = next((one for one, names in cells.items() if any(name in known for name in names)), ",")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [{name: value or "" for name, value in row.items() if name} for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV in UTF-8 ({error})") from None
    return list(reader.fieldnames or []), rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
