#include "journal/format/format.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "journal/format/golden_v2.h"
#include "journal/format/manifest.h"
#include "journal/log/line.h"
#include "journal/map/base_format.h"
#include "journal/seal/sealer.h"

namespace hf::journal {
namespace {

template <typename Id>
Id id_of(uint8_t byte) {
  Id id;
  id.bytes.fill(std::byte{byte});
  return id;
}

JournalKeys golden_keys() {
  crypto::Secret gsp(crypto::kKeySize);
  for (size_t i = 0; i < crypto::kKeySize; ++i) gsp.mutable_span()[i] = static_cast<std::byte>(i);
  return JournalKeys::derive(gsp, id_of<VmId>(0x11), KeyVersion(1));
}

RecordHeader golden_header(RecordKind kind, uint64_t sequence) {
  RecordHeader header;
  header.kind = kind;
  header.flags = kFlagRequestEnd;
  header.sequence = Sequence(sequence);
  header.vm = id_of<VmId>(0x11);
  header.incarnation = id_of<IncarnationId>(0x22);
  header.key_version = KeyVersion(1);
  header.time = Micros(1'700'000'000'000'000);
  header.prev_chain = id_of<Digest>(0x33);
  return header;
}

TEST(RecordFormat, gives_back_every_field) {
  RecordHeader header = golden_header(RecordKind::kWrite, 77);
  header.volume = VolumeId(3);
  header.offset = 0x123456789000;
  header.length = 5000;
  header.payload_length = static_cast<uint32_t>(sealed_size(0, 5000));
  header.payload_digest = id_of<Digest>(0x44);
  std::array<std::byte, kRecordHeaderSize> bytes;
  encode_header(header, bytes);
  EXPECT_EQ(*decode_header(bytes), header);
  EXPECT_EQ(header.stored_size() % kRecordAlignment, 0u);
}

TEST(RecordFormat, refuses_every_flipped_bit_and_every_short_header) {
  RecordHeader header = golden_header(RecordKind::kFlush, 1);
  header.payload_length = crypto::kTagSize;
  std::array<std::byte, kRecordHeaderSize> bytes;
  encode_header(header, bytes);
  for (size_t bit = 0; bit < kRecordHeaderSize * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_FALSE(decode_header(flipped).ok()) << bit;
  }
  for (size_t size = 0; size < kRecordHeaderSize; ++size) {
    EXPECT_FALSE(decode_header(ByteSpan(bytes).first(size)).ok());
  }
}

TEST(RecordFormat, refuses_lengths_no_writer_gives_even_with_a_right_checksum) {
  const auto refused = [](size_t at, uint64_t value, size_t width) {
    RecordHeader header = golden_header(RecordKind::kWrite, 1);
    header.length = 100;
    header.payload_length = static_cast<uint32_t>(sealed_size(0, 100));
    std::array<std::byte, kRecordHeaderSize> bytes;
    encode_header(header, bytes);
    std::memcpy(bytes.data() + at, &value, width);
    store_le(bytes.data() + 176, crc32c(ByteSpan(bytes).first(176)));
    return !decode_header(bytes).ok();
  };
  EXPECT_TRUE(refused(80, 101, 8));  // length
  EXPECT_TRUE(refused(80, kRecordDataMax + 1, 8));
  EXPECT_TRUE(refused(72, UINT64_MAX, 8));  // offset
  EXPECT_TRUE(refused(88, UINT32_MAX, 4));  // payload length
  EXPECT_TRUE(refused(6, 0, 1));            // kind
  EXPECT_TRUE(refused(6, 99, 1));
  EXPECT_TRUE(refused(92, 1, 1));              // compression
  EXPECT_TRUE(refused(4, 1, 2));               // version
  EXPECT_TRUE(refused(8, kNumberMax + 1, 8));  // sequence
  EXPECT_TRUE(refused(8, UINT64_MAX, 8));
  EXPECT_TRUE(refused(96, kNumberMax + 1, 8));  // time
  EXPECT_FALSE(refused(8, kNumberMax, 8));      // any other sequence is possible
}

// The bytes of format version 2. If this fails the format has changed: that needs a new version.
TEST(RecordFormat, golden_write_record) {
  Sealer sealer(golden_keys());
  RecordHeader header = golden_header(RecordKind::kWrite, 5);
  header.volume = VolumeId(1);
  header.offset = 4090;
  header.length = 16;
  Bytes record(align_record(kRecordHeaderSize + sealed_size(4090, 16)));
  sealer.seal_record(header, as_bytes("sixteen bytes..."), record);
  EXPECT_EQ(to_hex(record), kGoldenWriteV2);
  EXPECT_TRUE(sealer
                  .check_record(header, record,
                                ByteSpan(record).subspan(kRecordHeaderSize, header.payload_length))
                  .ok());
}

TEST(RecordFormat, golden_close_record) {
  Sealer sealer(golden_keys());
  RecordHeader header = golden_header(RecordKind::kClose, 6);
  SegmentSummary summary;
  summary.start(Sequence(5));
  RecordHeader zero = golden_header(RecordKind::kZero, 5);
  zero.volume = VolumeId(1);
  zero.length = 512;
  zero.payload_length = crypto::kTagSize;
  summary.add(zero, id_of<Digest>(0x55), 0);
  const LineEnd end{.position = {.incarnation = header.incarnation, .sequence = Sequence(5)},
                    .chain = header.prev_chain};
  Bytes record(align_record(kRecordHeaderSize + kClosePayloadSize));
  sealer.sign_close(header, summary.close_body(Epoch(1), end, id_of<Digest>(0x66)), record);
  EXPECT_EQ(to_hex(record), kGoldenCloseV2);
}

TEST(MerkleTree, has_the_shape_of_rfc_6962) {
  const auto leaf = [](uint8_t n) {
    Bytes input(33);
    std::ranges::copy(id_of<Digest>(n).bytes, input.begin() + 1);
    return crypto::sha256(input);
  };
  const auto node = [](const Digest& left, const Digest& right) {
    Bytes input(1, std::byte{1});
    input.insert(input.end(), left.bytes.begin(), left.bytes.end());
    input.insert(input.end(), right.bytes.begin(), right.bytes.end());
    return crypto::sha256(input);
  };
  MerkleTree tree;
  EXPECT_EQ(tree.root(), crypto::sha256({}));
  tree.add(id_of<Digest>(1));
  EXPECT_EQ(tree.root(), leaf(1));
  for (uint8_t n = 2; n <= 7; ++n) tree.add(id_of<Digest>(n));
  const Digest four = node(node(leaf(1), leaf(2)), node(leaf(3), leaf(4)));
  EXPECT_EQ(tree.root(), node(four, node(node(leaf(5), leaf(6)), leaf(7))));
  tree.clear();
  EXPECT_EQ(tree.root(), crypto::sha256({}));
}

TEST(ManifestFormat, takes_no_lineage_whose_incarnations_do_not_follow_each_other) {
  const auto taken = [](auto change) {
    Lineage lineage(2);
    lineage[0] = {.body = {.salt = id_of<IncarnationId>(1), .epoch = Epoch(3)},
                  .first = Sequence(1),
                  .time = Micros(10)};
    lineage[1] = {
        .body = {.salt = id_of<IncarnationId>(2),
                 .epoch = Epoch(3),
                 .parent = {.incarnation = id_of<IncarnationId>(1), .sequence = Sequence(8)}},
        .first = Sequence(9),
        .time = Micros(20)};
    change(lineage);
    return decode_lineage(encode_lineage(lineage, Sequence(UINT64_MAX))).ok();
  };
  EXPECT_TRUE(taken([](Lineage&) {}));
  EXPECT_FALSE(taken([](Lineage& l) { l[1].first = Sequence(10); }));
  EXPECT_FALSE(taken([](Lineage& l) { l[1].body.parent.incarnation = id_of<IncarnationId>(7); }));
  EXPECT_FALSE(taken([](Lineage& l) { l[1].body.epoch = Epoch(2); }));
  EXPECT_FALSE(taken([](Lineage& l) { l[1].time = Micros(9); }));
  EXPECT_FALSE(taken([](Lineage& l) { l[0].body.parent.incarnation = id_of<IncarnationId>(7); }));
  EXPECT_FALSE(taken([](Lineage& l) { l.erase(l.begin()); }));
  EXPECT_FALSE(taken([](Lineage& l) {
    l[1].first = Sequence(0);
    l[1].body.parent.sequence = Sequence(UINT64_MAX);
  }));
}

TEST(ManifestFormat, gives_back_every_field_and_refuses_every_flipped_byte) {
  Manifest manifest{.generation = 9, .vm = id_of<VmId>(1), .next_file_number = 12};
  manifest.public_key.fill(std::byte{7});
  manifest.horizon = {
      .end = {.position = {.incarnation = id_of<IncarnationId>(2), .sequence = Sequence(40)},
              .chain = id_of<Digest>(3)},
      .time = Micros(99),
      .close = id_of<Digest>(4)};
  for (uint64_t n = 0; n < 3; ++n) {
    LineageEntry entry{
        .body = {.salt = id_of<IncarnationId>(static_cast<uint8_t>(10 + n)), .epoch = Epoch(n)},
        .first = Sequence(1 + n * 100),
        .time = Micros(n)};
    if (n > 0) {
      entry.body.parent = {.incarnation = manifest.lineage.back().body.salt,
                           .sequence = Sequence(n * 100)};
    }
    manifest.lineage.push_back(entry);
  }
  manifest.segments.push_back({.number = 3,
                               .closed = ClosedSegment{.first = Sequence(41),
                                                       .last = Sequence(60),
                                                       .incarnation = id_of<IncarnationId>(5),
                                                       .close_offset = 8192,
                                                       .table_entries = 19,
                                                       .time = Micros(100),
                                                       .close_digest = id_of<Digest>(6),
                                                       .chain = id_of<Digest>(7)}});
  manifest.segments.push_back({.number = 4, .closed = {}});
  manifest.bases.push_back(
      {.number = 2, .table_offset = 4096, .table_entries = 1, .footer_digest = id_of<Digest>(8)});
  manifest.kept.push_back({.number = 7,
                           .kind = KeptKind::kDeaths,
                           .a = 8,
                           .b = 16,
                           .length = 900,
                           .digest = id_of<Digest>(10)});
  manifest.points = {3, 9};
  manifest.last_store = id_of<Digest>(9);
  const auto [bytes, stored] = snapshot_of(manifest);
  manifest.generation = 10;
  manifest.last_store = stored.last_store;
  EXPECT_EQ(stored, manifest);
  EXPECT_EQ(*decode_manifest(bytes), manifest);
  for (size_t at = 0; at < bytes.size(); ++at) {
    Bytes flipped = bytes;
    flipped[at] ^= std::byte{0x80};
    EXPECT_FALSE(decode_manifest(flipped).ok()) << at;
    EXPECT_FALSE(decode_manifest(ByteSpan(bytes).first(at)).ok());
  }
}

TEST(BaseFormat, footer_is_signed) {
  const JournalKeys keys = golden_keys();
  BaseFooter footer{.table_offset = 4096, .table_entries = 3, .table_digest = id_of<Digest>(1)};
  footer.header = {.vm = keys.vm(), .key_version = keys.version()};
  std::array<std::byte, kBaseFooterSize> bytes;
  encode_base_footer(footer, keys.signing(), bytes);
  EXPECT_EQ(*decode_base_footer(bytes, keys.public_key()), footer);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    auto flipped = bytes;
    flipped[at] ^= std::byte{2};
    EXPECT_FALSE(decode_base_footer(flipped, keys.public_key()).ok()) << at;
  }
  std::array<std::byte, kBaseHeaderSize> head;
  encode_base_header(footer.header, head);
  EXPECT_EQ(*decode_base_header(head), footer.header);
}

TEST(SegmentFormat, header_footer_and_extents_give_back_every_field) {
  const SegmentHeader header{.number = 4,
                             .vm = id_of<VmId>(1),
                             .first_sequence = Sequence(9),
                             .prev_chain = id_of<Digest>(2),
                             .previous_close = id_of<Digest>(3)};
  Bytes head(kSegmentHeaderSize);
  encode_segment_header(header, head);
  EXPECT_EQ(*decode_segment_header(head), header);
  const SegmentFooter footer{.close_offset = 4096,
                             .table_offset = 4544,
                             .table_entries = 2,
                             .close_digest = id_of<Digest>(4)};
  std::array<std::byte, kSegmentFooterSize> foot;
  encode_footer(footer, foot);
  EXPECT_EQ(*decode_footer(foot), footer);
  const ExtentEntry extent{.volume = VolumeId(1),
                           .kind = RecordKind::kZero,
                           .offset = 5,
                           .length = 6,
                           .sequence = Sequence(7),
                           .position = 64};
  std::array<std::byte, kExtentEntrySize> entry;
  encode_extent(extent, entry);
  EXPECT_EQ(*decode_extent(entry), extent);
  for (size_t at = 0; at < kSegmentHeaderSize; ++at) {
    Bytes flipped = head;
    flipped[at] ^= std::byte{4};
    EXPECT_FALSE(decode_segment_header(flipped).ok()) << at;
  }
  for (size_t at = 0; at < kSegmentFooterSize; ++at) {
    auto flipped = foot;
    flipped[at] ^= std::byte{4};
    EXPECT_FALSE(decode_footer(flipped).ok()) << at;
  }
}

}  // namespace
}  // namespace hf::journal
