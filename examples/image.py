"""Restore one image file: ``python examples/image.py photo.jpg restored.png``."""

from __future__ import annotations

import sys

import elir_trt
from elir_trt.io import read_image, write_image


def main(source: str, target: str) -> None:
    image = read_image(source)
    with elir_trt.open("camera") as restorer:
        write_image(target, restorer(image.rgb), image.alpha)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
