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

    assert read_document(tmp_path / "third.yaml").values == {"a": 1, "b": 2, "c": {"x": 3}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{extends: nowhere.yaml}",
            r"nowhere.yaml: cannot be read \(No such file .*\) \(extended by .*c.yaml",
        ),
        ("{extends: c.yaml}", "c.yaml extends this file in turn"),
        ("{extends: [a, b]}", "c.yaml: 'extends': name one file"),
        ("{extends: ../c.yaml}", "c.yaml: 'extends': name one file in the same folder"),
        ("{extends: /elsewhere/b.yaml}", "c.yaml: 'extends': name one file in the same folder"),
        ("- 1", "c.yaml: expected keys and values"),
        ("{a: [", "c.yaml: not valid YAML: .*line 1"),
        ("seed: 1\nb: 2\nseed: 3", "c.yaml: not valid YAML: 'seed' is given twice .*line 3"),
        ("a:\n- x: 1\n  x: 1", "c.yaml: not valid YAML: 'x' is given twice .*line 3"),
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


def test_values_are_placed_in_the_file_that_they_come_from(tmp_path: Path) -> None:
    write(tmp_path, base="a: 1\nb:\n- x: 1\n- x: 2\nc: {y: 1}\n", top="extends: base.yaml\nc:\n  z: 1\n")
    document = read_document(tmp_path / "top.yaml")

    assert document.place(("b", 1, "x")) == (tmp_path / "base.yaml", 4)
    assert document.place(("c", "z")) == (tmp_path / "top.yaml", 3)
    # Of the other file's c nothing is left.
    assert document.place(("c", "y")) == (tmp_path / "top.yaml", 2)
    assert document.place(("d",)) is None


def test_yaml_s_aliases_and_merged_keys_may_be_used(tmp_path: Path) -> None:
    write(tmp_path, a="a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n")

    values = read_document(tmp_path / "a.yaml").values
    assert values["b"] == {"x": 3, "y": 2}
    assert values["c"] == [{"x": 1, "y": 2}] * 2
