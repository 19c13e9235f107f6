#include "journal/format/manifest.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {

constexpr uint32_t kManifestMagic = 0x4d464648;  // "HFFM"
constexpr uint16_t kManifestVersion = 1;
constexpr size_t kFixedSize = 208;
constexpr size_t kSegmentSize = 160;
constexpr size_t kBaseSize = 64;
constexpr size_t kDigestSize = 32;
constexpr size_t kManifestMax =
    64u << 20;  // far beyond any journal; bounds what a bad file can ask for
constexpr std::string_view kWhere = "MANIFEST";

size_t encoded_size(size_t lineage, size_t segments, size_t bases) {
  return kFixedSize + lineage * kLineageEntrySize + segments * kSegmentSize + bases * kBaseSize +
         kDigestSize;
}

void put_segment(FieldWriter& out, const SegmentEntry& entry) {
  const ClosedSegment closed = entry.closed.value_or(ClosedSegment{});
  out.number(entry.number);
  out.number(uint32_t{entry.closed ? 1u : 0u});
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
  SegmentEntry entry{.number = in.number<uint64_t>(), .closed = {}};
  const bool is_closed = in.number<uint32_t>() != 0;
  in.bytes(4);
  ClosedSegment closed;
  closed.first = Sequence(in.number<uint64_t>());
  closed.last = Sequence(in.number<uint64_t>());
  closed.incarnation = in.id<IncarnationId>();
  closed.close_offset = in.number<uint64_t>();
  closed.table_entries = in.number<uint64_t>();
  closed.time = Micros(in.number<uint64_t>());
  closed.close_digest = in.id<Digest>();
  closed.chain = in.id<Digest>();
  in.bytes(8);
  if (is_closed) entry.closed = closed;
  return entry;
}

