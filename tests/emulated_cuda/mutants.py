"""Dependencies that can be taken away one by one: what the adversary has to notice.

A mutant is a copy of the core's sources in which each of these statements is done only while its name is not in the
environment, as ELIR_TRT_WITHOUT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dependency:
    """A statement of a file, and what stands there where it is taken away."""

    name: str
    file: str
    statement: str
    #: How often it stands there.
    times: int = 1
    instead: str = ""
    #: The cases that notice.
    cases: str = "schedules.py::test_frames_of_the_cpu"


DEPENDENCIES = (
    Dependency(
        "compute_waits_for_upload", "graph_executor.cpp", "frame.uploaded.make_stream_wait(compute_.get());"
    ),
    Dependency(
        "download_waits_for_compute",
        "graph_executor.cpp",
        "frame.computed.make_stream_wait(download_.get());",
    ),
    Dependency(
        "done_stands_for_download",
        "graph_executor.cpp",
        "frame.done.record(copy_out ? download_.get() : compute_.get());",
        instead="frame.done.record(compute_.get());",
    ),
    Dependency("finish_waits", "graph_executor.cpp", "frame.done.wait();"),
    Dependency(
        "upload_waits_for_producer",
        "graph_executor.cpp",
        "produced_.make_stream_wait(upload_.get());",
        cases="schedules.py::test_frames_of_the_gpu",
    ),
    Dependency(
        "failed_frames_end",
        "graph_executor.cpp",
        "wait_for_all();\n    throw;",
        instead="throw;",
        cases="faults.py::test_a_failed_frame_is_let_go_when_nothing_reads_it",
    ),
    Dependency(
        "results_wait_for_consumers",
        "result_pool.cpp",
        "found.used->make_stream_wait(stream);",
        cases="schedules.py::test_frames_of_the_gpu",
    ),
    Dependency(
        "results_are_settled",
        "result_pool.cpp",
        "ELIR_CUDA(cudaDeviceSynchronize());",
        cases="schedules.py::test_consumers_streams_may_be_gone",
    ),
    Dependency("transfers_are_done", "transfers.cpp", "stream_.synchronize();", times=3),
    Dependency(
        "teardown_waits",
        "device.cpp",
        "executor_.wait_for_all();",
        cases="schedules.py::test_noise_is_drawn_before_its_memory_goes",
    ),
    Dependency(
        "failed_sums_are_cleared",
        "device.cpp",
        "stages_.clear_sums();",
        cases="faults.py::test_tiles_of_a_failed_frame_are_not_blended_into_the_next",
    ),
)

_HEAD = """#include <cstdlib>
#include <cstring>
static bool is_without(const char* name) {
  const char* found = std::getenv("ELIR_TRT_WITHOUT");
  return found != nullptr && std::strcmp(found, name) == 0;
}
"""


def mutate(folder: Path) -> None:
    """Let every dependency of the sources in ``folder``, a copy of csrc/cuda, be one that can be taken away."""
    for file in sorted({dependency.file for dependency in DEPENDENCIES}):
        text = (folder / file).read_text()
        for dependency in (d for d in DEPENDENCIES if d.file == file):
            found = text.count(dependency.statement)
            if found != dependency.times:
                raise ValueError(
                    f"{file} has {dependency.statement!r} {found} times; {dependency.name} expects {dependency.times}"
                )
            text = text.replace(
                dependency.statement,
                f'if (is_without("{dependency.name}")) {{ {dependency.instead} }} else {{ {dependency.statement} }}',
            )
        (folder / file).write_text(_HEAD + text)
