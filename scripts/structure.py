"""Prints how large `src/opentrail` is and how its parts depend on each other.

    python scripts/structure.py                 # the working tree
    python scripts/structure.py v0.4.0          # a commit, or a directory
    python scripts/structure.py v0.4.0 HEAD     # two trees side by side
    python scripts/structure.py --names         # also what the figures count

What each figure counts:

- lines of code: lines with a token other than a comment or a docstring;
- modules: files `*.py`, `__init__.py` among them; functions: `def` and `async def`;
- arrows: pairs of packages of which one imports from the other, in functions and under
  `TYPE_CHECKING` as well. A package is the first two folders of a module: `adapters/duckdb`,
  `adapters` for modules right in it, `.` for modules right in `opentrail`;
- circles: groups of modules, and of packages, that reach each other by imports. Between packages, a
  folder and the folders in it are one, since a facade imports its parts. Imports under
  `TYPE_CHECKING` do not count here, since they never run;
- names used twice: file names, without `__init__.py`;
- small modules, and modules with one importer: without `__init__.py` and `__main__.py`;
- conditionals on the kind of server: conditions of `if`, `while`, `… if … else`, of comprehensions,
  and `and`/`or` elsewhere, in which `cluster`, `has_history`, `is_shared`, `is_in_files` or one of
  their attributes is tested, or `files` or `cache` as an attribute or by comparison with None;
  what a member of a cluster is (`cluster.is_worker`) is not its kind, and `validation` knows no
  server.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "opentrail"
_SOURCE = f"src/{PACKAGE}"
_SMALL = 25
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
#: Names of the kind of server.
_KINDS = {"cluster", "is_cluster", "has_history", "is_shared", "is_in_files"}
_ENGINES = {"files", "cache"}
#: Names of what a member does.
_ROLES = {"is_worker", "may_work"}
_Graph = dict[str, set[str]]


@dataclass
class Tree:
    """What one tree holds. Modules are paths below the package, without `.py`."""

    lines: dict[str, int] = field(default_factory=dict)
    functions: int = 0
    untyped: int = 0
    json: int = 0
    conditionals: list[str] = field(default_factory=list)
    #: Importers by module; `run` leaves out what is under `TYPE_CHECKING`.
    imports: _Graph = field(default_factory=lambda: defaultdict(set))
    run: _Graph = field(default_factory=lambda: defaultdict(set))

    @property
    def plain(self) -> list[str]:
        """The modules without `__init__` and `__main__`."""
        return [one for one in self.lines if not one.endswith(("__init__", "__main__"))]

    @property
    def arrows(self) -> set[tuple[str, str]]:
        """Pairs of packages: the importing one, and the imported one."""
        pairs = {(package(a), package(b)) for a, found in self.imports.items() for b in found}
        return {(a, b) for a, b in pairs if a != b}

    @property
    def shared_names(self) -> dict[str, int]:
        """File names that two or more modules have."""
        counts = Counter(f"{one.rpartition('/')[2]}.py" for one in self.plain)
        return {name: number for name, number in sorted(counts.items()) if number > 1}

    @property
    def small(self) -> list[str]:
        """Modules with few lines of code."""
        return [one for one in self.plain if self.lines[one] <= _SMALL]

    @property
    def with_one_importer(self) -> list[str]:
        """Modules that one other module imports, and the importer."""
        importers = defaultdict(set)
        for importer, found in self.imports.items():
            for module in found - {importer}:
                importers[module].add(importer)
        return [f"{one} <- {min(importers[one])}" for one in self.plain if len(importers[one]) == 1]

    @property
    def module_circles(self) -> list[str]:
        """Groups of modules that import each other."""
        return circles(self.run)

    @property
    def package_circles(self) -> list[str]:
        """Groups of packages that import each other."""
        graph: _Graph = defaultdict(set)
        for importer, found in self.run.items():
            graph[importer.partition("/")[0]] |= {one.partition("/")[0] for one in found}
        return circles(graph)


def package(module: str) -> str:
    """Returns the package of a module: its first two folders."""
    folders = module.split("/")[:-1]
    return "/".join(folders[:2]) or "."


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Returns the groups of nodes that reach each other."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {
        frozenset({node, *(one for one in found if node in reached.get(one, ()))})
        for node, found in reached.items()
    }
    return sorted(" <-> ".join(sorted(group)) for group in groups if len(group) > 1)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = graph.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def sources(where: str) -> dict[str, str]:
    """Returns the text of each module of a directory or a commit."""
    folder = Path(where)
    if folder.is_dir():
        files = sorted((folder / _SOURCE).rglob("*.py"))
        return {_module(str(file.relative_to(folder))): file.read_text() for file in files}
    command = ["git", "-C", str(ROOT), "archive", where, _SOURCE]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [one for one in tar.getmembers() if one.name.endswith(".py")]
        contents = {one.name: tar.extractfile(one) for one in members}
        return {_module(name): file.read().decode() for name, file in contents.items() if file}


def _module(path: str) -> str:
    return path.removeprefix(f"{_SOURCE}/").removesuffix(".py")


def read(texts: Mapping[str, str]) -> Tree:
    """Returns what the modules hold."""
    tree = Tree()
    for module, text in texts.items():
        nodes = list(ast.walk(ast.parse(text)))
        tree.lines[module] = len(lines_of_code(text, nodes))
        for node in nodes:
            tree.functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                tree.untyped += ast.unparse(node) == "dict[str, Any]"
            tree.json += isinstance(node, ast.Name) and node.id == "Json"
        for condition in () if module.startswith("validation/") else conditions(nodes):
            if any(is_kind(operand) for operand in operands(condition)):
                shown = f"{module}:{condition.lineno} {ast.unparse(condition)}"
                tree.conditionals.append(shown)
        never_run = {
            node
            for found in nodes
            if isinstance(found, ast.If) and "TYPE_CHECKING" in ast.unparse(found.test)
            for statement in found.body
            for node in ast.walk(statement)
        }
        for node in nodes:
            found = set(imported(node, module, texts))
            tree.imports[module] |= found
            if node not in never_run:
                tree.run[module] |= found
    return tree


def lines_of_code(text: str, nodes: Iterable[ast.AST]) -> set[int]:
    """Returns the numbers of the lines with code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in nodes:
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def imported(node: ast.AST, module: str, texts: Mapping[str, str]) -> Iterator[str]:
    """Yields the modules of the package that a statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            folders = [PACKAGE, *module.split("/")][: -node.level]
            base = ".".join([*folders, *([base] if base else [])])
        names = [f"{base}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        parts = name.split(".")
        if parts[0] != PACKAGE:
            continue
        path = "/".join(parts[1:])
        above = path.rpartition("/")[0]
        candidates = (path, f"{path}/__init__", above, f"{above}/__init__".lstrip("/"))
        yield from [one for one in candidates if one in texts][:1]


def conditions(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """Yields each condition once, not its parts."""
    inner: set[ast.AST] = set()
    for node in nodes:  # what is outside comes first
        found: list[ast.expr] = []
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            found = [node.test]
        elif isinstance(node, ast.comprehension):
            found = node.ifs
        elif isinstance(node, ast.BoolOp) and node not in inner:
            found = [node]
        for condition in found:
            inner.update(ast.walk(condition))
            yield condition


def operands(condition: ast.expr) -> Iterator[ast.expr]:
    """Yields what a condition joins by `and`, `or` and `not`."""
    if isinstance(condition, ast.BoolOp):
        for value in condition.values:
            yield from operands(value)
    elif isinstance(condition, ast.UnaryOp):
        yield from operands(condition.operand)
    else:
        yield condition


def is_kind(operand: ast.expr) -> bool:
    """Returns whether an operand tests the kind of server."""
    is_compared = isinstance(operand, ast.Compare) and isinstance(
        operand.ops[0], ast.Is | ast.IsNot
    )
    if isinstance(operand, ast.Compare) and is_compared:
        operand = operand.left
    if isinstance(operand, ast.Call):
        operand = operand.func
    if not isinstance(operand, ast.Name | ast.Attribute):
        return False
    names = [one.lstrip("_") for one in ast.unparse(operand).split(".")]
    is_engine = names[-1] in _ENGINES and (is_compared or len(names) > 1)
    if names[-1] in _ROLES:
        return False
    return is_engine or not _KINDS.isdisjoint(names)


def figures(tree: Tree) -> dict[str, tuple[int, list[str]]]:
    """Returns the figures by their labels, each with what it counts."""
    names = [f"{name} ({number})" for name, number in tree.shared_names.items()]
    arrows = {f"{a} -> {b}": b for a, b in sorted(tree.arrows)}
    rows: dict[str, list[str]] = {
        "arrows between packages": list(arrows),
        "  of them, not to core or ports": [
            one for one, to in arrows.items() if to.partition("/")[0] not in {"core", "ports"}
        ],
        "circles between modules": tree.module_circles,
        "circles between packages": tree.package_circles,
        "file names used twice": names,
        f"modules of at most {_SMALL} lines": tree.small,
        "modules with one importer": tree.with_one_importer,
        "conditionals on the kind of server": tree.conditionals,
    }
    return {
        "lines of code": (sum(tree.lines.values()), []),
        "modules": (len(tree.lines), []),
        "functions": (tree.functions, []),
        "dict[str, Any]": (tree.untyped, []),
        "  by its alias Json": (tree.json, []),
        **{label: (len(found), found) for label, found in rows.items()},
    }


def main() -> None:
    """Prints the table of the trees that the arguments name."""
    shows_names = "--names" in sys.argv
    places = [one for one in sys.argv[1:] if one != "--names"] or [str(ROOT)]
    columns = [figures(read(sources(place))) for place in places]
    for label in columns[0]:
        print(f"{label:<36}" + "".join(f"{column[label][0]:>10,}" for column in columns))
        if shows_names:
            for number, column in enumerate(columns):
                others = {
                    one for other in columns if other is not column for one in other[label][1]
                }
                for one in column[label][1]:
                    if len(columns) == 1 or one not in others:
                        print(f"    {'' if len(columns) == 1 else f'{places[number]}: '}{one}")


if __name__ == "__main__":
    main()
