// Files by name, each replaced whole: what titles.h needs of the vault's directory. The simulator
// has one without a disk.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::vault {

class FileStore {
 public:
  virtual ~FileStore() = default;
  // kNotFound; kCorrupt: longer than `size_max`.
  virtual Result<Bytes> read(const std::string& name, size_t size_max) const = 0;
  virtual bool exists(const std::string& name) const = 0;
  // Atomic and durable, as remove(): after a crash it is the old one or the new one.
  virtual Status replace(const std::string& name, ByteSpan bytes) = 0;
  virtual Status remove(const std::string& name) = 0;         // kNotFound
  virtual Result<std::vector<std::string>> list() const = 0;  // sorted
  struct Size {
    uint64_t bytes = 0;
    uint64_t written_us = 0;  // wall clock
  };
  virtual Result<Size> size(const std::string& name) const = 0;  // kNotFound
  virtual const std::string& path() const = 0;                   // for texts

 protected:
  FileStore() = default;
  FileStore(FileStore&&) = default;
  FileStore& operator=(FileStore&&) = default;
};

}  // namespace hf::vault
