// ThrowAwayStorage: a directory as it is, and in memory whatever is written to it. For who has to
// open a journal (which writes) only to look into it: the directory stays as it was, to the byte,
// also on a disk without room, and what was written goes with this object.
//
// Files are read where they lie. Nobody may change them meanwhile: the owner holds the directory's
// lock. Completions are called from `later`, which has to outlive none of them; reads block.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/storage.h"

namespace hf::keeper {

class ThrowAwayStorage final : public Storage {
 public:
  using Later = std::function<void(std::function<void()>)>;
  // No more than this is kept: what an opening writes are some MiB.
  static constexpr uint64_t kBytesMax = uint64_t{64} << 20;

  ThrowAwayStorage(Storage& under, Later later) : under_(under), later_(std::move(later)) {}

  Result<FileId> open(std::string_view name, OpenMode mode) override;
  Status close(FileId file) override;
  Result<uint64_t> size(FileId file) override;
  Status truncate(FileId file, uint64_t size) override;
  Status remove(std::string_view name) override;
  Status rename(std::string_view from, std::string_view to) override;
  Result<std::vector<std::string>> list() override;
  Status sync_directory() override { return {}; }
  Status read_now(FileId file, uint64_t offset, MutableByteSpan to) override;
  Status write_now(FileId file, uint64_t offset, ByteSpan from) override;
  Status sync_now(FileId) override { return {}; }
  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override;
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override;
  void sync(FileId file, Completion& done) override;
  FileId create(std::string_view name, Completion& done) override;
  void unlink(std::string_view name, Completion& done) override;
  void move(std::string_view from, std::string_view to, Completion& done) override;
  void sync_names(Completion& done) override;

 private:
  static constexpr uint64_t kPage = 4096;
  struct Content {
    std::optional<FileId> under;  // what was there
    uint64_t under_size = 0;      // as much of it as still counts
    uint64_t size = 0;
    std::map<uint64_t, Bytes> pages;  // written since, by number
  };
  using ContentPtr = std::shared_ptr<Content>;

  Result<ContentPtr> find(std::string_view name);
  Result<ContentPtr> make(std::string_view name);
  FileId give(ContentPtr content);
  Content& content(FileId file);
  Status read_under(const Content& content, uint64_t offset, MutableByteSpan to);
  void complete(Completion& done, Status status);

  Storage& under_;
  Later later_;
  std::map<std::string, ContentPtr, std::less<>> names_;
  std::set<std::string, std::less<>> gone_;  // of the directory's own names
  std::map<FileId, ContentPtr> files_;
  uint32_t next_ = 1;
  uint64_t kept_ = 0;
};

}  // namespace hf::keeper
