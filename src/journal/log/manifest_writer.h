// ManifestWriter: MANIFEST stored while the journal goes on, one step a completion.
//
//   an edit      [names ─▶] append ─▶ sync                                             ─▶ done
//   a snapshot   create MANIFEST.new ─▶ write ─▶ sync ─▶ names ─▶ rename ─▶ names      ─▶ done
//
// The names are synced before an edit that lists new files, and before a snapshot's rename, because
// the files that it lists must be durable before it can be (creations and renames may reach the
// disk in any order between two syncs of a directory); and after the rename: only then does
// anything count on the new one. A crash leaves the old one or the new one; MANIFEST.new is removed
// by the next opening, and an edit that is not whole is cut. After an error the file set is unknown
// to us: the owner stores nothing more.
//
// A snapshot is due when the edits are as long as it would be, and no shorter than
// kManifestEditsMin.
#pragma once

#include "base/storage.h"
#include "journal/format/manifest.h"

namespace hf::journal {

inline constexpr size_t kManifestEditsMin = 16u << 10;

class ManifestWriter final : private Completion {
 public:
  explicit ManifestWriter(Storage& storage) : storage_(storage) {}
  ~ManifestWriter();
  ManifestWriter(const ManifestWriter&) = delete;
  ManifestWriter& operator=(const ManifestWriter&) = delete;

  // MANIFEST holds this snapshot, durably, and nothing more. Blocks.
  Status begin(const ManifestStore& snapshot);

  enum class Form : uint8_t { kShortest, kSnapshot };
  // Not while busy() (asserted). Of `next`, generation and last_store are the writer's to give.
  void store(Manifest next, Form form, Completion& done);
  bool busy() const { return done_ != nullptr; }
  const Manifest& stored() const { return stored_; }  // the last that is durable

 private:
  enum class Step : uint8_t {
    kEditNames,
    kAppend,
    kSyncEdit,
    kCreate,
    kWrite,
    kSync,
    kNames,
    kRename,
    kNamesAgain,
  };
  void on_complete(Status status) override;
  void issue(Step step);
  void finish();

  Storage& storage_;
  Completion* done_ = nullptr;
  Step step_ = Step::kCreate;
  std::optional<FileId> file_;      // MANIFEST
  std::optional<FileId> new_file_;  // MANIFEST.new
  uint64_t end_ = 0;                // of the durable stores in it
  uint64_t snapshot_size_ = 0;
  Manifest stored_;
  ManifestStore storing_;
};

}  // namespace hf::journal
