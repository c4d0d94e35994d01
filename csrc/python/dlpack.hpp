// The memory layout of DLPack's exchange of arrays (dmlc.github.io/dlpack, "C API", before version 1.0), as
// far as it is used here.
#pragma once

#include <cstdint>

namespace elir::dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };
enum TypeCode : std::uint8_t { unsigned_integer = 1, floating = 2, bfloat = 4 };

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct Type {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  Type type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: C-contiguous
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

constexpr const char* kName = "dltensor";
constexpr const char* kUsedName = "used_dltensor";

}  // namespace elir::dlpack
