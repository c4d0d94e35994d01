"""Which engines run on this machine: candidates, fallback, and building them again. Needs neither torch nor ONNX."""
