"""Something that is missing of the Python packages."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DependencyProblem:
    """Something that is missing.

    code: "extension", "torchMissing", "torchBroken", "torchOld", "torchCpuOnly" or "packages". actionText: what a
    button that solves it says; None when the user has to do what the sentence says. packages: their names.
    blocking: whether nothing can be segmented as long as it is so.
    """

    code: str
    sentence: str
    actionText: str | None = None
    packages: tuple[str, ...] = ()
    blocking: bool = True


def listOf(names: Sequence[str]) -> str:
    """Package names as a sentence has them: `PyTorch, psutil and pydantic`."""
    *first, last = ("PyTorch" if name == "torch" else name for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def packages(names: Sequence[str]) -> str:
    """`Python package psutil` or `Python packages psutil and pydantic`."""
    return f"Python package{'s' if len(names) > 1 else ''} {listOf(names)}"
