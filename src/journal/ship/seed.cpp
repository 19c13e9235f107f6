#include "journal/ship/seed.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr uint16_t kSeedVersion = 1;
constexpr uint64_t kTableEntriesMax = uint64_t{1} << 40;
// Sums of a base's parts, and of all bases, are far from wrapping.
static_assert(kSeedBytesMax < kNumberMax / 2 &&
              kTableEntriesMax * kExtentEntrySize < kSeedBytesMax);

Status check_base(const SeedBase& base, const VmId& vm, const LineEnd& since) {
  if (base.footer.header.vm != vm) return corrupt("base file of another VM");
  if (base.footer.since != since) return corrupt("it does not begin where the one before it ends");
  if (base.footer.through.end.position.sequence <= since.position.sequence) {
    return corrupt("it reaches no further than the one before it");
  }
  if (base.footer.table_offset < kBaseHeaderSize || base.footer.table_offset > kSeedBytesMax ||
      base.footer.table_entries > kTableEntriesMax) {
    return corrupt("its table cannot be where the footer says");
  }
  return {};
}
}  // namespace

uint64_t SeedDescription::bytes() const {
  uint64_t sum = 0;
  for (const SeedBase& base : bases) sum += base.size();
  return sum;
}

Bytes encode_seed(const VmId& vm, const Lineage& lineage, std::span<const SeedBaseEntry> bases) {
  const Bytes entries = encode_lineage(lineage, Sequence(kNumberMax));
  Bytes bytes(kSeedHeaderSize + entries.size() + bases.size() * (8 + kBaseFooterSize));
  FieldWriter out(bytes);
  out.number(kSeedMagic);
  out.number(kSeedVersion);
  out.zeroes(2);
  out.bytes(vm.span());
  out.number(static_cast<uint32_t>(lineage.size()));
  out.number(static_cast<uint32_t>(bases.size()));
  out.bytes(entries);
  for (const SeedBaseEntry& base : bases) {
    out.number(base.number);
    out.bytes(base.footer);
  }
  HF_ASSERT(out.at() == bytes.size());
  return bytes;
}

Result<SeedDescription> decode_seed(ByteSpan from, const VmId& vm, const crypto::PublicKey& key) {
  if (from.size() < kSeedHeaderSize) return corrupt("seed: cut short");
  FieldReader in(from);
  if (in.number<uint32_t>() != kSeedMagic) return corrupt("not a seed's description");
  if (in.number<uint16_t>() != kSeedVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a seed of another version"};
  }
  if (!in.zeroes(2)) return corrupt("seed: reserved bytes set");
  if (in.id<VmId>() != vm) return corrupt("seed: of another VM");
  const auto lineage = in.number<uint32_t>();
  const auto bases = in.number<uint32_t>();
  if (lineage == 0 || lineage > kSeedLineageMax || bases == 0 || bases > kSeedBasesMax ||
      from.size() !=
          kSeedHeaderSize + lineage * kLineageEntrySize + bases * (8 + kBaseFooterSize)) {
    return corrupt("seed: the counts do not fit");
  }
  SeedDescription seed;
  const ByteSpan entries = in.bytes(lineage * kLineageEntrySize);
  seed.lineage = TRY_CONTEXT(decode_lineage(entries), "seed");
  LineEnd since;
  uint64_t total = 0;
  for (uint32_t i = 0; i < bases; ++i) {
    const std::string where = fmt::format("seed: base {}", i + 1);
    SeedBase base;
    base.number = in.counted();
    if (!in.in_range()) return corrupt(where + ": " + kOutOfRange);
    std::ranges::copy(in.bytes(kBaseFooterSize), base.raw.begin());
    base.footer = TRY_CONTEXT(decode_base_footer(base.raw, key), where);
    TRY_CONTEXT(check_base(base, vm, since), where);
    total += base.size();
    if (total > kSeedBytesMax) return corrupt(where + ": more bytes than any disk holds");
    since = base.footer.through.end;
    seed.bases.push_back(base);
  }
  if (crypto::sha256(entries) != seed.bases.back().footer.lineage_digest) {
    return corrupt("seed: the lineage differs from the newest base's");
  }
  if (!contains(seed.lineage, since.position.sequence, since.position) ||
      seed.lineage.back().first > since.position.sequence) {
    return corrupt("seed: it does not end on its lineage");
  }
  return seed;
}

Result<Bytes> SeedSource::describe() {
  const Manifest& manifest = log_.manifest();
  if (manifest.bases.empty()) {
    return Error{.code = ErrorCode::kNotFound, .cause = "nothing of this journal is merged"};
  }
  std::vector<SeedBaseEntry> bases;
  for (const BaseEntry& base : manifest.bases) {
    SeedBaseEntry& entry = bases.emplace_back();
    entry.number = base.number;
    const uint64_t at = base.table_offset + base.table_entries * kExtentEntrySize;
    TRY_CONTEXT(storage_.read_now(files_.at(base.number).file, at, entry.footer),
                base_name(base.number));
  }
  Lineage lineage;
  for (const LineageEntry& entry : log_.line().lineage()) {
    if (entry.first <= manifest.horizon.end.position.sequence) lineage.push_back(entry);
  }
  if (lineage.size() > kSeedLineageMax || bases.size() > kSeedBasesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "more incarnations than a seed can name"};
  }
  return encode_seed(log_.line().vm(), lineage, bases);
}

namespace {
uint64_t size_of(const BaseEntry& base) {
  return base.table_offset + base.table_entries * kExtentEntrySize + kBaseFooterSize;
}
}  // namespace

uint64_t SeedSource::bytes() const {
  uint64_t sum = 0;
  for (const BaseEntry& base : log_.manifest().bases) sum += size_of(base);
  return sum;
}

void SeedSource::read(uint64_t base, uint64_t offset, size_t length, SealedRead& done) {
  HF_ASSERT(done_ == nullptr);
  done_ = &done;
  reading_ = 0;
  const auto& bases = log_.manifest().bases;
  const auto found = std::ranges::find(bases, base, &BaseEntry::number);
  if (found == bases.end()) {
    refusal_ = {.code = ErrorCode::kNotFound, .cause = "the base file is merged into another"};
    return log_.complete_later(*this, {});
  }
  const uint64_t size = size_of(*found);
  if (length == 0 || length > kSeedReadMax || offset > size || length > size - offset) {
    refusal_ = {.code = ErrorCode::kInvalidArgument, .cause = "not bytes of that base file"};
    return log_.complete_later(*this, {});
  }
  buffer_.resize(length);
  reading_ = base;
  OpenFiles::Entry& file = files_.at(base);
  ++file.readers;
  storage_.read(file.file, offset, buffer_, *this);
}

void SeedSource::on_complete(Status status) {
  SealedRead* done = std::exchange(done_, nullptr);
  HF_ASSERT(done != nullptr);
  if (reading_ == 0) return done->on_sealed(refusal_);
  OpenFiles::Entry& file = files_.at(reading_);
  HF_ASSERT(file.readers > 0);
  --file.readers;
  if (!status.ok()) return done->on_sealed(std::move(status).error().context(base_name(reading_)));
  done->on_sealed(SealedBatch{.records = buffer_,
                              .last = {},
                              .durable = log_.durable().end.position.sequence,
                              .oldest_time = {}});
}

}  // namespace hf::journal
