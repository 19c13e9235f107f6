#include "journal/format/manifest.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/format/manifest_wire.h"

namespace hf::journal {

using namespace manifest_wire;

namespace {

constexpr uint32_t kManifestMagic = 0x4d464648;  // "HFFM"
constexpr size_t kFixedSize = 248;

struct Counts {
  size_t lineage = 0;
  size_t segments = 0;
  size_t bases = 0;
  size_t kept = 0;
  size_t points = 0;
};
size_t encoded_size(const Counts& of) {
  return kFixedSize + of.lineage * kLineageEntrySize + of.segments * kSegmentSize +
         of.bases * kBaseSize + of.kept * kKeptSize + of.points * kNumberSize + kDigestSize;
}

// What Line::check() asks of an incarnation record, as far as the lineage shows it. `before`: none
// if it is the first.
Status check_follows(const LineageEntry* before, const LineageEntry& entry) {
  if (entry.first != entry.body.parent.sequence.next()) {
    return corrupt("the lineage: an incarnation does not begin after its parent");
  }
  if (before == nullptr) {
    const bool first = entry.body.parent == Position{} && entry.body.parent_chain.is_zero();
    return first ? Status() : corrupt("the lineage does not begin with the VM's first incarnation");
  }
  if (entry.first <= before->first) return corrupt("the lineage is out of order");
  if (entry.body.parent.incarnation != before->body.salt) {
    return corrupt("the lineage: an incarnation has another parent than the one before it");
  }
  if (entry.body.epoch < before->body.epoch || entry.time < before->time) {
    return corrupt("the lineage: epoch or time goes back");
  }
  return {};
}

}  // namespace

Bytes encode_lineage(const Lineage& lineage, Sequence last) {
  Bytes bytes(static_cast<size_t>(std::ranges::count_if(
                  lineage, [&](const LineageEntry& entry) { return entry.first <= last; })) *
              kLineageEntrySize);
  FieldWriter out(bytes);
  for (const LineageEntry& entry : lineage) {
    if (entry.first > last) break;
    std::array<std::byte, kIncarnationBodySize> body;
    encode_incarnation(entry.body, body);
    out.bytes(body);
    out.number(entry.first.value);
    out.number(entry.time.value);
  }
  HF_ASSERT(out.at() == bytes.size());
  return bytes;
}

Result<Lineage> decode_lineage(ByteSpan from) { return decode_lineage_after({}, from); }

Result<Lineage> decode_lineage_after(const Lineage& before, ByteSpan from) {
  if (from.size() % kLineageEntrySize != 0) return corrupt("the lineage is cut short");
  Lineage lineage;
  const LineageEntry* last = before.empty() ? nullptr : &before.back();
  FieldReader in(from);
  for (size_t i = 0; i < from.size() / kLineageEntrySize; ++i) {
    LineageEntry entry;
    entry.body = TRY(decode_incarnation(in.bytes(kIncarnationBodySize)));
    entry.first = in.counted<Sequence>();
    entry.time = in.counted<Micros>();
    if (!in.in_range()) return corrupt(std::string("the lineage: ") + kOutOfRange);
    TRY(check_follows(last, entry));
    lineage.push_back(entry);
    last = &lineage.back();
  }
  return lineage;
}

ManifestStore snapshot_of(Manifest next) {
  ++next.generation;
  const size_t size = encoded_size({.lineage = next.lineage.size(),
                                    .segments = next.segments.size(),
                                    .bases = next.bases.size(),
                                    .kept = next.kept.size(),
                                    .points = next.points.size()});
  Bytes bytes(size);
  FieldWriter out(bytes);
  out.number(kManifestMagic);
  out.number(kVersion);
  out.zeroes(2);
  out.number(uint64_t{size});
  out.number(next.generation);
  out.bytes(next.last_store.span());
  out.bytes(next.vm.span());
  out.bytes(next.public_key);
  out.number(next.next_file_number);
  put_horizon(out, next.horizon);
  out.number(static_cast<uint32_t>(next.lineage.size()));
  out.number(static_cast<uint32_t>(next.segments.size()));
  out.number(static_cast<uint32_t>(next.bases.size()));
  out.number(static_cast<uint32_t>(next.kept.size()));
  out.number(static_cast<uint32_t>(next.points.size()));
  out.zeroes_to(kFixedSize);
  out.bytes(encode_lineage(next.lineage, Sequence(kNumberMax)));
  for (const SegmentEntry& entry : next.segments) put_segment(out, entry);
  for (const BaseEntry& entry : next.bases) put_base(out, entry);
  for (const KeptFile& file : next.kept) put_kept(out, file);
  for (const uint64_t point : next.points) out.number(point);
  next.last_store = crypto::sha256(ByteSpan(bytes).first(out.at()));
  out.bytes(next.last_store.span());
  HF_ASSERT(out.at() == size && size % kAlignment == 0);
  return {.bytes = std::move(bytes), .state = std::move(next)};
}

std::string segment_name(uint64_t number) { return fmt::format("segment-{:016x}", number); }
std::string base_name(uint64_t number) { return fmt::format("base-{:016x}", number); }

std::string kept_name(KeptKind kind, uint64_t number) {
  constexpr std::array<std::string_view, 5> kNames{"", "map", "locator", "deaths", "units"};
  return fmt::format("{}-{:016x}", kNames.at(static_cast<size_t>(kind)), number);
}

std::set<std::string> names_of(const Manifest& manifest) {
  std::set<std::string> names;
  for (const SegmentEntry& entry : manifest.segments) {
    if (!entry.collected) names.insert(segment_name(entry.number));
  }
  for (const BaseEntry& entry : manifest.bases) names.insert(base_name(entry.number));
  for (const KeptFile& file : manifest.kept) names.insert(kept_name(file.kind, file.number));
  return names;
}

namespace manifest_wire {

void put_horizon(FieldWriter& out, const Horizon& horizon) {
  out.bytes(horizon.end.position.incarnation.span());
  out.number(horizon.end.position.sequence.value);
  out.bytes(horizon.end.chain.span());
  out.number(horizon.time.value);
  out.bytes(horizon.close.span());
}

Horizon get_horizon(FieldReader& in) {
  Horizon horizon;
  horizon.end.position.incarnation = in.id<IncarnationId>();
  horizon.end.position.sequence = in.counted<Sequence>();
  horizon.end.chain = in.id<Digest>();
  horizon.time = in.counted<Micros>();
  horizon.close = in.id<Digest>();
  return horizon;
}

void put_segment(FieldWriter& out, const SegmentEntry& entry) {
  const ClosedSegment closed = entry.closed.value_or(ClosedSegment{});
  out.number(entry.number);
  out.number((entry.closed ? kSegmentClosed : 0) | (entry.collected ? kSegmentCollected : 0));
  out.zeroes(4);
  out.number(closed.first.value);
  out.number(closed.last.value);
  out.bytes(closed.incarnation.span());
  out.number(closed.close_offset);
  out.number(closed.table_entries);
  out.number(closed.time.value);
  out.bytes(closed.close_digest.span());
  out.bytes(closed.chain.span());
  out.zeroes(8);
}

SegmentEntry get_segment(FieldReader& in) {
  SegmentEntry entry{.number = in.counted(), .closed = {}};
  const auto flags = in.number<uint32_t>();
  in.bytes(4);
  ClosedSegment closed;
  closed.first = in.counted<Sequence>();
  closed.last = in.counted<Sequence>();
  closed.incarnation = in.id<IncarnationId>();
  closed.close_offset = in.counted();
  closed.table_entries = in.counted();
  closed.time = in.counted<Micros>();
  closed.close_digest = in.id<Digest>();
  closed.chain = in.id<Digest>();
  in.bytes(8);
  if ((flags & kSegmentClosed) != 0) entry.closed = closed;
  entry.collected = (flags & kSegmentCollected) != 0;
  return entry;
}

void put_base(FieldWriter& out, const BaseEntry& entry) {
  out.number(entry.number);
  out.number(entry.table_offset);
  out.number(entry.table_entries);
  out.bytes(entry.footer_digest.span());
  out.zeroes(8);
}

BaseEntry get_base(FieldReader& in) {
  BaseEntry entry;
  entry.number = in.counted();
  entry.table_offset = in.counted();
  entry.table_entries = in.counted();
  entry.footer_digest = in.id<Digest>();
  in.bytes(8);
  return entry;
}

void put_kept(FieldWriter& out, const KeptFile& file) {
  out.number(file.number);
  out.number(static_cast<uint32_t>(file.kind));
  out.zeroes(4);
  out.number(file.a);
  out.number(file.b);
  out.number(file.length);
  out.bytes(file.digest.span());
  out.zeroes(8);
}

KeptFile get_kept(FieldReader& in) {
  KeptFile file{.number = in.counted(), .kind = static_cast<KeptKind>(in.number<uint32_t>())};
  in.bytes(4);
  file.a = in.counted();
  file.b = in.counted();
  file.length = in.counted();
  file.digest = in.id<Digest>();
  in.bytes(8);
  return file;
}

Status check_kept(const std::vector<KeptFile>& files) {
  for (const KeptFile& file : files) {
    if (file.kind < KeptKind::kMap || file.kind > KeptKind::kUnits) {
      return corrupt("a file of an unknown kind");
    }
  }
  return {};
}

Status check_order(const std::vector<SegmentEntry>& segments) {
  for (const SegmentEntry& entry : segments) {
    if (entry.collected && !entry.closed) return corrupt("a segment was collected before its end");
  }
  for (size_t i = 1; i < segments.size(); ++i) {
    if (!segments[i - 1].closed && segments[i].closed) {
      return corrupt("the segments are out of order");
    }
  }
  return {};
}

Result<Snapshot> decode_snapshot(ByteSpan file) {
  if (file.size() < kFixedSize + kDigestSize) return corrupt("the file is cut short");
  FieldReader in(file);
  if (in.number<uint32_t>() != kManifestMagic) return corrupt("not a journal manifest");
  if (const auto version = in.number<uint16_t>(); version != kVersion) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("a journal of format {}, where this build reads format {} only{}",
                             version, kVersion,
                             version < kVersion ? ": it was made by a build from before records "
                                                  "had units of 4 KiB"
                                                : ""),
        .effect = "Nothing of it was read or changed",
        .mend = "start the VM with the build that made it"};
  }
  in.bytes(2);
  const auto size = in.number<uint64_t>();
  if (size > file.size()) return corrupt("the file is cut short");
  if (size < kFixedSize + kDigestSize) return corrupt("the snapshot's length does not fit");
  const ByteSpan body = file.first(static_cast<size_t>(size) - kDigestSize);
  Snapshot out{.state = {}, .size = static_cast<size_t>(size)};
  Manifest& manifest = out.state;
  const Digest digest = crypto::sha256(body);
  if (!crypto::constant_time_equal(digest.span(), file.subspan(body.size(), kDigestSize))) {
    return corrupt("the snapshot's digest differs");
  }
  manifest.generation = in.counted();
  in.id<Digest>();  // the store that it replaced is gone
  manifest.last_store = digest;
  manifest.vm = in.id<VmId>();
  std::ranges::copy(in.bytes(manifest.public_key.size()), manifest.public_key.begin());
  manifest.next_file_number = in.counted();
  manifest.horizon = get_horizon(in);
  const auto lineage = in.number<uint32_t>();
  const auto segments = in.number<uint32_t>();
  const auto bases = in.number<uint32_t>();
  const auto kept = in.number<uint32_t>();
  const auto points = in.number<uint32_t>();
  if (encoded_size({.lineage = lineage,
                    .segments = segments,
                    .bases = bases,
                    .kept = kept,
                    .points = points}) != size) {
    return corrupt("the counts do not fit");
  }
  in.bytes(kFixedSize - in.at());
  manifest.lineage = TRY(decode_lineage(in.bytes(size_t{lineage} * kLineageEntrySize)));
  for (uint32_t i = 0; i < segments; ++i) manifest.segments.push_back(get_segment(in));
  TRY(check_order(manifest.segments));
  for (uint32_t i = 0; i < bases; ++i) manifest.bases.push_back(get_base(in));
  for (uint32_t i = 0; i < kept; ++i) manifest.kept.push_back(get_kept(in));
  TRY(check_kept(manifest.kept));
  for (uint32_t i = 0; i < points; ++i) manifest.points.push_back(in.counted());
  if (!in.in_range()) return corrupt(kOutOfRange);
  return out;
}

}  // namespace manifest_wire

}  // namespace hf::journal
