"""Each module has a test, and each port a contract; tests mirror the folders of the source."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import opentrail

SOURCE = Path(opentrail.__file__).parent
TESTS = Path(__file__).parent

#: Modules that need no test: only a docstring, an entry, a number.
WITHOUT_TEST = ("__init__.py", "__main__.py", "version.py")
#: Ports are declarations: each has a contract in `tests/contracts` that every adapter must pass.
PORTS = "ports"
#: Ports other than stores.
WITHOUT_CONTRACT = ("clock.py", "follow.py", "metrics.py")
#: Folders of tests over the whole system; the others have the names of the source's folders.
FREE_FOLDERS = ("conformance", "anomaly", "benchmarks", "contracts", "live")
#: A module, and the imported names: in parentheses, or to the end of the line.
IMPORT = re.compile(
    r"^ *(?:from|import) (opentrail[\w.]*)(?: import (?:\(([^)]*)\)|([^(\n]*)))?", re.MULTILINE
)


def modules() -> list[Path]:
    """Returns the modules that need a test, relative to the package."""
    found = sorted(SOURCE.rglob("*.py"))
    relative = [file.relative_to(SOURCE) for file in found]
    return [file for file in relative if file.name not in WITHOUT_TEST]


def imports_of(file: Path) -> set[str]:
    """Returns the dotted names that a file imports: modules, and names from them."""
    names: set[str] = set()
    for module, several, one in IMPORT.findall(file.read_text()):
        names |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", several or one))}
    return names


@cache
def imports_of_tests(folder: str = "") -> set[str]:
    """Returns the imports of the test modules below a folder."""
    return set().union(*(imports_of(file) for file in (TESTS / folder).rglob("test_*.py")))


def name_of(module: Path) -> str:
    """Returns the dotted name of a module."""
    return ".".join(("opentrail", *module.with_suffix("").parts))


def is_tested(module: Path) -> bool:
    """Returns whether a test module is about a module; see below."""
    package = module.parent
    surface = SOURCE / package / "__init__.py"
    return (
        name_of(module) in imports_of_tests()
        or (TESTS / package / f"test_{module.name}").is_file()
        or (name_of(package) in imports_of_tests() and name_of(module) in imports_of(surface))
    )


def test_every_module_has_a_test() -> None:
    """A test module imports it, or its package if that exports it, or has its name.

    Commands, operations, pages and child processes need the last: their tests reach them by a
    command line or by HTTP, and import nothing of them.
    """
    needed = [module for module in modules() if module.parts[0] != PORTS]
    assert len(needed) > 250
    assert [f"no test is about {each}" for each in needed if not is_tested(each)] == []


def test_every_port_has_a_contract() -> None:
    """A module of `tests/contracts` imports it."""
    ports = [each for each in modules() if each.parts[0] == PORTS]
    needed = {name_of(each) for each in ports if each.name not in WITHOUT_CONTRACT}
    assert needed - imports_of_tests("contracts") == set()


def test_test_folders_mirror_the_source() -> None:
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    strays = [
        str(folder)
        for folder in sorted(folders - {Path()})
        if not (SOURCE / folder).is_dir() and folder.parts[0] not in FREE_FOLDERS
    ]
    assert strays == []


def test_every_folder_of_tests_is_a_documented_package() -> None:
    for folder in {file.parent for file in TESTS.rglob("test_*.py")}:
        init = folder / "__init__.py"
        assert init.is_file(), folder
        assert init.read_text().startswith('"""'), folder


def test_names_of_tests_are_sentences() -> None:
    """At least three words: `test_delete` says nothing about behaviour."""
    short = [
        f"{file.relative_to(TESTS)}::{name}"
        for file in sorted(TESTS.rglob("test_*.py"))
        for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", file.read_text(), re.M)
        if name.count("_") < 2
    ]
    assert short == []


def test_every_dependency_has_an_import_contract() -> None:
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    declared = {
        re.split(r"[^a-z0-9-]", line)[0].replace("-", "_")
        for line in project["project"]["dependencies"]
    }
    contracts = project["tool"]["importlinter"]["contracts"]
    ruled = {
        module
        for contract in contracts
        for module in [
            *contract.get("protected_modules", []),
            *(contract["forbidden_modules"] if contract["type"] == "forbidden" else []),
        ]
    }
    # Every layer may import msgspec.
    assert declared - ruled == {"msgspec"}


#: Functions of `re` whose first argument is an expression.
_RE_FUNCTIONS = frozenset(
    {"compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
)
#: What `$` does not mean an end in: an escape, a class of characters.
_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


def _text(node: ast.AST) -> str:
    """Returns the literal parts of an expression."""
    parts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return "".join(part for part in parts if isinstance(part, str))


def test_no_expression_ends_before_a_line_break() -> None:
    """`$` also matches before a final line break, so a name with one would pass; `\\Z` does not.

    Expressions about secrets search in strings, where the end of a line is an end.
    """
    found = [
        f"{file}:{call.lineno}"
        for file in modules()
        if file.parts[:2] != ("core", "secrets")
        for call in ast.walk(ast.parse((SOURCE / file).read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "re"
        and call.func.attr in _RE_FUNCTIONS
        and call.args
        and "$" in _ESCAPE_OR_CLASS.sub("", _text(call.args[0]))
    ]
    assert found == []


def test_commands_write_json_and_csv_in_one_place() -> None:
    """Values of callers are escaped for terminals and spreadsheets: guarantees N7 and N8."""
    uses_csv = [f for f in modules() if re.search(r"^import csv$", (SOURCE / f).read_text(), re.M)]
    assert [str(file) for file in uses_csv] == ["core/text.py"]
    found = []
    for file in modules():
        if file.parts[0] != "commands" or file.name == "rendering.py":
            continue
        for call in ast.walk(ast.parse((SOURCE / file).read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name == "print" or name.startswith("sys."):
                found += [
                    f"{file}:{call.lineno}" for part in call.args if "dumps(" in ast.unparse(part)
                ]
    assert found == []
