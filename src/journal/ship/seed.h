// Seed: what a replica begins with when the first records it lacks are merged away at their home.
// Base files that hold the state at S, where home's segments begin, and the lineage up to S; the
// records after S follow as ever.
//
// Nothing in a description is believed for its own sake: each base's footer is signed by the VM's
// journal key and names the line's end that it begins and stops at, the lineage, and the digests of
// all of the file's other bytes. The footers have to join, from nothing to S.
//
//   magic "HFFJ", version u16, zero u16, VM [16], lineage entries u32, bases u32
//   lineage entries as in MANIFEST
//   per base: file number u64 (home's name for it), footer
#pragma once

#include "journal/log/record_log.h"
#include "journal/map/base_format.h"
#include "journal/map/files.h"
#include "journal/ship/sealed_read.h"

namespace hf::journal {

inline constexpr uint32_t kSeedMagic = 0x4a464648;  // "HFFJ"
inline constexpr size_t kSeedHeaderSize = 32;
inline constexpr size_t kSeedBasesMax = 256;
inline constexpr size_t kSeedLineageMax = 16384;
inline constexpr uint64_t kSeedBytesMax = uint64_t{1} << 56;  // of all its files
inline constexpr size_t kSeedReadMax = 1u << 20;              // bytes of one read_seed()
inline constexpr size_t kSeedDescriptionMax =
    kSeedHeaderSize + kSeedLineageMax * kLineageEntrySize + kSeedBasesMax * (8 + kBaseFooterSize);

struct SeedBase {
  uint64_t number = 0;
  BaseFooter footer;
  std::array<std::byte, kBaseFooterSize> raw{};  // the footer's bytes
  uint64_t table_end() const {
    return footer.table_offset + footer.table_entries * kExtentEntrySize;
  }
  uint64_t size() const { return table_end() + kBaseFooterSize; }
};

struct SeedDescription {
  Lineage lineage;
  std::vector<SeedBase> bases;  // oldest first; at least one
  const Horizon& through() const { return bases.back().footer.through; }
  uint64_t bytes() const;  // of all files
};

struct SeedBaseEntry {
  uint64_t number = 0;
  std::array<std::byte, kBaseFooterSize> footer{};
};
Bytes encode_seed(const VmId& vm, const Lineage& lineage, std::span<const SeedBaseEntry> bases);
// Checks all that was said above; kCorrupt names what differs.
Result<SeedDescription> decode_seed(ByteSpan from, const VmId& vm, const crypto::PublicKey& key);

// Home's side.
class SeedSource final : private Completion {
 public:
  SeedSource(Storage& storage, RecordLog& log, OpenFiles& files)
      : storage_(storage), log_(log), files_(files) {}
  SeedSource(const SeedSource&) = delete;
  SeedSource& operator=(const SeedSource&) = delete;

  Result<Bytes> describe();
  uint64_t bytes() const;  // of the files that it describes
  void read(uint64_t base, uint64_t offset, size_t length, SealedRead& done);
  bool busy() const { return done_ != nullptr; }

 private:
  void on_complete(Status status) override;

  Storage& storage_;
  RecordLog& log_;
  OpenFiles& files_;
  SealedRead* done_ = nullptr;
  uint64_t reading_ = 0;  // a base's number; 0: the refusal is ready
  Error refusal_;
  Bytes buffer_;
};

}  // namespace hf::journal
