// The memory layout of DLPack's exchange of arrays (dmlc.github.io/dlpack, "C API", version 1.1), as far as
// it is used here.
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

// The layout is that of the major version; a minor one adds names of types and devices.
struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};
constexpr Version kVersion{1, 1};

// What a capsule holds. Whoever takes it renames the capsule and calls the deleter once, from any thread.
struct ManagedTensor {
  static constexpr const char* kName = "dltensor";
  static constexpr const char* kUsedName = "used_dltensor";

  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

// The same from version 1.0 on. Of one of another major version only the version and the deleter may be used.
struct VersionedTensor {
  static constexpr const char* kName = "dltensor_versioned";
  static constexpr const char* kUsedName = "used_dltensor_versioned";

  Version version;
  void* context;
  void (*deleter)(VersionedTensor*);
  std::uint64_t flags;  // bit 0: read-only, bit 1: a copy that is the consumer's alone
  Tensor tensor;
};

}  // namespace elir::dlpack
