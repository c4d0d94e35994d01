"""Several inputs at once: which files they are, and where each goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elir_trt.errors import MediaError
from elir_trt.io.addresses import STDOUT, comes_once
from elir_trt.io.paths import READABLE_IMAGES, WRITABLE_VIDEOS, media_kind, video_name

READABLE_VIDEOS = (
    *WRITABLE_VIDEOS,
    *(
        ".avi",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".asf",
        ".flv",
        ".3gp",
        ".ogv",
        ".y4m",
        ".mxf",
    ),
)
"""Extensions by which videos are found in a folder; a file that is given by its name may have any."""


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes:
        source: a file, a folder whose images are meant, or an address.
        target: where its result goes: a file, or a folder.
        found: it was found in a folder: where its output is there already, it is done.
    """

    source: str
    target: Path
    found: bool = False


@dataclass
class Plan:
    """What is to be restored.

    Attributes:
        items: in order.
        skipped: files of the folders that are neither images nor videos.
    """

    items: list[Item] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


def plan(
    inputs: Sequence[str], output: Path, *, container: str | None = None, recursive: bool = True
) -> Plan:
    """Find the files.

    Args:
        inputs: files, folders, patterns with ``*`` or ``?``, named pipes, "-" or addresses.
        output: a file for one input, else a folder.
        container: extension of the videos that are made, such as "mkv"; None: each keeps its own where it can.
        recursive: of folders also what is in their folders.

    Raises:
        MediaError: there is no such file, or two inputs would have the same output.
    """
    suffix = None if container is None else f".{container.lower().lstrip('.')}"
    if suffix is not None and suffix not in WRITABLE_VIDEOS:
        allowed = ", ".join(name[1:] for name in WRITABLE_VIDEOS)
        raise MediaError(f"container is {container!r}; allowed: {allowed}")
    names = [name for given in inputs for name in _expanded(given)]
    many = len(names) > 1
    if many and output.exists() and not output.is_dir():
        raise MediaError(f"{output}: this is a file; {len(names)} inputs need a folder as output")
    made = Plan()
    for name in names:
        _add(made, name, output, suffix, many, recursive)
    taken: dict[Path, str] = {}
    for item in made.items:
        other = taken.setdefault(item.target.absolute(), item.source)
        if other != item.source and not item.target.is_dir():
            raise MediaError(f"{item.source}: its output {item.target} is that of {other} already")
    return made


def _expanded(given: str) -> list[str]:
    """The files that a pattern stands for; what is there by that very name is no pattern."""
    if comes_once(given) or Path(given).exists() or not glob.has_magic(given):
        return [given]
    found = sorted(glob.glob(given, recursive=True))
    if not found:
        raise MediaError(f"{given}: no file has a name like this")
    return found


def _add(made: Plan, name: str, output: Path, suffix: str | None, many: bool, recursive: bool) -> None:
    if str(output) == STDOUT and (many or Path(name).is_dir()):
        raise MediaError("standard output takes one image or video, and no folder")
    if comes_once(name):
        if many or output.is_dir():
            raise MediaError(f"{name}: give the name of its output, not a folder, and no other input")
        made.items.append(Item(name, output))
        return
    source = Path(name)
    kind = media_kind(source)
    if kind == "folder":
        _add_folder(made, source, output, suffix, recursive)
    elif kind == "video" and (many or output.is_dir()):
        made.items.append(Item(name, output / _video_name(source, suffix)))
    elif kind == "video" and suffix is not None and str(output) != STDOUT and output.suffix.lower() != suffix:
        raise MediaError(f"{output}: its extension is not that of the container {suffix[1:]}")
    else:
        made.items.append(Item(name, output))


def _add_folder(made: Plan, folder: Path, output: Path, suffix: str | None, recursive: bool) -> None:
    """The images of a folder as one item, and each of its videos; those of the folders in it too, if wanted."""
    outside = output.resolve()
    images = False
    videos = []
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        inside = path.relative_to(folder)
        if not path.is_file() or outside in path.resolve().parents or inside.name.startswith("."):
            continue
        if path.suffix.lower() in READABLE_IMAGES:
            images = True
        elif path.suffix.lower() in READABLE_VIDEOS:
            videos.append(Item(str(path), output / inside.parent / _video_name(path, suffix), found=True))
        else:
            made.skipped.append(path)
    if images or not videos:
        made.items.append(Item(str(folder), output))  # without images it is an error that says so
    made.items += videos


def _video_name(source: Path, suffix: str | None) -> str:
    return video_name(source) if suffix is None else f"{source.stem}{suffix}"
