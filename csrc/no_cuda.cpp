// What stands for the CUDA device where the package was built without a CUDA toolkit.
#include <stdexcept>

#include "device.hpp"

namespace elir {

bool has_cuda() {
  return false;
}

std::string cuda_problem() {
  return "this build has no CUDA device: it was compiled without a CUDA toolkit";
}

std::unique_ptr<Device> make_cuda_device(const CudaOptions&) {
  throw std::runtime_error(cuda_problem());
}

}  // namespace elir
