// Reading a disk image without mounting it: bytes by offset, read-only.
//
// What a guest wrote to its disk is hostile input. Nothing here needs root, follows a link inside
// the image or writes.
#pragma once

#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "sys/fd.h"

namespace hf::secure_boot {

// Somewhere bytes can be read by offset: a raw image, a range of one, a VM's disk in its journal.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  // What it says of itself: a partition may end behind the disk that holds it.
  virtual uint64_t size() const = 0;
  // How much of that can be read.
  virtual uint64_t readable() const { return size(); }
  // All of `out`, or an error; kCorrupt if it reaches beyond the end.
  virtual Status read(uint64_t offset, MutableByteSpan out) = 0;

  Result<Bytes> read_bytes(uint64_t offset, size_t count);
};

class MemorySource final : public BlockSource {
 public:
  explicit MemorySource(ByteSpan bytes) : bytes_(bytes) {}  // a view
  uint64_t size() const override { return bytes_.size(); }
  Status read(uint64_t offset, MutableByteSpan out) override;

 private:
  ByteSpan bytes_;
};

// A range of another source, which must outlive it. It may reach beyond the source's end, where
// nothing can be read: as firmware offers a partition of a disk that was cut short.
class RangeSource final : public BlockSource {
 public:
  RangeSource(BlockSource& source, uint64_t offset, uint64_t size)
      : source_(source), offset_(offset), size_(size) {}
  uint64_t size() const override { return size_; }
  uint64_t readable() const override;
  Status read(uint64_t offset, MutableByteSpan out) override;

 private:
  BlockSource& source_;
  uint64_t offset_;
  uint64_t size_;
};

// A source that gives out no more than so many bytes in all: what reads a hostile file system must
// end, however its files and directories refer to each other. Both must outlive it.
struct ReadBudget {
  uint64_t bytes_left = 0;
  std::function<bool()> stop;  // asked at each read; empty: never
};
// A read costs as much as one of this size at least, so that their number is bounded, too.
inline constexpr uint64_t kReadCostMin = 4096;
class BudgetSource final : public BlockSource {
 public:
  BudgetSource(BlockSource& source, ReadBudget& budget) : source_(source), budget_(budget) {}
  uint64_t size() const override { return source_.size(); }
  uint64_t readable() const override { return source_.readable(); }
  // kLimit: it is used up; kUnavailable: stopped.
  Status read(uint64_t offset, MutableByteSpan out) override;

 private:
  BlockSource& source_;
  ReadBudget& budget_;
};

// A raw image: a file or a block device.
class FileSource final : public BlockSource {
 public:
  // kNotFound, kPermission, kInvalidArgument (not a file), kUnsupported (qcow2 and other formats;
  // the mend is the qemu-img command that converts it).
  static Result<FileSource> open(const std::string& path);
  uint64_t size() const override { return size_; }
  Status read(uint64_t offset, MutableByteSpan out) override;

 private:
  FileSource(sys::UniqueFd fd, uint64_t size) : fd_(std::move(fd)), size_(size) {}
  sys::UniqueFd fd_;
  uint64_t size_;
};

}  // namespace hf::secure_boot
