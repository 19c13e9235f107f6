// A vault's files without a disk: each replaced whole, durable when the call returns.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/world/scheduler.h"
#include "vault/store/file_store.h"

namespace hf::sim::life {

class Files final : public vault::FileStore {
 public:
  // `lazy` (a planted fault): what was just replaced is lost if the process dies soon after.
  Files(const Scheduler& scheduler, bool lazy) : scheduler_(scheduler), lazy_(lazy) {}

  Result<Bytes> read(const std::string& name, size_t) const override {
    const auto found = files_.find(name);
    if (found == files_.end()) return Error{.code = ErrorCode::kNotFound, .cause = name};
    return found->second;
  }
  bool exists(const std::string& name) const override { return files_.contains(name); }
  Status replace(const std::string& name, ByteSpan bytes) override {
    note();
    files_[name] = Bytes(bytes.begin(), bytes.end());
    return {};
  }
  Status remove(const std::string& name) override {
    note();
    if (files_.erase(name) == 0) return Error{.code = ErrorCode::kNotFound, .cause = name};
    return {};
  }
  Result<std::vector<std::string>> list() const override {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : files_) names.push_back(name);
    return names;
  }
  Result<Size> size(const std::string& name) const override {
    return Size{.bytes = TRY(read(name, SIZE_MAX)).size()};
  }
  const std::string& path() const override { return path_; }

  void process_died() {
    if (lazy_ && scheduler_.now().value < changed_ + 2'000'000) files_ = before_;
  }
  void keep_copy() { copy_ = files_; }
  void put_copy_back() { files_ = copy_; }

 private:
  void note() {
    if (!lazy_) return;
    before_ = files_;
    changed_ = scheduler_.now().value;
  }
  const Scheduler& scheduler_;
  const bool lazy_;
  std::map<std::string, Bytes> files_, before_, copy_;
  uint64_t changed_ = 0;
  std::string path_ = "vault";
};

}  // namespace hf::sim::life
