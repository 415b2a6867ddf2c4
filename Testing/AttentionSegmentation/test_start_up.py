"""What Slicer has to load when it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "pydantic", "safetensors", "SimpleITK", "scipy", "matplotlib", "tqdm", "psutil")


def test_logic_loads_no_heavy_package():
    """In a Python of its own: this one has them all."""
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "AttentionSegmentation")!r}]
import slicer
before = set(sys.modules)
import AttentionSegmentationLib.Segmentation.SegmentationLogic
print(sorted({set(HEAVY)!r} & (set(sys.modules) - before)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.strip() == "[]", result.stderr
