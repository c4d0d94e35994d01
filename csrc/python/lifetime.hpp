// Streams at the end of the interpreter, and in processes that were forked from this one.
#pragma once

#include <memory>

#include "../stream.hpp"

namespace elir::python {

// Register what runs at exit; once, when the module is imported.
void watch_exit();

// A failing interpreter must not meet a worker that calls into it: streams that are alive at exit are ended.
// The GIL is held for both.
void add_alive(Stream* stream);
// End a stream that nobody uses any more, wherever its last reference went. `opened_in`: the process that
// made it.
void end(std::unique_ptr<Stream> stream, int opened_in);

}  // namespace elir::python
