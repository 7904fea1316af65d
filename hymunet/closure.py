"""Which of the project's own files a module runs on, and one hash of what they say.

Files are read, never imported. The hash leaves out what decides nothing: comments, docstrings, formatting, files
without code. It is the same on every Python that the project supports.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hymunet", "components", "pipelines")
BY_NAME = ("import_module", "__import__", "run_module", "PackageLoader")  # calls whose first argument is a module
NAMING = (ast.Import, ast.ImportFrom, ast.Call, ast.List, ast.Tuple, ast.Constant)
NO_CODE = ("type_params", "type_comment", "kind", "ctx")  # fields of ast that say nothing, or not in every version
C_TOKEN = re.compile(
    r'(?P<text>R"(?P<end>[^(]*)\(.*?\)(?P=end)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    r"|(?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)|(?P<space>[ \t\f\r]+)",
    re.DOTALL,
)


def files(
    *starts: str | Path, without: Collection[str] = (), root: Path = ROOT, packages: Collection[str] = PACKAGES
) -> list[str]:
    """The import closure of some modules (`hymunet.losses`) or files: paths below `root`, sorted, with `/`.

    Counted are imports at the top and inside functions, modules imported by a written name (`import_module`, `-m`; all
    that fit where a part of the name is computed), files named beside a module, and the sources in `csrc/` of a library
    that a module loads. Imports for type checkers alone are not. `without`: files that are left out with all that only
    they import. `packages`: the top-level packages below `root` that are one's own. Raises ValueError for a start that
    does not exist.
    """
    found: set[str] = set()
    todo = [_start(start, root, packages) for start in starts]
    while todo:
        path = todo.pop()
        name = path.relative_to(root).as_posix()
        if name not in found and name not in without:
            found.add(name)
            if path.suffix == ".py":
                todo.extend(_needs(path, root, packages, without))
    return sorted(name for name in found if _says_something(root / name))


def named_from_outside(names: Collection[str], outside: Path, root: Path = ROOT) -> list[str]:
    """The project's modules that files below another folder import."""
    found: set[str] = set()
    for node in (node for name in names for node in _naming((outside / name).read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return sorted(name for name in found if _module_file(name, root, PACKAGES))


def sha256(names: Collection[str], root: Path = ROOT) -> str:
    """One hash of the names and the code of some files below `root`."""
    digest = hashlib.sha256()
    for name in sorted(names):
        path = root / name
        digest.update(name.encode() + b"\0" + _code_sha256(path.suffix, path.read_bytes()) + b"\0")
    return digest.hexdigest()


def _start(start: str | Path, root: Path, packages: Collection[str]) -> Path:
    if isinstance(start, Path):
        path = root / start
        if path.is_file():
            return path
    elif module := _module_file(start, root, packages):
        return module
    raise ValueError(f"{start}: no module or file of the project below {root}")


def _module_file(name: str, root: Path, packages: Collection[str]) -> Path | None:
    if name.split(".")[0] not in packages:
        return None
    path = root / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _needs(path: Path, root: Path, packages: Collection[str], without: Collection[str]) -> set[Path]:
    """The files that one Python file names, and the packages of its modules."""
    found: set[Path] = set()
    for name in _modules_named(path, root, packages):
        file = _module_file(name, root, packages)
        if file and file.relative_to(root).as_posix() not in without:
            parts = name.split(".")
            parents = (_module_file(".".join(parts[:count]), root, packages) for count in range(1, len(parts)))
            found |= {file, *(parent for parent in parents if parent)}
    for text in _texts(path.read_bytes()):
        found |= _files_named(text, path, root)
    return found


def _modules_named(path: Path, root: Path, packages: Collection[str]) -> Iterator[str]:
    package = path.relative_to(root).parent.parts
    for node in _naming(path.read_bytes()):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            modules = [name for name in names if _module_file(name, root, packages)]
            yield from modules if len(modules) == len(names) else [base, *modules]
        elif isinstance(node, ast.Call) and node.args and _last_name(node.func) in BY_NAME:
            yield from _module_names(node.args[0], root)
        elif isinstance(node, ast.List | ast.Tuple):
            for flag, module in zip(node.elts, node.elts[1:], strict=False):
                if isinstance(flag, ast.Constant) and flag.value == "-m":
                    yield from _module_names(module, root)


def _module_names(node: ast.expr, root: Path) -> Iterator[str]:
    """Of a written name, or of one that is computed in part: every module that fits it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
        yield f"{node.value}.__main__"
    elif isinstance(node, ast.JoinedStr):
        written = [part.value if isinstance(part, ast.Constant) else "*" for part in node.values]
        pattern = "".join(str(part) for part in written)
        if re.fullmatch(r"[\w*.]+", pattern) and pattern[0] != "*":
            for file in root.glob(f"{pattern.replace('.', '/')}.py"):
                yield file.relative_to(root).with_suffix("").as_posix().replace("/", ".")


def _files_named(text: str, path: Path, root: Path) -> set[Path]:
    """`kernel.so` beside the module: its sources. `page.html`, a folder of such, `registry/serve.py`: themselves."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", text) or text.startswith((".", "__pycache__")):
        return set()
    if text.endswith(".so"):
        return {file for file in path.parent.joinpath("csrc").glob("*") if file.is_file()}
    beside = path.parent / text
    if text.endswith(".py"):
        package = root / path.relative_to(root).parts[0]
        return {file for file in (beside, package / text, root / text) if file.is_file()}
    if beside.is_dir() and not any(beside.glob("*.py")):
        return {file for file in beside.rglob("*") if file.is_file() and file.name[0] not in "._"}
    return {beside} if "." in text and beside.is_file() else set()


@functools.lru_cache(maxsize=4096)
def _tree(content: bytes) -> ast.Module:
    """A Python file without its docstrings."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                line
                for line in body
                if not (
                    isinstance(line, ast.Expr)
                    and isinstance(line.value, ast.Constant)
                    and isinstance(line.value.value, str)
                )
            ]
    return tree


@functools.lru_cache(maxsize=4096)
def _naming(content: bytes) -> tuple[ast.AST, ...]:
    """The nodes of a Python file that may name another file, but for those that only a type checker reads."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [_tree(content)]
    while todo:
        node = todo.pop()
        if isinstance(node, NAMING):
            found.append(node)
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
        else:
            todo.extend(ast.iter_child_nodes(node))
    return tuple(found)


def _last_name(node: ast.expr) -> str | None:
    """`run` of `run`, `a.run` and `a.b.run`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


@functools.lru_cache(maxsize=4096)
def _texts(content: bytes) -> frozenset[str]:
    constants = (node.value for node in _naming(content) if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str))


def _says_something(path: Path) -> bool:
    return path.suffix != ".py" or bool(_tree(path.read_bytes()).body)


@functools.lru_cache(maxsize=4096)
def _code_sha256(suffix: str, content: bytes) -> bytes:
    if suffix == ".py":
        content = repr(_plain(_tree(content))).encode()
    elif suffix in (".c", ".cc", ".cpp", ".cu", ".h", ".hpp"):
        text = C_TOKEN.sub(lambda match: match["text"] or " ", content.decode())
        content = "\n".join(line.strip() for line in text.splitlines() if line.strip()).encode()
    return hashlib.sha256(content).digest()


def _plain(node: Any) -> Any:
    """A tree as nested tuples, with the fields that every supported Python has."""
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    if isinstance(node, ast.Constant):
        return type(node.value).__name__, repr(node.value)
    if isinstance(node, ast.JoinedStr):
        return "JoinedStr", _joined(node)
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name not in NO_CODE)
        return type(node).__name__, tuple((name, value) for name, value in fields if value not in (None, ()))
    return node


def _joined(node: ast.JoinedStr) -> tuple[Any, ...]:
    """The parts of an f-string: versions of Python differ in empty constants and in where they cut."""
    parts: list[Any] = []
    for part in node.values:
        if not isinstance(part, ast.Constant):
            parts.append(_plain(part))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += str(part.value)
        elif part.value:
            parts.append(part.value)
    return tuple(parts)
