#include "keeper/guest_state/item_formats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "crypto/crypto.h"
#include "guest_state/vmgs_image.h"
#include "keeper/guest_state/guest_state_io.h"
#include "keeper/guest_state/items.h"
#include "keeper/worker.h"

namespace hf::keeper {
namespace {

SavedStore saved(std::string name, uint32_t slot) {
  return {.name = std::move(name),
          .slot = slot,
          .size = 0x84000,
          .time = Micros(1'760'000'000'000'000),
          .digest = crypto::sha256(as_bytes("image"))};
}

TEST(AttestationItem, comes_back_and_is_laid_out_as_documented) {
  const Bytes data(100, std::byte{7});
  const Bytes record = encode_attestation(data);
  EXPECT_EQ(to_hex(ByteSpan(record).first(16)),
            "48464152"
            "01000000"
            "6400000000000000");
  EXPECT_EQ(*attestation_data_size(ByteSpan(record).first(kAttestationHeaderSize)), 100u);
  EXPECT_EQ(*decode_attestation(record), data);
  EXPECT_TRUE(decode_attestation(encode_attestation({}))->empty());
  EXPECT_EQ(encode_attestation(Bytes(kAttestationDataMax)).size(), size_t{1} << 20);
}

TEST(AttestationItem, is_none_where_nothing_was_written_and_refused_when_damaged) {
  EXPECT_EQ(*attestation_data_size(Bytes(kAttestationHeaderSize)), std::nullopt);
  const Bytes record = encode_attestation(as_bytes("policy"));
  for (size_t at = 0; at < record.size(); ++at) {
    Bytes bad = record;
    bad[at] ^= std::byte{0x40};
    EXPECT_FALSE(decode_attestation(bad).ok()) << at;
  }
  Bytes newer = record;
  newer[4] = std::byte{2};
  EXPECT_EQ(decode_attestation(newer).error().code, ErrorCode::kUnsupported);
}

TEST(SavedStores, come_back_and_are_refused_when_impossible) {
  EXPECT_TRUE(decode_saved_stores(Bytes(kSavedDirectorySize))->empty());
  std::vector<SavedStore> stores = {saved("before", 0), saved(std::string(64, 'x'), 8)};
  const Bytes directory = encode_saved_stores(stores);
  EXPECT_EQ(*decode_saved_stores(directory), stores);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes bad = directory;
    bad[at] = static_cast<std::byte>(value);
    return decode_saved_stores(bad).error().code;
  };
  EXPECT_EQ(with(0, 'X'), ErrorCode::kCorrupt);
  EXPECT_EQ(with(4, 2), ErrorCode::kUnsupported);
  EXPECT_EQ(with(8, 9), ErrorCode::kCorrupt);            // more than there can be
  EXPECT_EQ(with(16, '/'), ErrorCode::kCorrupt);         // a name that is none
  EXPECT_EQ(with(16 + 64, 9), ErrorCode::kCorrupt);      // a slot that is none
  EXPECT_EQ(with(16 + 72 + 3, 1), ErrorCode::kCorrupt);  // a size that is none
}

TEST(SavedStores, have_a_free_slot_however_many_there_are) {
  std::vector<SavedStore> stores;
  for (uint32_t i = 0; i < kSavedStoresMax; ++i) {
    EXPECT_EQ(free_slot(stores), i);
    stores.push_back(saved("s" + std::to_string(i), i));
  }
  EXPECT_EQ(free_slot(stores), kSavedStoresMax);
  stores.erase(stores.begin() + 3);
  EXPECT_EQ(free_slot(stores), 3u);
}

TEST(SavedStores, have_plain_names) {
  for (const std::string_view good : {"a", "before-rollover_2026.11", "A9"}) {
    EXPECT_TRUE(is_saved_store_name(good)) << good;
  }
  for (const std::string& bad : {std::string(), std::string("a/b"), std::string("a b"),
                                 std::string("\xc3\xa4"), std::string(65, 'a')}) {
    EXPECT_FALSE(is_saved_store_name(bad)) << bad;
  }
}

TEST(Projection, carries_the_attestation_record) {
  crypto::SystemRng rng;
  crypto::Secret key(crypto::kKeySize);
  rng.fill(key.mutable_span());
  const std::string path = ::testing::TempDir() + "/hf-projection.vmgs";
  GuestState state;
  state.uefi_store = Bytes(0x84000, std::byte{0xFF});
  state.attestation = Bytes(kAttestationDataMax, std::byte{0x5A});
  ASSERT_TRUE(write_projection(path, VmId{}, key, state, Epoch(1), {}).ok());
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const ByteSpan raw = as_bytes(text);
  const auto image = guest_state::VmgsImage::open(Bytes(raw.begin(), raw.end()), &key, rng).value();
  EXPECT_EQ(*image.read(guest_state::vmgs_id::kHoldfastAttestation), *state.attestation);
  EXPECT_EQ(text.find("ZZZZZZZZ"), std::string::npos);  // encrypted
}

TEST(Worker, does_one_thing_after_the_other_and_drops_what_comes_too_late) {
  Worker worker;
  worker.start();
  std::vector<int> done;
  std::mutex mutex;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(worker.post([&, i] {
      std::lock_guard lock(mutex);
      done.push_back(i);
    }));
  }
  while (true) {
    std::lock_guard lock(mutex);
    if (done.size() == 100) break;
  }
  worker.stop();
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_FALSE(worker.post([&] { done.push_back(-1); }));
  EXPECT_EQ(done.size(), 100u);
}

}  // namespace
}  // namespace hf::keeper
