"""Build the core over the emulated GPU, into a folder of the caller's.

python tests/emulated_cuda/build.py FOLDER      prints the path of the module
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cmake
import pybind11

if __package__:
    from .rewrite_launches import rewrite
else:
    sys.path.insert(0, str(Path(__file__).parent))
    from rewrite_launches import rewrite

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "csrc"


def write_sources(folder: Path) -> None:
    """A copy of csrc/ in ``folder``, CUDA's files as C++; files that are the same are left untouched."""
    written = set()
    for source in sorted(SOURCES.rglob("*")):
        if source.suffix not in {".cpp", ".hpp", ".cu", ".cuh"} or "tests" in source.parts:
            continue
        target = folder / source.relative_to(SOURCES)
        text = source.read_text()
        if source.suffix == ".cu":
            target = target.with_name(target.name + ".cpp")
        if source.suffix in {".cu", ".cuh"}:
            text = rewrite(text)
        text = f'#line 1 "{source}"\n{text}'
        written.add(target)
        if not target.is_file() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    for stale in {path for path in folder.rglob("*") if path.is_file()} - written:
        stale.unlink()


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def compile_module(folder: Path, *, counts_traffic: bool = False) -> Path:
    """Compile what changed since the last time; the module's path. What counts traffic has no AddressSanitizer."""
    binary = str(Path(cmake.CMAKE_BIN_DIR) / "cmake")
    if not (folder / "build" / "CMakeCache.txt").is_file():
        options = [
            f"-DTRAFFIC={'ON' if counts_traffic else 'OFF'}",
            f"-DSANITIZE={'OFF' if counts_traffic else 'ON'}",
            f"-DCORE={folder / 'csrc'}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
        ]
        run([binary, "-S", str(HERE), "-B", str(folder / "build"), *options])
    run([binary, "--build", str(folder / "build"), "--parallel", str(min(os.cpu_count() or 1, 4))])
    (module,) = (folder / "build").glob("_core*.so")
    return module


def build(folder: Path, *, counts_traffic: bool = False) -> Path:
    """The module's path."""
    write_sources(folder / "csrc")
    return compile_module(folder, counts_traffic=counts_traffic)


def sanitizer_environment(report: Path) -> dict[str, str]:
    """What a Python process needs in its environment to load a module that AddressSanitizer watches.

    What it finds goes to files whose names begin with ``report``.
    """
    # Both have to be there before Python: AddressSanitizer looks for C++'s exceptions when it starts.
    libraries = [
        subprocess.run(
            [shutil.which("g++") or "c++", f"-print-file-name={name}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    return {
        "LD_PRELOAD": " ".join(str(Path(library).resolve()) for library in libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={report}",  # Python leaves memory behind by design
    }


if __name__ == "__main__":
    print(build(Path(sys.argv[1]).resolve()))
