"""The tests mirror the source, file for file."""

import re
import tomllib
from pathlib import Path

import pytest

import opentrail

SOURCE = Path(opentrail.__file__).parent
TESTS = Path(__file__).parent

#: Modules without a test of their own: nothing but a docstring, an entry, a number.
WITHOUT_TEST = ("__init__.py", "__main__.py", "version.py")
#: Ports are declarations: each has a contract in `tests/contracts` that every adapter must pass.
PORTS = "ports"
#: Ports that are no store: nothing but a reading.
WITHOUT_CONTRACT = ("clock.py",)
#: Folders of tests that mirror no module.
FREE_FOLDERS = (
    "conformance",
    "anomaly",
    "benchmarks",
    "contracts",
    "golden",
    "live",
    "transcripts",
)
#: Tests that mirror no module, and why.
FREE_TESTS = {
    "commands/test_mistakes.py": "messages of all commands",
    "api/test_isolation.py": "guarantee Z3 over the whole API",
    "capture/record/test_resource_names.py": "guarantee N10 from request to selector",
    "api/console/test_oidc_sign_ins.py": "sign-ins from the provider to the session",
    "who/test_sixty_questions.py": "questions about a whole scenario, over all modules of who",
    "permissions/test_generated_policies.py": "policies from records to decisions",
    "test_packaging.py": "files that packages are made of",
    "test_layout.py": "this one",
    "capture/proxy/test_two_readings.py": "what passes the gate, as servers behind it read it",
    "capture/test_secrets.py": "guarantee S4 over all of capture",
    "capture/test_way_of_a_call.py": "the whole way of a call, over all of capture",
    "capture/test_named_secrets.py": "guarantee S4 where one member names what another holds",
    "capture/test_text_canaries.py": "guarantee S4 in texts, whatever the spelling of a secret",
    "test_console_sources.py": "the sources and the build of the web console, which are not Python",
    "test_recipes.py": "the recipes of the page and of the web console, which are not Python",
    "trails/test_organization_trails.py": "organization trails, over all modules of the package",
    "test_docs.py": "what code and documents cite",
    "test_language.py": "the words of code and documents",
    "test_version.py": "version.py needs none, but has one",
}


def modules() -> list[Path]:
    """Returns the modules that need a test, relative to the package.

    Migrations are tested together, by `tests/adapters/sql/test_migrating.py`.
    """
    found = sorted(SOURCE.rglob("*.py"))
    relative = [file.relative_to(SOURCE) for file in found]
    return [
        file
        for file in relative
        if file.name not in WITHOUT_TEST and "migrations" not in file.parts
    ]


def mirror_of(module: Path) -> Path:
    """Returns the path of a module's test, relative to the tests."""
    return module.with_name(f"test_{module.name}")


def test_every_module_has_a_test_at_the_mirrored_place() -> None:
    mirrors = [mirror_of(module) for module in modules() if module.parts[0] != PORTS]
    assert len(mirrors) > 300
    assert [f"tests/{each} is missing" for each in mirrors if not (TESTS / each).is_file()] == []


@pytest.mark.parametrize(
    "port",
    [m for m in modules() if m.parts[0] == PORTS and m.name not in WITHOUT_CONTRACT],
    ids=lambda port: str(port),
)
def test_every_port_has_a_contract(port: Path) -> None:
    assert (TESTS / "contracts" / f"test_{port.stem}_contract.py").is_file()


def test_every_test_mirrors_a_module_or_is_in_a_listed_folder() -> None:
    mirrored = {mirror_of(module) for module in modules()}
    strays = [
        str(file)
        for file in (path.relative_to(TESTS) for path in sorted(TESTS.rglob("test_*.py")))
        if file not in mirrored
        and file.parts[0] not in FREE_FOLDERS
        and str(file) not in FREE_TESTS
    ]
    assert strays == []


def test_every_folder_of_tests_is_a_package_with_a_docstring() -> None:
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


def test_every_dependency_has_a_contract_on_who_may_import_it() -> None:
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
    # Everybody may import msgspec.
    assert declared - ruled == {"msgspec"}
