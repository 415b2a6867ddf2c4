"""Which device runs the network, and how much memory there is."""

from __future__ import annotations

import os

import torch

from AGTraining.errors import DeviceError

GIB = 1024**3


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: the CUDA device with most free memory, else Apple's MPS, else the CPU; or the one that is named.

    Raises DeviceError for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
            return torch.device("cuda", free.index(max(free)))
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"Device '{name}' is not available: PyTorch sees {count} CUDA GPU(s); choose 'auto' or 'cpu'."
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("Device 'mps' is not available on this computer; choose 'auto' or 'cpu'.")
    if device.type not in ("cpu", "mps"):
        raise DeviceError(f"Device '{name}' is not known; choose 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.")
    return device


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the CPU's or GPU's hardware (elsewhere it is emulated, and slow)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(
            getattr(torch.cpu, query, lambda: False)()
            for query in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


def free_memory_bytes(device: torch.device) -> int:
    """Memory that can be taken now without harm: free GPU memory, or the RAM that the system calls available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return _available_ram_bytes()


def describe(device: torch.device) -> str:
    """The device in words, for messages and logs."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"GPU {device.index}: {properties.name} ({properties.total_memory / GIB:.1f} GiB)"
    if device.type == "mps":
        return "Apple GPU (MPS)"
    return f"CPU ({torch.get_num_threads()} threads)"


def _available_ram_bytes() -> int:
    """Available RAM, also within the limit of a container."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if os.path.exists(limit):
            with open(limit, encoding="ascii") as file, open(used, encoding="ascii") as now:
                text = file.read().strip()
                if text.isdigit() and int(text) < 1 << 60:
                    available = min(available, max(0, int(text) - int(now.read())))
    return available
