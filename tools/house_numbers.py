"""The numbers of the house, as one Markdown table: `python tools/house_numbers.py` in the root of a checkout."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "humansd"
LONG_FILE, LONG_FUNCTION, COMPLEX = 300, 60, 12
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(folder: Path = SRC) -> dict[Path, str]:
    """Every Python file of a folder."""
    return {path: path.read_text() for path in sorted(folder.rglob("*.py"))}


def code_lines(text: str) -> int:
    """Lines that are neither empty nor of a comment alone."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


def density(files: dict[Path, str]) -> float:
    """Comprehensions in a thousand lines, all lines counted."""
    found = sum(isinstance(node, COMPREHENSIONS) for text in files.values() for node in ast.walk(ast.parse(text)))
    return 1000 * found / sum(len(text.splitlines()) for text in files.values())


def long_functions(files: dict[Path, str]) -> list[str]:
    """Functions of more than `LONG_FUNCTION` lines, signature and docstring not counted."""
    found = []
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FUNCTIONS) and (length := _body_lines(node)) > LONG_FUNCTION:
                found.append(f"{path.relative_to(SRC)}: {node.name} ({length})")
    return found


def imports(files: dict[Path, str]) -> dict[str, set[str]]:
    """Module -> the package's modules that it imports when it is loaded itself."""
    names = {_module(path): path for path in files}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        wanted = set()
        for node in _loaded_at_once(ast.parse(files[path])):
            if isinstance(node, ast.Import):
                wanted |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{one.name}" for one in node.names}
                wanted |= (inner & names.keys()) or {node.module}
        found[name] = {one for one in wanted if one in names and one not in (name, "humansd")}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected, Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in order:
            visit(name)
    return found


def former_words(files: dict[Path, str]) -> list[str]:
    """Identifiers that the field has another word for, by the list of tests/test_field_words.py."""
    spec = importlib.util.spec_from_file_location("field_words", ROOT / "tests" / "test_field_words.py")
    assert spec is not None
    assert spec.loader is not None
    words = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(words)
    found = set()
    for path, text in files.items():
        if path == words.READS_FORMER_NAMES:
            continue
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        names = {token.string for token in tokens if token.type == tokenize.NAME} - words.OTHER_MEANINGS
        found |= {name for name in names for pattern in words.FORMER if re.search(pattern, name)}
    return sorted(found)


def errors_of(*command: str) -> int | None:
    """Lines of a checker's report that name an error; None where the checker is not installed."""
    try:
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    if f"No module named {command[0]}" in done.stderr:
        return None
    return sum(bool(re.match(r"\S+\.py:\d+", line)) for line in done.stdout.splitlines())


def rows(strict: bool) -> Iterator[tuple[str, object]]:
    """What is counted, and how many there are. strict: ask mypy too, which takes minutes."""
    files, evaluation = sources(), sources(SRC / "evaluation")
    long_files = [path for path, text in files.items() if len(text.splitlines()) > LONG_FILE]
    yield "lines of src/", sum(len(text.splitlines()) for text in files.values())
    yield "of them code", sum(code_lines(text) for text in files.values())
    yield "lines of tests/", sum(len(text.splitlines()) for text in sources(ROOT / "tests").values())
    yield f"files over {LONG_FILE} lines", _listed([f"{p.relative_to(SRC)}" for p in long_files])
    yield f"functions over {LONG_FUNCTION} lines", _listed(long_functions(files))
    yield "comprehensions in 1,000 lines", f"{density(files):.0f}"
    yield "the same, evaluation/", f"{density(evaluation):.0f}"
    complexity = ("ruff", "check", "--no-cache", "--select", "C901", "--output-format", "concise", "src")
    yield f"functions of a complexity over {COMPLEX}", _known(errors_of(*complexity))
    yield "identifiers with a former word", _listed(former_words(files))
    yield "import circles", _listed([" - ".join(group) for group in circles(imports(files))])
    yield (
        "files that a new method touches",
        "2: its own, and a line of methods/table.py (test_methods.py does it)",
    )
    if strict:
        yield "errors of mypy --strict", _known(errors_of("mypy", "--strict", "src/humansd"))


def main() -> None:
    """Prints the table; `--strict` asks mypy too."""
    print("| what | how many |\n| --- | --- |")
    for name, value in rows("--strict" in sys.argv[1:]):
        print(f"| {name} | {value} |", flush=True)


def _listed(found: list[str]) -> str:
    return f"{len(found)}: {', '.join(found)}" if found else "0"


def _known(count: int | None) -> str:
    return "not installed" if count is None else str(count)


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _module(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _loaded_at_once(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module that run when it is imported: no bodies of functions, nothing for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _loaded_at_once(node)


if __name__ == "__main__":
    main()
