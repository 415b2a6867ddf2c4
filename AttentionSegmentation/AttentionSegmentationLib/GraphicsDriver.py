"""Whether there is an NVIDIA graphics card, asked without PyTorch."""

import shutil
import subprocess


def nvidiaDriver() -> str | None:
    """The version of NVIDIA's driver, as its own tool tells; None without one, or without a card that answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    # No console window pops up on Windows.
    hidden = {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0), "stdin": subprocess.DEVNULL}
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, **hidden)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = result.stdout.split()
    return lines[0] if lines else None
