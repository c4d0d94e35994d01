#include "stream.hpp"

namespace elir::python {

void bind_stream(py::module_& module) {
  py::class_<PyStream>(module, "Stream",
                       R"(A ring of frame slots and a worker that runs the stages of each frame.

Open it, bind the parts' tensors (``view``, ``buffer`` or ``address``), give it the four parts (``set_part``),
and start it. Any thread may submit, and any thread may collect. In a process that was forked from the one that
opened it, submit, result, close, abort and stats raise RuntimeError.)")
      .def(py::init<const elir::Geometry&, const StreamOptions&>(), "geometry"_a, "options"_a,
           R"(Open the device and allocate everything; other threads of Python go on meanwhile.

Raises:
    ValueError: the options do not go with this size, or the memory of this machine.
    RuntimeError: there is no such device, and why; or the GPU has too little memory.
    MemoryError: the machine has too little memory.)")
      .def(
          "buffer", &PyStream::buffer, "name"_a,
          R"(A part's tensor on the CPU as a numpy array, without a copy; it stays valid when the stream is gone.

Args:
    name: "image" and "decoded" ``[batch, 3, h, w]``, "encoded", "coarse", "latent" and "velocity"
        ``[batch, latent_channels, h / downscale, w / downscale]``, or "condition" ``[1, condition_width]``.

Raises:
    RuntimeError: the tensors are on a GPU.
    ValueError: there is no tensor of that name.)")
      .def("view", &PyStream::view, "name"_a,
           "A part's tensor on any device, without a copy; it stays valid when the stream is gone. See "
           "``buffer``.")
      .def("read", &PyStream::read, "name"_a,
           R"(A copy of a tensor's numbers as float32, from any device. See ``buffer`` for names.

They are those of the last frame, when no other is in work. Other threads of Python go on meanwhile.)")
      .def("address", &PyStream::address, "name"_a, "Where a tensor lies. See ``buffer`` for names.")
      .def("shape", &PyStream::shape, "name"_a, "A tensor's shape. See ``buffer`` for names.")
      .def("element", &PyStream::element, "name"_a,
           R"(Type of a tensor's numbers: "float32", "float16" or "bfloat16". See ``buffer`` for names.)")
      .def("reserve", &PyStream::reserve, "bytes"_a,
           R"(Address of memory of the device that lives as long as the stream, for what engines need.

Raises:
    RuntimeError: the stream was started, or the device has too little memory.)")
      .def_property_readonly(
          "execution_mode", &PyStream::execution_mode,
          R"(How frames are run: "eager", "graph" (recorded once, replayed), or "eager: " and why not recorded.)")
      .def("set_part", &PyStream::set_part, "part"_a, "callable"_a,
           R"(Set what runs a part: it queues one run of its engine over the tensors.

Args:
    part: "encoder", "coarse", "velocity" or "decoder"; or "direct", which frames without steps go through
        instead of encoder, coarse and decoder where it is set.
    callable: called on the worker with the device's stream handle, 0 on the CPU. What it raises fails the
        frame.

Raises:
    ValueError: there is no such part, or this is no callable.
    RuntimeError: the stream was started.)")
      .def("set_noise", &PyStream::set_noise, "field"_a,
           R"(Replace the fixed noise.

Args:
    field: ``[latent_channels, h, w]`` of the whole frame's latent, standard normal.

Raises:
    ValueError: the field has another size, or the stream has no fixed noise.
    RuntimeError: the stream was started.)")
      .def(
          "temporal_state", &PyStream::temporal_state,
          R"(A copy of what averaging over time keeps of the frames so far, for a stream that goes on behind them.

Returns:
    ``[tiles, 4, engine_height, engine_width]`` float32: of each tile the three planes of the last frame, in
    [0, 1], and of how many frames each pixel is the mean.

Raises:
    ValueError: the stream averages nothing over time.
    RuntimeError: frames are in work.)")
      .def("set_temporal_state", &PyStream::set_temporal_state, "state"_a,
           R"(Go on where another stream of this geometry was when it gave ``state``; see ``temporal_state``.

Raises:
    ValueError: the state has another shape, or the stream averages nothing over time.
    RuntimeError: the stream was started.)")
      .def("start", &PyStream::start,
           R"(Draw the fixed noise and start the worker.

Raises:
    RuntimeError: a part is missing, or the stream was started before.)")
      .def("submit", &PyStream::submit, "frame"_a, "timestamp"_a = py::none(), "steps"_a = py::none(),
           "timeout"_a = py::none(), "reuse"_a = std::vector<std::size_t>{},
           R"(Hand in a frame.

Args:
    frame: of the stream's format and size. A numpy array is copied before the call returns, contiguous
        or not. On a GPU also an array there, by DLPack or ``__cuda_array_interface__``, with pixels packed and
        rows apart or not: it is kept and read until its result was collected.
    timestamp: comes back with the result.
    steps: Euler steps for this frame, 0 (the coarse estimate) to what the table has; None: the stream's.
    timeout: seconds to wait for a slot with drop="block"; None: as long as it takes.
    reuse: numbers of tiles that are taken from the last frame instead of restored again; of a stream with
        keep_tiles and drop="block".

Returns:
    The frame's index from 0, or None if it was dropped.

Raises:
    ValueError: the frame, steps, timeout or reuse is wrong; nothing was taken.
    TimeoutError: no slot came free in time.
    Closed: the stream is closed.
    RuntimeError: the stream was not started.)")
      .def("submit_planes", &PyStream::submit_planes, "planes"_a, "owner"_a = py::none(),
           "stream"_a = py::none(), "timestamp"_a = py::none(), "steps"_a = py::none(),
           "timeout"_a = py::none(), "reuse"_a = std::vector<std::size_t>{},
           R"(Hand in a frame as its planes, in memory of the stream's device.

Args:
    planes: address and pitch, in bytes, of each plane of the format.
    owner: kept until the frame's result was collected; on the CPU the planes are copied at once.
    stream: CUDA stream that the planes are made on; None: they are complete.
    timestamp: comes back with the result, in seconds.
    steps: Euler steps of this frame; None: the stream's.
    timeout: seconds to wait for a slot; None: as long as it takes.
    reuse: tiles that are taken from the last frame, as in ``submit``.

Returns:
    The frame's index, or None if it was dropped.

Raises:
    ValueError: an address or a pitch cannot be, or steps or reuse is out of its range.
    TimeoutError: no slot came free in time.
    Closed: the stream takes no more frames.)")
      .def("result", &PyStream::result, "timeout"_a = py::none(), "out"_a = py::none(),
           R"(Wait for the next result, in the order of submission.

Args:
    timeout: seconds to wait; None: as long as it takes.
    out: where to put the restored frame: a writeable C-contiguous array of its shape and type. Not with
        results="device".

Raises:
    ValueError: out or timeout is wrong.
    TimeoutError: no frame was finished in time.
    Closed: the stream is closed, and all results were collected.
    RuntimeError: the stream was not started.)")
      .def("close", &PyStream::close,
           "Take no more frames; those in the ring are finished and can be collected.")
      .def("abort", &PyStream::abort, "Close, forget what has not begun, and wait for the worker.")
      .def("stats", &PyStream::stats,
           R"(Counts, and times in milliseconds of the last 1024 frames.

Returns:
    "submitted", "completed", "dropped", "failed" and "pending" frames; "latency_ms" and, for each stage,
    "stages": p50, p95 and p99.)");
}

}  // namespace elir::python
