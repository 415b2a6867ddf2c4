"""Which device runs the network, and how much memory there is."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

import torch

from AGTraining.errors import DeviceError

GIB = 1024**3


@dataclass(frozen=True)
class DeviceMemory:
    """A device by what `choose_device` calls it, its name in words, and its memory in bytes."""

    device: torch.device
    name: str
    total_bytes: int
    free_bytes: int


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: the CUDA device with most free memory, else Apple's MPS, else the CPU; or the one that is named.

    Raises DeviceError for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            free = {index: _free_gpu_bytes(index) for index in range(torch.cuda.device_count())}
            best = max(free, key=lambda index: free[index])
            if free[best] > 0:
                return torch.device("cuda", best)
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not 0 <= (device.index or 0) < count:
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
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and _cpu_computes_bfloat16()


def _cpu_computes_bfloat16() -> bool:
    """Whether the CPU has bfloat16 arithmetic (AVX512-BF16 or AMX) and oneDNN is there to use it.

    `torch.ops.mkldnn._is_mkldnn_bf16_supported` says yes for every AVX-512 CPU, where bfloat16 is emulated and slow.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    query = getattr(torch.cpu, "get_capabilities", None)  # since PyTorch 2.11
    if query is not None:
        capabilities = query()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    older = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported is not None and supported() for supported in older)


def _free_gpu_bytes(index: int) -> int:
    """Free memory of a CUDA device, with what PyTorch holds but does not use; 0 when the device does not answer."""
    try:
        free = int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return 0
    return free + int(torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index))


def free_memory_bytes(device: torch.device) -> int:
    """Memory that can be taken now without harm: free GPU memory, or the RAM that the system calls available."""
    if device.type == "cuda":
        return _free_gpu_bytes(device.index or 0)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return _available_ram_bytes()


def list_devices() -> tuple[DeviceMemory, ...]:
    """All devices of this machine that answer, the CPU first."""
    cpu = torch.device("cpu")
    devices = [DeviceMemory(cpu, "CPU", _total_ram_bytes(), free_memory_bytes(cpu))]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            # A GPU that has failed raises here; the others are still of use.
            with suppress(RuntimeError):
                gpu, properties = torch.device("cuda", index), torch.cuda.get_device_properties(index)
                devices.append(DeviceMemory(gpu, properties.name, properties.total_memory, free_memory_bytes(gpu)))
    if torch.backends.mps.is_available():
        mps = torch.device("mps")
        total = int(torch.mps.recommended_max_memory())
        devices.append(DeviceMemory(mps, "Apple GPU (MPS)", total, free_memory_bytes(mps)))
    return tuple(devices)


def free_cached_memory() -> None:
    """Gives back to the GPUs what PyTorch holds but does not use."""
    # A GPU that has failed for good raises its error here again.
    with suppress(RuntimeError):
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()


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
    return min([available, *(max(0, limit - used) for limit, used in _container_limits())])


def _total_ram_bytes() -> int:
    """The machine's RAM, or the limit of the container."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _container_limits())])


def _container_limits() -> list[tuple[int, int]]:
    """Limit and use of memory in bytes, where this process runs within a limit."""
    limits = []
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if os.path.exists(limit):
            with open(limit, encoding="ascii") as file, open(used, encoding="ascii") as now:
                text = file.read().strip()
                if text.isdigit() and int(text) < 1 << 60:
                    limits.append((int(text), int(now.read())))
    return limits
