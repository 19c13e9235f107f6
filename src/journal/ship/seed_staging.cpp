#include "journal/ship/seed_staging.h"

#include <fmt/format.h>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
// Synced so often: the last sync of a large file would keep the source waiting beyond its patience.
constexpr uint64_t kSyncEvery = 64u << 20;

std::string seed_name(size_t index) { return fmt::format("{}{:016x}", kSeedNamePrefix, index); }
}  // namespace

Status SeedStaging::begin() {
  for (const std::string& name : TRY(storage_.list())) {
    if (name.starts_with(kSeedNamePrefix)) TRY_CONTEXT(storage_.remove(name), name);
  }
  return next_file();
}

Status SeedStaging::next_file() {
  const std::string name = seed_name(current_);
  file_ = TRY_CONTEXT(storage_.open(name, OpenMode::kCreate), name);
  at_ = 0;
  unsynced_ = 0;
  return {};
}

Status SeedStaging::append(ByteSpan bytes) {
  if (bytes.size() > total_ - taken_) return corrupt("seed: more bytes than it has");
  while (!bytes.empty()) {
    const SeedBase& base = seed_.bases[current_];
    uint64_t end = base.size();
    if (at_ < base.table_end()) end = base.table_end();
    if (at_ < base.footer.table_offset) end = base.footer.table_offset;
    const ByteSpan part =
        bytes.first(static_cast<size_t>(std::min<uint64_t>(bytes.size(), end - at_)));
    TRY_CONTEXT(take(part), fmt::format("seed: base {}", current_ + 1));
    bytes = bytes.subspan(part.size());
  }
  return {};
}

Status SeedStaging::take(ByteSpan bytes) {
  const SeedBase& base = seed_.bases[current_];
  TRY(storage_.write_now(*file_, at_, bytes));
  hash_.update(bytes);
  at_ += bytes.size();
  taken_ += bytes.size();
  unsynced_ += bytes.size();
  if (at_ == base.footer.table_offset && hash_.finish() != base.footer.data_digest) {
    return corrupt("its bytes differ from what its footer signs");
  }
  // An empty table ends where it begins.
  const bool table_ends = at_ == base.table_end();
  if (table_ends && hash_.finish() != base.footer.table_digest) {
    return corrupt("its table differs from what its footer signs");
  }
  if (at_ == base.size()) return end_file();
  if (unsynced_ >= kSyncEvery) {
    TRY(storage_.sync_now(*file_));
    unsynced_ = 0;
  }
  return {};
}

Status SeedStaging::end_file() {
  if (hash_.finish() != crypto::sha256(seed_.bases[current_].raw)) {
    return corrupt("its footer differs from the description's");
  }
  TRY(storage_.sync_now(*file_));
  TRY(storage_.close(*std::exchange(file_, std::nullopt)));
  ++current_;
  return current_ < seed_.bases.size() ? next_file() : Status();
}

Status SeedStaging::install(Manifest manifest) {
  HF_ASSERT(taken_ == total_ && !file_);
  manifest.bases.clear();
  manifest.segments.clear();
  manifest.lineage = seed_.lineage;
  manifest.horizon = seed_.through();
  for (size_t i = 0; i < seed_.bases.size(); ++i) {
    const SeedBase& base = seed_.bases[i];
    const uint64_t number = manifest.next_file_number++;
    TRY_CONTEXT(storage_.rename(seed_name(i), base_name(number)), base_name(number));
    manifest.bases.push_back({.number = number,
                              .table_offset = base.footer.table_offset,
                              .table_entries = base.footer.table_entries,
                              .footer_digest = crypto::sha256(base.raw)});
  }
  return store_manifest(storage_, snapshot_of(std::move(manifest)));
}

void SeedStaging::abandon() {
  if (file_) static_cast<void>(storage_.close(*file_).ok());
  file_.reset();
  for (size_t i = 0; i <= current_ && i < seed_.bases.size(); ++i) {
    static_cast<void>(storage_.remove(seed_name(i)).ok());
  }
}

}  // namespace hf::journal
