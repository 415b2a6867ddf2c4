"""The rules of CONTRIBUTING.md that a machine can check."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import AGTraining
from AGTraining.training.config import read_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "AGTraining"
SLICER_LIBRARY = ROOT / "AttentionSegmentation" / "AttentionSegmentationLib"
LARGEST_FILE = 15 * 1024 * 1024

# What a part of AGTraining may import of the others besides itself and the errors; parts that are not listed: all.
KNOWS: dict[str, set[str]] = {
    "networks": set(),
    "imaging": set(),
    "labels": set(),
    "bundle_file": set(),
    "model_info": {"imaging", "labels", "bundle_file"},
    "bundle": {"networks", "imaging", "model_info", "bundle_file"},
    "inference": {"networks", "imaging", "bundle", "labels"},
    "exchange": {"imaging", "labels", "inference.result"},
    "exchange_planes": {"exchange", "imaging.box", "inference.plane_result"},
    "data": {"imaging", "training.config"},
    "evaluation": {"networks", "imaging", "labels", "bundle", "inference", "data"},
}
# The extra of pyproject.toml without which a part does not work.
EXTRA = {"data": "train", "training": "train", "evaluation": "train", "export": "export", "cluster": "cluster"}
EXTRA_OF_FILE = {"frames_video.py": "video"}
SLICER_MODULES = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "mrml", "sitkUtils", "AttentionSegmentationLib"}


def imports(path: Path, file_scope_only: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    skip: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and file_scope_only:
            skip.update(ast.walk(node))
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            skip.update(inner for child in node.body for inner in ast.walk(child))
        if node in skip:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            if node.module == "AGTraining":
                yield from (f"AGTraining.{alias.name}" for alias in node.names)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def part(path: Path) -> str:
    """The part of AGTraining that a file belongs to: its folder, or its own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def test_imports_are_found_in_functions_and_not_under_type_checking(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import os\nfrom typing import TYPE_CHECKING\nfrom .a import b\nif TYPE_CHECKING:\n    import qt\n"
        "def f():\n    import vtk.util\n    from AGTraining import bundle\n"
    )

    assert list(imports(path)) == ["os", "typing", ".a", "vtk.util", "AGTraining", "AGTraining.bundle"]
    assert list(imports(path, file_scope_only=True)) == ["os", "typing", ".a"]


def test_agtraining_needs_no_slicer() -> None:
    offending = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(PACKAGE)
        for name in imports(path)
        if name.split(".")[0] in SLICER_MODULES
    }

    assert not offending


def test_agtraining_imports_by_whole_names() -> None:
    offending = {str(path.relative_to(ROOT)) for path in sources(PACKAGE) for name in imports(path) if name[0] == "."}

    assert not offending


def test_monai_is_used_for_data_and_training_only() -> None:
    offending = {
        str(path.relative_to(ROOT))
        for path in sources(PACKAGE)
        if part(path) not in ("data", "training")
        for name in imports(path)
        if name.split(".")[0] == "monai"
    }

    assert not offending


@pytest.mark.parametrize("name", sorted(KNOWS))
def test_a_part_knows_only_those_below_it(name: str) -> None:
    allowed = tuple(f"AGTraining.{other}." for other in KNOWS[name] | {name, "errors"})
    files = [path for path in sources(PACKAGE) if part(path) == name]
    offending = {
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in files
        for imported in imports(path)
        if imported.startswith("AGTraining.") and not f"{imported}.".startswith(allowed)
    }

    assert files
    assert not offending


def test_slicer_library_imports_torch_only_when_it_is_needed_and_qt_only_in_widgets() -> None:
    offending = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(SLICER_LIBRARY)
        for name in imports(path, file_scope_only=True)
        if name.split(".")[0] == "torch"
        or (name.split(".")[0] in ("qt", "ctk") and not path.stem.startswith("Qt") and not path.stem.endswith("Widget"))
    }

    assert sources(SLICER_LIBRARY)
    assert not offending


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_lock_pins_exact_public_releases_in_order() -> None:
    lines = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]

    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)]
    assert pins == sorted(pins, key=str.lower)
    assert len(lock()) == len(pins)


@pytest.mark.parametrize("extra", [None, "slicer", "train", "cluster", "export", "dev"])
def test_lock_satisfies_the_requirements_of_the_package(extra: str | None) -> None:
    requirements = project()["dependencies"] if extra is None else project()["optional-dependencies"][extra]
    pins = lock()
    offending = [
        text
        for text in requirements
        if not (requirement := Requirement(text)).specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]

    assert requirements
    assert not offending


def test_every_imported_library_is_a_declared_dependency() -> None:
    declared = {canonicalize_name(Requirement(text).name) for text in project()["dependencies"]}
    extras = {
        extra: {canonicalize_name(Requirement(text).name) for text in texts}
        for extra, texts in project()["optional-dependencies"].items()
    }
    distributions = packages_distributions()
    offending = set()
    for path in sources(PACKAGE):
        extra = EXTRA_OF_FILE.get(path.name) or EXTRA.get(part(path), "")
        allowed = declared | extras.get(extra, set())
        for name in {imported.split(".")[0] for imported in imports(path)} - sys.stdlib_module_names - {"AGTraining"}:
            if not allowed & {canonicalize_name(distribution) for distribution in distributions.get(name, ())}:
                offending.add(f"{path.relative_to(ROOT)} imports {name}")

    assert not offending


def test_versions_agree() -> None:
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changes = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert citation and citation[1] == AGTraining.__version__
    assert changes and changes[1] == AGTraining.__version__


def test_no_file_is_large() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    offending = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in files
        if path.is_file() and path.stat().st_size > LARGEST_FILE
    }

    assert files
    assert not offending


def test_commands_in_the_documentation_exist() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named_targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    verbs = set(re.findall(r"-m AGTraining ([a-z]+)", text))
    usage = subprocess.run(
        [sys.executable, "-m", "AGTraining", "--help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout

    assert {"segment", "test"} <= named_targets <= targets
    assert verbs
    assert not [verb for verb in verbs if not re.search(rf"\b{verb}\b", usage)]


def test_training_configuration_in_the_documentation_is_valid(tmp_path: Path) -> None:
    block = re.search(
        r"^```yaml\n(.+?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert block
    (tmp_path / "spleen.yaml").write_text(block[1], encoding="utf-8")

    config = read_config(tmp_path / "spleen.yaml")

    assert config.output == tmp_path / "runs/spleen"
    assert [item.labels for item in config.classes] == [["spleen"]]


def test_links_in_the_documentation_lead_somewhere() -> None:
    offending = {
        f"{path.name}: {target}"
        for path in sorted(ROOT.glob("*.md"))
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
        if not target.startswith(("http:", "https:")) and not (ROOT / target).exists()
    }

    assert not offending


def test_files_named_in_the_documentation_exist() -> None:
    folders = "AGTraining|AttentionSegmentation|Resources|Testing|benchmarks"
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(rf"(?<![\w/])(?:{folders})/[\w./-]+\.\w+", text))

    assert "Resources/Models/abdomen-ct-starter.safetensors" in named
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_continuous_integration_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
