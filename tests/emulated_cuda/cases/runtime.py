"""The emulated runtime itself: what it must not be kinder in than CUDA."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from ctypes import c_int, c_void_p

import numpy as np
import pytest
from emulated_cuda.emulated import DOWNLOAD, LEGACY, SCHEDULES, UPLOAD, Failed, Gpu

INVALID_VALUE, INVALID_HANDLE, NOT_READY = 1, 400, 600
UNSUPPORTED, INVALIDATED, UNJOINED, ISOLATION, IMPLICIT, CAPTURED_EVENT = 900, 901, 904, 905, 906, 907
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2


def code_of(gpu: Gpu, name: str, *arguments: object) -> int:
    try:
        gpu.call(name, *arguments)
    except Failed as failed:
        return failed.code
    return 0


def begin(gpu: Gpu, stream: int, mode: int) -> None:
    gpu.call("cudaStreamBeginCapture", c_void_p(stream), mode)


def end(gpu: Gpu, stream: int) -> tuple[int, c_void_p]:
    graph = c_void_p()
    return code_of(gpu, "cudaStreamEndCapture", c_void_p(stream), ctypes.byref(graph)), graph


def event(gpu: Gpu) -> c_void_p:
    made = c_void_p()
    gpu.call("cudaEventCreateWithFlags", ctypes.byref(made), 0)
    return made


def test_float16_rounds_as_numpy_does(gpu: Gpu) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16).astype(np.float32)
    for number in range(0, 1 << 16, 7):
        widened = gpu.library.emulated_widen(number, 1)
        assert widened == halves[number] or (np.isnan(widened) and np.isnan(halves[number]))
    rng = np.random.default_rng(0)
    finite = halves[np.isfinite(halves)]
    middles = (finite[:-1] + finite[1:]) / 2
    values = [
        *middles[::5],
        *rng.integers(0, 1 << 32, 5000, dtype=np.uint32).view(np.float32),
        *np.float32([0, -0.0, 65519.9, 65520, 1e-8, 2.98e-8, 2.99e-8, np.inf, -np.inf]),
    ]
    with np.errstate(over="ignore"):
        for value in values:
            if not np.isnan(value):
                expected = int(np.float32(value).astype(np.float16).view(np.uint16))
                assert gpu.library.emulated_narrow(float(value), 1) == expected, value


def test_bfloat16_rounds_to_the_nearest(gpu: Gpu) -> None:
    rng = np.random.default_rng(1)
    for value in rng.normal(size=3000).astype(np.float32):
        bits = int(value.view(np.uint32))
        low, high = bits >> 16, (bits >> 16) + 1
        below, above = (float(np.uint32(number << 16).view(np.float32)) for number in (low, high))
        found = gpu.library.emulated_narrow(float(value), 2)
        # The nearer one, and of two that are as near the even one.
        distances = ((abs(float(value) - below), low & 1, low), (abs(float(value) - above), high & 1, high))
        nearest = min(distances)
        assert found == nearest[2]
    assert gpu.library.emulated_widen(0x3F80, 2) == 1.0


def test_nothing_runs_before_it_is_waited_for(gpu: Gpu) -> None:
    gpu.reset("lazy")
    first, second = gpu.new_stream(), gpu.new_stream()
    source, target = gpu.pinned(8), gpu.pinned(8)
    memory = gpu.upload(np.zeros(8, np.uint8), first)
    ctypes.c_uint64.from_address(source.address).value = 1
    gpu.call("cudaMemcpyAsync", memory.address, source.address, 8, UPLOAD, first)
    gpu.call("cudaMemcpyAsync", target.address, memory.address, 8, DOWNLOAD, second)
    ctypes.c_uint64.from_address(source.address).value = 2  # pinned memory is read when the copy runs
    gpu.synchronize(second)
    assert target.value == 2**64 - 1  # the second stream waited for nobody, and new memory holds ones
    gpu.order(first, second)
    gpu.call("cudaMemcpyAsync", target.address, memory.address, 8, DOWNLOAD, second)
    gpu.synchronize(second)
    assert target.value == 2


def test_schedules_differ(gpu: Gpu) -> None:
    orders = set()
    for schedule in SCHEDULES:
        gpu.reset(schedule, 1)
        streams = [gpu.new_stream() for _ in range(3)]
        memory = [gpu.upload(np.zeros(4, np.uint8), stream) for stream in streams]
        for held, stream in zip(memory, streams, strict=True):
            gpu.affine(stream, held.address, held.address, 1, "float32", 1.0, 0.0)
        gpu.finish()
        orders.add(tuple(gpu.trace()[-6:]))
        del held, memory
    assert len(orders) >= 3


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL])
@pytest.mark.parametrize("call", ["cudaFree", "cudaStreamSynchronize", "cudaDeviceSynchronize"])
def test_unsafe_calls_end_a_recording(gpu: Gpu, mode: int, call: str) -> None:
    stream = gpu.new_stream()
    arguments = {"cudaFree": (0,), "cudaStreamSynchronize": (stream,), "cudaDeviceSynchronize": ()}[call]
    begin(gpu, stream, mode)
    assert code_of(gpu, call, *arguments) == UNSUPPORTED
    assert end(gpu, stream)[0] == INVALIDATED
    assert code_of(gpu, call, *arguments) == 0


def test_relaxed_threads_may_free(gpu: Gpu) -> None:
    stream = gpu.new_stream()
    begin(gpu, stream, THREAD_LOCAL)
    mode = c_int(RELAXED)
    gpu.call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert mode.value == GLOBAL and code_of(gpu, "cudaFree", 0) == 0
    assert code_of(gpu, "cudaStreamSynchronize", stream) == UNSUPPORTED  # the recording stream itself
    gpu.call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert end(gpu, stream)[0] == INVALIDATED


def test_recordings_take_nothing_from_outside(gpu: Gpu) -> None:
    outside, stream, other = (gpu.new_stream() for _ in range(3))
    memory = gpu.pinned(4)
    recorded = event(gpu)
    gpu.call("cudaEventRecord", recorded, outside)
    begin(gpu, stream, THREAD_LOCAL)
    assert code_of(gpu, "cudaStreamWaitEvent", stream, recorded, 0) == ISOLATION
    assert end(gpu, stream)[0] == INVALIDATED
    begin(gpu, stream, THREAD_LOCAL)
    gpu.affine(stream, memory.address, memory.address, 1, "float32", 1.0, 0.0)
    gpu.call("cudaEventRecord", recorded, stream)
    mode = c_int(RELAXED)
    gpu.call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert code_of(gpu, "cudaEventQuery", recorded) == CAPTURED_EVENT
    gpu.call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert end(gpu, stream)[0] == INVALIDATED
    begin(gpu, stream, THREAD_LOCAL)
    gpu.affine(stream, memory.address, memory.address, 1, "float32", 1.0, 0.0)
    gpu.call("cudaEventRecord", recorded, stream)
    gpu.call("cudaStreamWaitEvent", other, recorded, 0)  # forks the recording
    gpu.affine(other, memory.address, memory.address, 1, "float32", 1.0, 0.0)
    assert end(gpu, stream)[0] == UNJOINED


def test_the_legacy_stream_is_refused_beside_a_recording_one_that_blocks(gpu: Gpu) -> None:
    blocking = c_void_p()
    gpu.call("cudaStreamCreateWithFlags", ctypes.byref(blocking), 0)
    memory = gpu.pinned(4)
    begin(gpu, int(blocking.value or 0), RELAXED)
    with pytest.raises(Failed, match=str(IMPLICIT)):
        gpu.affine(LEGACY, memory.address, memory.address, 1, "float32", 1.0, 0.0)
    assert end(gpu, int(blocking.value or 0))[0] == INVALIDATED


def test_last_errors_stay_until_they_are_asked_for(gpu: Gpu) -> None:
    assert code_of(gpu, "cudaStreamSynchronize", 12345) == INVALID_HANDLE
    assert gpu.library.cudaPeekAtLastError() == gpu.library.cudaGetLastError() == INVALID_HANDLE
    assert gpu.library.cudaGetLastError() == 0
    destroyed = gpu.new_stream()
    gpu.destroy_stream(destroyed)
    gone = event(gpu)
    assert code_of(gpu, "cudaEventRecord", gone, destroyed) == INVALID_HANDLE


def test_copies_know_where_memory_is(gpu: Gpu) -> None:
    memory = gpu.upload(np.zeros(16, np.uint8))
    host = np.zeros(16, np.uint8)
    assert code_of(gpu, "cudaMemcpyAsync", memory.address, host.ctypes.data, 17, UPLOAD, 0) == INVALID_VALUE
    assert code_of(gpu, "cudaMemcpyAsync", host.ctypes.data, memory.address, 16, UPLOAD, 0) == INVALID_VALUE
    assert code_of(gpu, "cudaMemcpyAsync", host.ctypes.data, memory.address, 16, DOWNLOAD, 0) == 0
    gpu.finish()


CRASHES = {
    "the CPU reads memory of the device": "ctypes.string_at(gpu.upload(np.zeros(16, np.uint8)).address, 16)",
    "an engine writes behind its buffer": (
        "m = gpu.upload(np.zeros(16, np.uint8)); a = m.address;"
        "gpu.affine(1, a, a, 5, 'float32', 1, 0); gpu.finish()"
    ),
    "an engine uses memory that is free": (
        "m = gpu.upload(np.zeros(16, np.uint8)); gpu.finish(); a = m.address; del m;"
        "gpu.affine(1, a, a, 4, 'float32', 1, 0); gpu.finish()"
    ),
    "pinned memory is free before its copy": (
        "gpu.reset('lazy'); p = gpu.pinned(64); m = gpu.upload(np.zeros(64, np.uint8));"
        "gpu.call('cudaMemcpyAsync', m.address, p.address, 64, 1, 1); del p; gpu.finish()"
    ),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_wrong_accesses_end_the_process(crash: str) -> None:
    script = (
        "import ctypes, sys; import numpy as np; sys.path[:0] = ['tests'];"
        "from emulated_cuda.emulated import Gpu, load_core;"
        f"load_core({os.environ['ELIR_TRT_EMULATED_CORE']!r}); gpu = Gpu({os.environ['ELIR_TRT_EMULATED_CORE']!r});"
        f"gpu.reset('at_once'); {CRASHES[crash]}; print('survived')"
    )
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "survived" not in done.stdout
    assert "AddressSanitizer" in done.stderr, done.stderr
