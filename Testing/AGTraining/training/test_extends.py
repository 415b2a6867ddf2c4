"""Configurations that extend others."""

from __future__ import annotations

from pathlib import Path

import pytest

from AGTraining.errors import ConfigurationError
from AGTraining.training.extends import read_document


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_keys_replace_those_of_the_extended_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        first="{a: 1, b: 1, c: {x: 1, y: 1}}",
        second="{extends: first.yaml, b: 2}",
        third="{extends: second.yaml, c: {x: 3}}",
    )

    assert read_document(tmp_path / "third.yaml") == {"a": 1, "b": 2, "c": {"x": 3}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{extends: nowhere.yaml}",
            r"nowhere.yaml: cannot be read \(No such file .*\) \(extended by .*c.yaml",
        ),
        ("{extends: c.yaml}", "c.yaml extends this file in turn"),
        ("{extends: [a, b]}", "c.yaml: 'extends': name one file"),
        ("- 1", "c.yaml: expected keys and values"),
        ("{a: [", "c.yaml: not valid YAML: .*line 1"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, c=text)

    with pytest.raises(ConfigurationError, match=said):
        read_document(tmp_path / "c.yaml")


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a="{extends: b.yaml}", b="{extends: a.yaml}")

    with pytest.raises(ConfigurationError, match=r"b.yaml: 'extends': a.yaml extends this file in turn"):
        read_document(tmp_path / "a.yaml")
