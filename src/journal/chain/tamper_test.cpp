// What a map says is believed only as far as its signature reaches, which is every byte of it.
#include <gtest/gtest.h>

#include "crypto/kdf.h"
#include "journal/chain/statement.h"
#include "journal/chain/test_line.h"

namespace hf::journal {
namespace {

struct SignedMap {
  explicit SignedMap(uint64_t seed)
      : line(seed, {.cells = 40000, .records_per_segment = 3000, .checkpoint_every = 1000}) {
    while (line.closed < 1) line.write_record();
    statement.vm.bytes.fill(std::byte{1});
    statement.key_version = KeyVersion(1);
    statement.run = {.a = 0, .b = 1};
    statement.end.end.position.sequence = Sequence(3000);
    statement.end.close.bytes.fill(std::byte{2});
    const Table* map = line.maps.at(statement.run);
    footer = map->footer;
    file = line.files.files[map->number];
    sign_map(statement, key, footer);
    const Bytes end = encode_table_footer(footer);
    std::ranges::copy(end, file.end() - kTableFooterSize);
    Present table;
    line.fill(table, 0, 3000);
    whole = table.sorted();
  }
  // All of it, checked from the footer down.
  static Result<std::vector<Extent>> read(const Bytes& bytes, const crypto::PublicKey& by) {
    if (bytes.size() < kTableFooterSize) return corrupt("cut short");
    const Table table{.footer = TRY(decode_table_footer(ByteSpan(bytes).last(kTableFooterSize)))};
    TRY(check_map(table.footer, by));
    if (table.footer.length != bytes.size()) return corrupt("another length");
    TableFiles files;
    files.files.push_back(bytes);
    MapSource source(table, files.cache);
    return files.all(source);
  }

  TestLine line;
  crypto::SigningKey key{crypto::Secret(32)};
  MapStatement statement;
  TableFooter footer;
  Bytes file;
  std::vector<Extent> whole;
};

TEST(MapTamper, gives_back_what_was_signed) {
  const SignedMap map(1);
  EXPECT_EQ(*SignedMap::read(map.file, map.key.public_key()), map.whole);
  EXPECT_EQ(*check_map(map.footer, map.key.public_key()), map.statement);
}

TEST(MapTamper, no_flipped_byte_and_no_cut_is_taken) {
  const SignedMap map(2);
  sim::SimRng rng(3);
  ASSERT_GT(map.footer.length, 20'000u);
  const size_t footer_at = map.file.size() - kTableFooterSize;
  for (size_t at = 0; at < map.file.size(); at += at < footer_at ? rng.between(1, 60) : 1) {
    Bytes bad = map.file;
    bad[at] ^= std::byte{1} << rng.below(8);
    EXPECT_FALSE(SignedMap::read(bad, map.key.public_key()).ok()) << at;
  }
  for (size_t size = 0; size < map.file.size(); size += rng.between(1, 500)) {
    EXPECT_FALSE(
        SignedMap::read(Bytes(map.file.begin(), map.file.begin() + static_cast<ptrdiff_t>(size)),
                        map.key.public_key())
            .ok());
  }
}

TEST(MapTamper, no_other_key_run_or_table_fits_a_signature) {
  const SignedMap map(4);
  const SignedMap other(5);
  const crypto::PublicKey& by = map.key.public_key();
  crypto::Secret seed(32);
  std::ranges::fill(seed.mutable_span(), std::byte{9});
  EXPECT_FALSE(check_map(map.footer, crypto::SigningKey(seed).public_key()).ok());
  // The signature of another line's map.
  TableFooter footer = map.footer;
  footer.attachment = other.footer.attachment;
  EXPECT_FALSE(check_map(footer, by).ok());
  // Another place in the line said of the same table.
  footer = map.footer;
  footer.attachment[24] ^= std::byte{1};
  EXPECT_FALSE(check_map(footer, by).ok());
  footer = map.footer;
  footer.entries -= 1;
  EXPECT_FALSE(check_map(footer, by).ok());
  footer.kind = TableKind::kLocator;
  EXPECT_FALSE(check_map(footer, by).ok());
  // Signed, and senseless all the same.
  MapStatement backwards = map.statement;
  backwards.begin = backwards.end;
  backwards.run = {.a = 1, .b = 2};
  footer = map.footer;
  sign_map(backwards, map.key, footer);
  EXPECT_FALSE(check_map(footer, by).ok());
}

TEST(TableFilter, holds_all_that_was_entered_and_little_else) {
  sim::SimRng rng(6);
  FilterBuilder builder;
  std::vector<TableKey> keys;
  for (int i = 0; i < 560; ++i) keys.push_back({.major = 1, .minor = rng.below(1u << 28)});
  for (const TableKey& key : keys) builder.add(key);
  const Bytes filter = builder.finish();
  EXPECT_EQ(filter.size(), 704u);
  for (const TableKey& key : keys) EXPECT_TRUE(may_hold(filter, key));
  int wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    wrong += may_hold(filter, {.major = 1, .minor = rng.below(1u << 28)}) ? 1 : 0;
  }
  EXPECT_LT(wrong, 1500);
  builder.give_up();
  EXPECT_TRUE(builder.finish().empty());
  EXPECT_TRUE(may_hold({}, {}));
}

TEST(TableCoding, takes_only_the_shortest_form) {
  Bytes bytes;
  VarWriter out(bytes);
  const std::vector<uint64_t> numbers{0, 1, 127, 128, 300, 1u << 31, UINT64_MAX - 1, UINT64_MAX};
  for (uint64_t number : numbers) out.number(number);
  for (uint64_t number : numbers) out.difference(number, 77);
  VarReader in(bytes);
  for (uint64_t number : numbers) EXPECT_EQ(in.number(), number);
  for (uint64_t number : numbers) EXPECT_EQ(in.difference(77), number);
  EXPECT_TRUE(in.at_end() && !in.failed());
  in.byte();
  EXPECT_TRUE(in.failed());
  const auto refused = [](std::initializer_list<uint8_t> raw) {
    Bytes form;
    for (uint8_t byte : raw) form.push_back(std::byte{byte});
    VarReader reader(form);
    reader.number();
    return reader.failed();
  };
  EXPECT_TRUE(refused({0x80, 0x00}));
  EXPECT_TRUE(refused({0x80}));
  EXPECT_TRUE(refused({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}));
  EXPECT_FALSE(refused({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}));
}

}  // namespace
}  // namespace hf::journal
