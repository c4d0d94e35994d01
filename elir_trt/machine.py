"""Signs of an NVIDIA GPU and of a Jetson, from what the system says: CUDA and a driver that starts are not needed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: The file that every Jetson has, of any JetPack.
TEGRA_RELEASE = "etc/nv_tegra_release"
#: Seconds that ``nvidia-smi`` may take; it hangs where the driver does.
_PATIENCE_S = 5.0


def jetson_release(root: Path = Path("/")) -> str | None:
    """The version of Jetson Linux, such as "36.4.3" (JetPack 6.2) or "38.2.0" (JetPack 7); None: this is no Jetson.

    Args:
        root: of the file system that is looked at.
    """
    try:
        text = (root / TEGRA_RELEASE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
    return "of an unknown version" if found is None else f"{found[1]}.{found[2]}"


def gpu_sign(root: Path = Path("/")) -> str | None:
    """What says that an NVIDIA GPU is here, and which, where that is known; None: nothing does.

    Args:
        root: of the file system that is looked at.
    """
    return next(_signs(root), None)


def find_nvcc(root: Path = Path("/")) -> Path | None:
    """NVIDIA's compiler, on the path or where its installers and JetPack put it."""
    usual = root / "usr/local/cuda/bin/nvcc"
    on_path = shutil.which("nvcc") if root == Path("/") else None
    return Path(on_path) if on_path else usual if usual.is_file() else None


def _signs(root: Path) -> Iterator[str]:
    release = jetson_release(root)
    if release is not None:
        model = "Jetson"
        with contextlib.suppress(OSError):
            text = (root / "proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
            model = text.strip("\0 \n") or model
        yield f"{model}, Jetson Linux {release}: /{TEGRA_RELEASE}"
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        with contextlib.suppress(OSError):
            found = re.search(r"^Model:\s*(.+?)\s*$", file.read_text(errors="replace"), re.MULTILINE)
            if found:
                yield f"{found[1]}: /proc/driver/nvidia"
    for device in sorted(root.glob("dev/nvidia[0-9]*")):
        yield f"/{device.relative_to(root).as_posix()}"
    listed = _listed_by_driver(root)
    if listed:
        yield f"{listed}: nvidia-smi"


def _listed_by_driver(root: Path) -> str | None:
    """The first GPU that ``nvidia-smi`` lists."""
    search = None if root == Path("/") else os.fspath(root / "usr/bin")
    command = shutil.which("nvidia-smi", path=search)
    if command is None:
        return None
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"GPU \d+: (.+?)(?: \(UUID.*)?$", done.stdout.partition("\n")[0])
    return found[1] if done.returncode == 0 and found else None
