from __future__ import annotations

import pytest
import torch

from AGTraining.inference import device, predict
from AGTraining.inference.device import choose_device, list_devices
from AGTraining.inference.optimise import inference_dtype
from AGTraining.inference.predict import SHARE_OF_FREE_MEMORY, bytes_per_voxel, is_out_of_memory, largest_cube
from AGTraining.networks import AttentionUNet, UNet3D

CPU = torch.device("cpu")


def test_every_listed_device_can_be_chosen_by_its_name() -> None:
    devices = list_devices()

    assert devices[0].device == CPU
    for memory in devices:
        assert choose_device(str(memory.device)) == memory.device
        assert memory.name
        assert 0 < memory.free_bytes <= memory.total_bytes


def test_limit_of_a_container_counts_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_container_limits", lambda: [(3 * device.GIB, device.GIB)])

    cpu = list_devices()[0]

    assert cpu.total_bytes == 3 * device.GIB
    assert cpu.free_bytes == 2 * device.GIB


@pytest.mark.parametrize(
    ("edge", "largest"), [(64, 64), (100, 96), (416, 416), (2000, 512), (63, 0)], ids=lambda n: str(n)
)
def test_largest_cube_fits_into_free_memory(monkeypatch: pytest.MonkeyPatch, edge: int, largest: int) -> None:
    network = AttentionUNet(features=(2, 3, 4, 5, 6))
    free = bytes_per_voxel(network, inference_dtype(CPU)) * edge**3 / SHARE_OF_FREE_MEMORY
    monkeypatch.setattr(predict, "free_memory_bytes", lambda _: int(free) + 1)

    assert largest_cube(network, CPU) == largest


def test_largest_cube_is_a_tile_for_a_deep_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network = UNet3D(features=(2, 2, 2, 2, 2, 2))
    monkeypatch.setattr(predict, "free_memory_bytes", lambda _: 10**12)

    assert largest_cube(network, CPU) % network.divisor == 0


@pytest.mark.parametrize("text", ["CUDA out of memory.", "DefaultCPUAllocator: can't allocate memory"])
def test_lack_of_memory_is_told_from_other_errors(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.gpu
def test_cached_memory_is_given_back() -> None:
    chosen = choose_device("auto")
    if chosen.type != "cuda":
        pytest.skip("only CUDA tells what it holds")
    torch.empty(1 << 28, device=chosen)
    assert torch.cuda.memory_reserved(chosen) >= 1 << 28

    device.free_cached_memory()

    assert torch.cuda.memory_reserved(chosen) < 1 << 28
