"""Rewrite CUDA's launches, ``kernel<<<grid, block, shared, stream>>>(arguments)``, into calls that C++ compiles.

    python rewrite_launches.py FROM.cu TO.cpp

Nothing else is touched, and lines keep their numbers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OPEN, CLOSE = "<<<", ">>>"


def kernel_start(text: str, end: int) -> int:
    """Where the expression begins that names the kernel: names, ``::`` and template arguments up to ``end``."""
    at = end
    depth = 0
    while at > 0:
        char = text[at - 1]
        if char == ">":
            depth += 1
        elif char == "<":
            depth -= 1
        elif depth == 0 and not (char.isalnum() or char in "_:"):
            break
        at -= 1
    return at


def rewrite(text: str) -> str:
    """The same source without launches."""
    while (found := text.find(OPEN)) >= 0:
        head = text[:found].rstrip()
        gap = text[len(head) : found]
        start = kernel_start(head, len(head))
        kernel = head[start:]
        closing = text.index(CLOSE, found)
        configuration = text[found + len(OPEN) : closing]
        arguments = re.compile(r"\s*\(\s*").match(text, closing + len(CLOSE))
        if not kernel or arguments is None:
            line = text.count("\n", 0, found) + 1
            raise SystemExit(f"line {line}: a launch that is not understood")
        name = re.sub(r"<.*", "", kernel).split("::")[-1]
        comma = "" if text[arguments.end()] == ")" else ", "
        launch = (
            f'::emulated_cuda::Launch{{"{name}", {configuration}}}'
            f"([=](auto... a) {{ {kernel}(a...); }}{comma}"
        )
        newlines = "\n" * (gap.count("\n") + text[closing : arguments.end()].count("\n"))
        text = head[:start] + launch + newlines + text[arguments.end() :]
    return text


if __name__ == "__main__":
    source, target = (Path(argument) for argument in sys.argv[1:])
    target.write_text(f'#line 1 "{source}"\n{rewrite(source.read_text())}')
