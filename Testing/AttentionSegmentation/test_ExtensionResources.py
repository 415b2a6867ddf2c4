from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from AttentionSegmentationLib.ExtensionResources import resourcePath

from AGTraining.errors import ConfigurationError

CODE = "from AttentionSegmentationLib.ExtensionResources import resourcePath; print(resourcePath('requirements.txt'))"


def test_source_checkout_has_them_in_the_repository(repository):
    assert resourcePath("Models", "catalogue.json") == repository / "Resources" / "Models" / "catalogue.json"


def test_missing_file_is_named_with_what_to_do():
    with pytest.raises(ConfigurationError, match=r"Resources/Models/none\.bin .* install the extension again"):
        resourcePath("Models", "none.bin")


@pytest.mark.parametrize("besideLibrary", [True, False], ids=["installed extension", "AGTraining from elsewhere"])
def test_other_layouts(repository, tmp_path, besideLibrary):
    modules, elsewhere = tmp_path / "qt-scripted modules ü", tmp_path / "site"
    library = "AttentionSegmentation/AttentionSegmentationLib"
    modules.mkdir()
    shutil.copytree(repository / library, modules / "AttentionSegmentationLib", ignore=shutil.ignore_patterns("Seg*"))
    package = (modules if besideLibrary else elsewhere) / "AGTraining"
    package.mkdir(parents=True)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(repository / "AGTraining" / name, package)
    # The module's own resources lie there too; only one of the folders has the file.
    (modules / "Resources").mkdir()
    (modules / "Resources" / "requirements.txt").touch()
    code = f"import sys; sys.path[:0] = [{str(modules)!r}, {str(elsewhere)!r}]; {CODE}"
    result = subprocess.run([sys.executable, "-I", "-X", "utf8", "-c", code], capture_output=True, encoding="utf-8")
    assert result.stdout.strip() == str(modules / "Resources" / "requirements.txt"), result.stderr
