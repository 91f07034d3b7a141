"""No module and no class body binds a name twice: the second value would replace the first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKED = ("src", "tests", "benchmarks", "scripts")


def bound_twice(source: str) -> list[str]:
    """Returns the names, with their line, that a module or a class body binds again.

    Only the statements of the body itself count: branches and `try` may choose a value.
    """
    found = []
    for scope in ast.walk(ast.parse(source)):
        if isinstance(scope, ast.Module | ast.ClassDef):
            bound: set[str] = set()
            for statement in scope.body:
                names = set(_bindings(statement))
                found += [f"{name}, line {statement.lineno}" for name in sorted(bound & names)]
                bound |= names
    return found


def _bindings(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement binds; `import a.b` and `import a.c` bind no name twice."""
    match statement:
        case ast.Assign(targets=targets):
            for target in targets:
                yield from _names(target)
        case ast.AnnAssign(target=target, value=ast.expr()):
            yield from _names(target)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if not _continues_another(statement):
                yield statement.name
        case ast.ClassDef(name=name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name for alias in aliases)


def _names(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _continues_another(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether it is an overload, a property's setter, or registered with a function."""
    last_parts = {ast.unparse(each).partition("(")[0] for each in function.decorator_list}
    last_parts = {part.rpartition(".")[2] for part in last_parts}
    return bool(last_parts & {"overload", "setter", "deleter", "register"})


def test_no_name_is_bound_twice() -> None:
    files = [
        file
        for folder in CHECKED
        for file in (ROOT / folder).rglob("*.py")
        if ".cache" not in file.parts
    ]
    assert len(files) > 500
    found = {str(file.relative_to(ROOT)): bound_twice(file.read_text()) for file in files}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "A = 1\nB = 2\nA = 3",
        "A: int = 1\nA = 2",
        "A, B = 1, 2\nB = 3",
        "class C:\n    a = 1\n    b = 2\n    a = 3",
        "class C:\n    def f(self): ...\n    def f(self): ...",
        "def f(): ...\nf = None",
        "import logging\nfrom x import logging",
    ],
)
def test_second_binding_is_found(source: str) -> None:
    assert len(bound_twice(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import a\nexcept ImportError:\n    a = None",
        "if x:\n    A = 1\nelse:\n    A = 2",
        "__all__ = ['a']\n__all__ += ['b']",
        "A: int\nA = 1",
        "import urllib.error\nimport urllib.request",
        "@overload\ndef f(a: int): ...\n@overload\ndef f(a: str): ...\ndef f(a): ...",
        "class C:\n    @property\n    def a(self): ...\n    @a.setter\n    def a(self, value): ...",
        "@f.register(int)\ndef _(a): ...\n@f.register(str)\ndef _(a): ...",
        "class C:\n    a = 1\nclass D:\n    a = 2",
    ],
)
def test_choice_or_overload_is_no_second_binding(source: str) -> None:
    assert bound_twice(source) == []
