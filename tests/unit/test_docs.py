"""What the documents say is held against the code: commands, flags, codes, keys, paths, links."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from serving.artifact import Format
from serving.cli.start import start_command
from serving.config import ServerSettings
from serving.exit_codes import ExitCode
from serving.frontends.rest.routes import build_routes
from serving.repository.settings import parse_settings, reference_markdown
from tests.doubles.plane import StubPlane

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
DOCUMENTS = sorted(
    file
    for folder in (".", "docs", "benchmarks", "servables/*")
    for file in ROOT.glob(f"{folder}/*.md")
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(text: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first head cell is ``heading``, by their first cell."""
    rows: dict[str, list[str]] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    return rows
                first, *others = [cell.strip().strip("*`") for cell in row.strip("|").split("|")]
                rows[first] = others
    raise AssertionError(f"there is no table {heading!r}")


def test_readme_begins_with_serving_and_then_checking() -> None:
    text = README.read_text()
    title, first, second = text.split("```sh\n")[:3]
    assert len(title.splitlines()) <= 2
    assert first.startswith("python3 -m venv .venv")
    assert "pip install .\n" in first
    assert first.rstrip().removesuffix("```").rstrip().endswith("--model-dir servables")
    assert len(second.split("```")[0].splitlines()) == 1
    assert second.split("\n```")[0].endswith("pytest -q -n auto")


def test_ci_runs_the_second_block_of_the_readme() -> None:
    printed = subprocess.run(
        [ROOT / ".ci" / "run", "--print"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert printed == blocks(README.read_text(), "sh")[1]


def test_operations_lists_every_flag_with_its_default() -> None:
    rows = table(OPERATIONS.read_text(), "flag")
    flags = {option.opts[0] for option in start_command.params if isinstance(option, click.Option)}
    assert set(rows) == flags
    for field in dataclasses.fields(ServerSettings):
        default = field.default
        if default is dataclasses.MISSING or default is None or isinstance(default, bool):
            continue
        assert rows["--" + field.name.replace("_", "-")][0] == str(default)


def test_operations_lists_every_exit_code() -> None:
    rows = table(OPERATIONS.read_text(), "exit code")
    assert rows == {str(int(code)): [code.meaning] for code in ExitCode}


@pytest.mark.parametrize("file", [README, ROOT / "docs" / "formats.md"], ids=lambda p: p.name)
def test_documents_name_every_format(file: Path) -> None:
    named = " ".join(table(file.read_text(), "format")).lower()
    words = {
        Format.ONNX: "onnx", Format.MINDIR: "mindir", Format.MINDIR_ENCRYPTED: "also encrypted",
        Format.AIR: "air", Format.OM: "om", Format.CHECKPOINT: "checkpoint",
        Format.MINDSPORE_LITE: ".ms", Format.TENSORRT: "tensorrt",
        Format.SAFETENSORS: "safetensors",
    }  # fmt: skip
    assert set(words) == set(Format) - {Format.UNKNOWN}
    for word in words.values():
        assert word in named


def test_settings_reference_is_the_code_s() -> None:
    assert reference_markdown() in (ROOT / "docs" / "servable-toml.md").read_text()


@pytest.mark.parametrize(
    "file",
    [README, ROOT / "docs" / "servable-toml.md", ROOT / "docs" / "batching.md"],
    ids=lambda p: p.name,
)
def test_settings_shown_as_an_example_are_accepted(file: Path) -> None:
    examples = blocks(file.read_text(), "toml")
    assert examples
    for example in examples:
        settings = parse_settings(example.encode(), "servable.toml")
        assert settings.set_keys == set(tomllib.loads(example))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_document_examples_of_python_and_json_can_be_read(file: Path) -> None:
    for example in blocks(file.read_text(), "python"):
        compile(example, file.name, "exec")
    for example in blocks(file.read_text(), "json"):
        json.loads(example.replace("[...]", "[]"))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_document_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_documents_name_only_paths_that_are_there() -> None:
    named: set[str] = set()
    folders = r"serving|tests|protos|docs|servables|deploy|\.ci"
    for file in (README, ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        named |= set(re.findall(rf"`((?:{folders})/[\w./-]*)`", file.read_text()))
    assert len(named) >= 12
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_architecture_places_every_package() -> None:
    packages = {f"serving/{p.parent.name}" for p in (ROOT / "serving").glob("*/__init__.py")}
    assert packages <= set(table((ROOT / "docs" / "architecture.md").read_text(), "folder"))


def test_license_is_the_one_that_the_package_states() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    text = (ROOT / "LICENSE").read_text()
    assert stated == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_readme_leads_to_every_guide() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", README.read_text()))
    assert linked == {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")}


def test_operations_names_only_routes_that_are_there() -> None:
    paths = {route.path for route in build_routes(StubPlane()).routes}  # type: ignore[attr-defined]
    rows = table(OPERATIONS.read_text(), "path")
    assert {path.replace("NAME", "{name}") for path in rows} <= paths