// What Line::check() asks of an incarnation record, as far as the lineage shows it.
Status check_follows(const Lineage& lineage, const LineageEntry& entry) {
  if (entry.first != entry.body.parent.sequence.next()) {
    return corrupt("the lineage: an incarnation does not begin after its parent");
  }
  if (lineage.empty()) {
    const bool first = entry.body.parent == Position{} && entry.body.parent_chain.is_zero();
    return first ? Status() : corrupt("the lineage does not begin with the VM's first incarnation");
  }
  const LineageEntry& before = lineage.back();
  if (entry.first <= before.first) return corrupt("the lineage is out of order");
  if (entry.body.parent.incarnation != before.body.salt) {
    return corrupt("the lineage: an incarnation has another parent than the one before it");
  }
  if (entry.body.epoch < before.body.epoch || entry.time < before.time) {
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

Result<Lineage> decode_lineage(ByteSpan from) {
  if (from.size() % kLineageEntrySize != 0) return corrupt("the lineage is cut short");
  Lineage lineage;
  FieldReader in(from);
  for (size_t i = 0; i < from.size() / kLineageEntrySize; ++i) {
    LineageEntry entry;
    entry.body = TRY(decode_incarnation(in.bytes(kIncarnationBodySize)));
    entry.first = in.counted<Sequence>();
    entry.time = in.counted<Micros>();
    if (!in.in_range()) return corrupt(std::string("the lineage: ") + kOutOfRange);
    TRY(check_follows(lineage, entry));
    lineage.push_back(entry);
  }
  return lineage;
}

Bytes encode_manifest(const Manifest& manifest) {
  const size_t size =
      encoded_size(manifest.lineage.size(), manifest.segments.size(), manifest.bases.size());
  Bytes bytes(size);
  FieldWriter out(bytes);
  out.number(kManifestMagic);
  out.number(kManifestVersion);
  out.zeroes(2);
  out.number(uint64_t{size});
  out.number(manifest.generation);
  out.bytes(manifest.vm.span());
  out.bytes(manifest.public_key);
  out.number(manifest.next_file_number);
  out.bytes(manifest.horizon.end.position.incarnation.span());
  out.number(manifest.horizon.end.position.sequence.value);
  out.bytes(manifest.horizon.end.chain.span());
  out.number(manifest.horizon.time.value);
  out.bytes(manifest.horizon.close.span());
  out.number(static_cast<uint32_t>(manifest.lineage.size()));
  out.number(static_cast<uint32_t>(manifest.segments.size()));
  out.number(static_cast<uint32_t>(manifest.bases.size()));
  out.zeroes_to(kFixedSize);
  out.bytes(encode_lineage(manifest.lineage, Sequence(kNumberMax)));
  for (const SegmentEntry& entry : manifest.segments) put_segment(out, entry);
  for (const BaseEntry& entry : manifest.bases) {
    out.number(entry.number);
    out.number(entry.table_offset);
    out.number(entry.table_entries);
    out.bytes(entry.footer_digest.span());
    out.zeroes(8);
  }
  out.bytes(crypto::sha256(ByteSpan(bytes).first(out.at())).span());
  HF_ASSERT(out.at() == size);
  return bytes;
}

Result<Manifest> decode_manifest(ByteSpan from) {
  if (from.size() < kFixedSize + kDigestSize) return corrupt("the file is cut short");
  FieldReader in(from);
  if (in.number<uint32_t>() != kManifestMagic) return corrupt("not a journal manifest");
  if (in.number<uint16_t>() != kManifestVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "manifest of another version"};
  }
  in.bytes(2);
  if (in.number<uint64_t>() != from.size()) return corrupt("the file's length differs");
  const ByteSpan digest = from.last(kDigestSize);
  if (!crypto::constant_time_equal(crypto::sha256(from.first(from.size() - kDigestSize)).span(),
                                   digest)) {
    return corrupt("the file's digest differs");
  }
  Manifest manifest;
  manifest.generation = in.number<uint64_t>();
  manifest.vm = in.id<VmId>();
  std::ranges::copy(in.bytes(manifest.public_key.size()), manifest.public_key.begin());
  manifest.next_file_number = in.number<uint64_t>();
  manifest.horizon.end.position.incarnation = in.id<IncarnationId>();
  manifest.horizon.end.position.sequence = Sequence(in.number<uint64_t>());
  manifest.horizon.end.chain = in.id<Digest>();
  manifest.horizon.time = Micros(in.number<uint64_t>());
  manifest.horizon.close = in.id<Digest>();
  const auto lineage = in.number<uint32_t>();
  const auto segments = in.number<uint32_t>();
  const auto bases = in.number<uint32_t>();
  if (encoded_size(lineage, segments, bases) != from.size())
    return corrupt("the counts do not fit");
  in.bytes(kFixedSize - in.at());
  manifest.lineage = TRY(decode_lineage(in.bytes(size_t{lineage} * kLineageEntrySize)));
  for (uint32_t i = 0; i < segments; ++i) {
    manifest.segments.push_back(get_segment(in));
    const bool after_open = i > 0 && !manifest.segments[i - 1].closed;
    if (after_open && manifest.segments[i].closed) return corrupt("the segments are out of order");
  }
  for (uint32_t i = 0; i < bases; ++i) {
    BaseEntry entry;
    entry.number = in.number<uint64_t>();
    entry.table_offset = in.number<uint64_t>();
    entry.table_entries = in.number<uint64_t>();
    entry.footer_digest = in.id<Digest>();
    in.bytes(8);
    manifest.bases.push_back(entry);
  }
  return manifest;
}

Result<Manifest> load_manifest(Storage& storage) {
  const FileId file = TRY_CONTEXT(storage.open(kManifestName, OpenMode::kRead), kWhere);
  auto read = [&]() -> Result<Manifest> {
    const uint64_t size = TRY(storage.size(file));
    if (size > kManifestMax) return corrupt("the file is too long");
    Bytes bytes(size);
    TRY(storage.read_now(file, 0, bytes));
    return decode_manifest(bytes);
  };
  Result<Manifest> manifest = read();
  TRY(storage.close(file));
  if (!manifest.ok()) return std::move(manifest).error().context(kWhere);
  return manifest;
}

Status store_manifest(Storage& storage, const Manifest& manifest) {
  const Bytes bytes = encode_manifest(manifest);
  // A crash may have left a half-written one.
  if (Status removed = storage.remove(kManifestNewName);
      !removed.ok() && removed.error().code != ErrorCode::kNotFound) {
    return std::move(removed).error().context(kManifestNewName);
  }
  const FileId file =
      TRY_CONTEXT(storage.open(kManifestNewName, OpenMode::kCreate), kManifestNewName);
  Status written = storage.write_now(file, 0, bytes);
  if (written.ok()) written = storage.sync_now(file);
  Status closed = storage.close(file);
  if (!written.ok()) return std::move(written).error().context(kManifestNewName);
  TRY(std::move(closed));
  // The names it lists must be durable before it can be: renames and creations may reach the disk
  // in any order between two directory syncs.
  TRY(storage.sync_directory());
  TRY_CONTEXT(storage.rename(kManifestNewName, kManifestName), kWhere);
  return storage.sync_directory();
}

std::string segment_name(uint64_t number) { return fmt::format("segment-{:016x}", number); }
std::string base_name(uint64_t number) { return fmt::format("base-{:016x}", number); }

}  // namespace hf::journal
