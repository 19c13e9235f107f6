// ManifestWriter: MANIFEST stored while the journal goes on, one step a completion.
//
//   create MANIFEST.new ─▶ write ─▶ sync ─▶ names ─▶ rename ─▶ names ─▶ done
//
// The names are synced before the rename, because the files that it lists must be durable before it
// can be (creations and renames may reach the disk in any order between two syncs of a directory),
// and after it: only then does anything count on the new one. A crash leaves the old one or the new
// one; MANIFEST.new is removed by the next opening. After an error the file set is unknown to us:
// the owner stores nothing more.
#pragma once

#include "base/storage.h"

namespace hf::journal {

class ManifestWriter final : private Completion {
 public:
  explicit ManifestWriter(Storage& storage) : storage_(storage) {}
  ManifestWriter(const ManifestWriter&) = delete;
  ManifestWriter& operator=(const ManifestWriter&) = delete;

  // `encoded` as encode_manifest() gives it. Not while busy() (asserted).
  void store(Bytes encoded, Completion& done);
  bool busy() const { return done_ != nullptr; }

 private:
  enum class Step : uint8_t { kCreate, kWrite, kSync, kNames, kRename, kNamesAgain };
  void on_complete(Status status) override;
  void issue(Step step);

  Storage& storage_;
  Completion* done_ = nullptr;
  Step step_ = Step::kCreate;
  FileId file_;
  Bytes bytes_;
};

}  // namespace hf::journal
