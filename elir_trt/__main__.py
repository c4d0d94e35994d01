"""``python -m elir_trt``: the command line."""

from __future__ import annotations

from elir_trt.cli import main

if __name__ == "__main__":
    main()
