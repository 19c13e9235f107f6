// Files that the engine writes: tables as their entries come, and files of units. Each is synced,
// and nothing counts on it before MANIFEST lists it.
#pragma once

#include "journal/chain/statement.h"
#include "journal/engine/reads.h"
#include "journal/table/writer.h"

namespace hf::journal {

// Files that were begun and that MANIFEST does not list yet.
struct Unlisted {
  FileId file;
  std::string name;
};

// A file that is written from its begin to its end.
class FileWriter final : public TableSink {
 public:
  FileWriter(Storage& storage, std::vector<Unlisted>& unlisted, KeptKind kind, uint64_t number)
      : storage_(storage),
        unlisted_(unlisted),
        name_(kept_name(kind, number)),
        kind_(kind),
        number_(number) {}

  Task<Status> create();
  void take(ByteSpan bytes) override {
    hash_.update(bytes);
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    end_ += bytes.size();
  }
  bool wants_flush() const { return pending_.size() >= kFlushBytes; }
  Task<Status> flush();
  Task<Status> sync(bool skipped = false);
  uint64_t end() const { return end_; }
  Digest digest() { return hash_.finish(); }  // of all that was taken
  FilePtr file() const;                       // as long as it is now
  uint64_t number() const { return number_; }
  KeptKind kind() const { return kind_; }

 private:
  static constexpr size_t kFlushBytes = 256u << 10;
  Storage& storage_;
  std::vector<Unlisted>& unlisted_;
  const std::string name_;
  const KeptKind kind_;
  const uint64_t number_;
  std::optional<FileId> file_;
  crypto::Sha256 hash_;
  Bytes pending_;
  uint64_t end_ = 0;
};

// What a finished table becomes. `statement`: of a map, with the key that signs it.
template <typename Codec>
class KeptTableWriter {
 public:
  KeptTableWriter(Storage& storage, std::vector<Unlisted>& unlisted, KeptKind kind, uint64_t number,
                  SegmentRun run)
      : file_(storage, unlisted, kind, number), writer_(file_), run_(run) {}
  Task<Status> create() { return file_.create(); }
  void add(const typename Codec::Entry& entry) { writer_.add(entry); }
  bool wants_flush() const { return file_.wants_flush(); }
  Task<Status> flush() { return file_.flush(); }
  Task<Result<TablePtr>> finish(std::optional<MapStatement> statement,
                                const crypto::SigningKey* key) {
    TableFooter footer = writer_.finish();
    if (statement) sign_map(*statement, *key, footer);
    const Bytes last = encode_table_footer(footer);
    file_.take(last);
    CO_TRY(co_await file_.flush());
    CO_TRY(co_await file_.sync());
    auto made = std::make_shared<KeptTable>();
    made->table = {.number = file_.number(), .footer = footer};
    made->file = file_.file();
    made->entry = {.number = file_.number(),
                   .kind = file_.kind(),
                   .a = run_.a,
                   .b = run_.b,
                   .length = file_.end(),
                   .digest = crypto::sha256(last)};
    co_return TablePtr(made);
  }

 private:
  FileWriter file_;
  TableWriter<Codec> writer_;
  SegmentRun run_;
};

}  // namespace hf::journal
