"""Labels in the terminology of 3D Slicer. Needs no torch, so that Slicer's side can use it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from AGTraining.labels import OutputLabel

TERMINOLOGY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"


def terminology_entry(label: OutputLabel) -> str:
    """The label as Slicer writes an entry of its General Anatomy terminology: category, type, modifier, no region."""
    modifier = f"SCT^{label.modifier_code}^{label.modifier_meaning}" if label.modifier_code else "^^"
    category = f"SCT^{label.category_code}^{label.category_meaning}"
    return f"{TERMINOLOGY_CONTEXT}~{category}~SCT^{label.type_code}^{label.type_meaning}~{modifier}~~^^~^^"
