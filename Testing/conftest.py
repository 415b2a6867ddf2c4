"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Two threads on every machine, in the tests' subprocesses too: the suite's time is judged on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that wait do not spin: on a busy machine spinning makes two torch processes several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Figures are drawn into files, also where a screen is at hand.
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch

from AGTraining.networks import AttentionUNet

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA or MPS device"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public scans beside the checkout (or $ATTENTION_SEGMENTATION_DATA); never committed."""
    folder = Path(os.environ.get("ATTENTION_SEGMENTATION_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the public scans are not on this machine ({folder})")
    return folder


@pytest.fixture
def tiny_network() -> AttentionUNet:
    """A seeded Attention U-Net of three levels (input sizes: multiples of 4), untrained, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AttentionUNet(num_classes=4, features=(4, 8, 16), sub_gates=2).eval()
