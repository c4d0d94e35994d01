"""Restore frames that are on the GPU already, and keep the results there: no copy to the CPU and back.

    python examples/gpu_arrays.py BUNDLE

BUNDLE has engines for the GPU (elir-trt build TASK --weights CHECKPOINT on a machine with one). Any library whose
arrays have DLPack or __cuda_array_interface__ will do; here it is PyTorch.
"""

import sys

import torch

import elir_trt

frames = (torch.randint(0, 256, (512, 512, 3), dtype=torch.uint8, device="cuda") for _ in range(100))
with elir_trt.open(sys.argv[1], device="cuda") as restorer, restorer.stream(results="device") as stream:
    for result in stream.map(frames):
        restored = torch.from_dlpack(result.frame)  # uint8, on the GPU
        print(result.index, tuple(restored.shape), f"{result.latency_ms:.2f} ms")
