#include "secure_boot/keys/variable_store.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/testing/test_files.h"

namespace hf::secure_boot {
namespace {

using namespace store_format;

VariableStore store_of(const char* path) {
  auto store = VariableStore::parse(read_test_file(path));
  HF_ASSERT(store.ok());
  return std::move(*store);
}

Variable variable(std::string_view name, size_t size, uint8_t fill = 0x5a) {
  return {.vendor = guids::kHoldfast,
          .name = utf16(name),
          .attributes = attribute::kBootOnly,
          .data = Bytes(size, static_cast<std::byte>(fill))};
}

std::string refusal(const Bytes& image) {
  auto store = VariableStore::parse(image);
  return store.ok() ? "taken" : store.error().cause;
}

TEST(VariableStore, reads_debians_templates) {
  const VariableStore store = store_of(kMicrosoftStore);
  EXPECT_EQ(store.bytes_used(), 0x5998U - 0x64U);
  EXPECT_FALSE(store.recovered());
  const Variable* db = store.find(guids::kImageSecurity, "db");
  ASSERT_NE(db, nullptr);
  EXPECT_EQ(db->attributes, attribute::kSecureBoot);
  EXPECT_EQ(db->data.size(), 3143U);
  EXPECT_EQ(db->time.text(), "2025-03-10T02:53:39Z");
  EXPECT_EQ(db->name_text(), "db");
  EXPECT_EQ(store.find(guids::kGlobalVariable, "db"), nullptr);
  // Replaced several times in the image: only the last counts.
  EXPECT_EQ(store.find(guids::kGlobalVariable, "ConOut")->data.size(), 146U);
  EXPECT_EQ(store.find(guids::kGlobalVariable, "BootOrder"), nullptr);
  EXPECT_TRUE(secure_boot_variables(store).enabled);
  EXPECT_FALSE(secure_boot_variables(store_of(kEmptyStore)).enabled);
  EXPECT_TRUE(store_of(kEmptyStore).variables().empty());
  EXPECT_EQ(store_of(kSmallStore).image().size(), 131072U);
}

TEST(VariableStore, writes_as_the_firmware_does) {
  VariableStore store = store_of(kMicrosoftStore);
  const Bytes before(store.image().begin(), store.image().end());
  const size_t end = kFirstRecordAt + store.bytes_used();
  ASSERT_TRUE(store.set(variable("Test", 3)).ok());
  EXPECT_EQ(to_hex(store.image().subspan(end, 76)),
            "aa553f0003000000"
            "0000000000000000"
            "00000000000000000000000000000000"
            "00000000"
            "0a00000003000000"
            "6e9a1f5b0d3c7e4b9d558a1c70f0e4d2"
            "54006500730074000000"
            "5a5a5aff"
            "ffff");
  EXPECT_EQ(store.image().size(), before.size());
  EXPECT_TRUE(std::ranges::equal(store.image().first(end), ByteSpan(before).first(end)));
}

TEST(VariableStore, replaces_by_marking_the_old_one) {
  VariableStore store = store_of(kEmptyStore);
  ASSERT_TRUE(store.set(variable("A", 10, 1)).ok());
  ASSERT_TRUE(store.set(variable("B", 10, 2)).ok());
  ASSERT_TRUE(store.set(variable("A", 20, 3)).ok());
  EXPECT_EQ(store.variables().size(), 2U);
  EXPECT_EQ(store.image()[kFirstRecordAt + kStateAt], std::byte{0x3d});
  EXPECT_EQ(store.find(guids::kHoldfast, "A")->data, Bytes(20, std::byte{3}));
  EXPECT_TRUE(store.remove(guids::kHoldfast, "A"));
  EXPECT_FALSE(store.remove(guids::kHoldfast, "A"));
  EXPECT_EQ(store.find(guids::kHoldfast, "A"), nullptr);
  ASSERT_NE(store.find(guids::kHoldfast, "B"), nullptr);
  auto again = VariableStore::parse(store.image());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->variables().size(), 1U);
}

TEST(VariableStore, compacts_when_full_and_keeps_all_others) {
  VariableStore store = store_of(kMicrosoftStore);
  const std::vector<Variable> before = store.variables();
  size_t used_max = 0;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(store.set(variable("Filler", 0x2000, static_cast<uint8_t>(i))).ok()) << i;
    used_max = std::max(used_max, store.bytes_used());
  }
  EXPECT_LT(store.bytes_used(), used_max) << "it was compacted at least once";
  EXPECT_EQ(store.find(guids::kHoldfast, "Filler")->data[0], std::byte{199});
  ASSERT_TRUE(store.remove(guids::kHoldfast, "Filler"));
  ASSERT_EQ(store.variables().size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(store.variables()[i].name, before[i].name);
    EXPECT_EQ(store.variables()[i].data, before[i].data);
    EXPECT_EQ(store.variables()[i].time, before[i].time);
    EXPECT_EQ(store.variables()[i].attributes, before[i].attributes);
  }
}

TEST(VariableStore, stays_as_it_was_when_nothing_more_fits) {
  VariableStore store = store_of(kMicrosoftStore);
  int held = 0;
  Status last;
  while ((last = store.set(variable("V" + std::to_string(held), 0x3000))).ok()) ++held;
  EXPECT_EQ(last.error().code, ErrorCode::kNoSpace);
  EXPECT_GT(held, 15);
  const Bytes before(store.image().begin(), store.image().end());
  EXPECT_FALSE(store.set(variable("V0", 0x8000)).ok());
  EXPECT_TRUE(std::ranges::equal(before, store.image()));
  EXPECT_EQ(store.find(guids::kHoldfast, "V0")->data.size(), 0x3000U);
}

TEST(VariableStore, refuses_what_firmware_would) {
  VariableStore store = store_of(kEmptyStore);
  EXPECT_EQ(store.set(variable("Large", 0x8400)).error().code, ErrorCode::kLimit);
  EXPECT_TRUE(store.set(variable("Large", 0x8400 - 60 - 12)).ok());
  EXPECT_FALSE(store.set(variable("", 1)).ok());
  EXPECT_FALSE(store.set(variable("Empty", 0)).ok());
  Variable appended = variable("Appended", 1);
  appended.attributes |= attribute::kAppend;
  EXPECT_FALSE(store.set(appended).ok());
  Variable loose = variable("Volatile", 1);
  loose.attributes = attribute::kBootService;
  EXPECT_FALSE(store.set(loose).ok());
  VariableStore small = store_of(kSmallStore);
  EXPECT_EQ(small.set(variable("Large", 0x2100)).error().code, ErrorCode::kLimit);
  Variable authenticated = variable("Large", 0x2100);
  authenticated.attributes = attribute::kSecureBoot;
  EXPECT_TRUE(small.set(authenticated).ok());
}

TEST(VariableStore, takes_the_new_one_of_an_interrupted_update) {
  VariableStore store = store_of(kEmptyStore);
  ASSERT_TRUE(store.set(variable("A", 10, 1)).ok());
  const size_t second = kFirstRecordAt + store.bytes_used();
  ASSERT_TRUE(store.set(variable("A", 10, 2)).ok());
  Bytes image(store.image().begin(), store.image().end());
  image[kFirstRecordAt + kStateAt] = kInTransition;
  EXPECT_EQ(VariableStore::parse(image)->find(guids::kHoldfast, "A")->data[0], std::byte{2});
  // Without a successor the one in transition still counts.
  image[second + kStateAt] = std::byte{0x7f};
  auto store_before = VariableStore::parse(image);
  ASSERT_TRUE(store_before.ok());
  EXPECT_EQ(store_before->find(guids::kHoldfast, "A")->data[0], std::byte{1});
  // And an edit settles it.
  ASSERT_TRUE(store_before->set(variable("A", 4, 3)).ok());
  EXPECT_EQ(store_before->find(guids::kHoldfast, "A")->data[0], std::byte{3});
  EXPECT_EQ(VariableStore::parse(store_before->image())->variables().size(), 1U);
}

TEST(VariableStore, goes_on_behind_a_header_that_was_begun) {
  VariableStore store = store_of(kEmptyStore);
  ASSERT_TRUE(store.set(variable("A", 10, 1)).ok());
  Bytes image(store.image().begin(), store.image().end());
  const size_t at = kFirstRecordAt + store.bytes_used();
  store_le<uint16_t>(&image[at], kRecordStart);
  auto begun = VariableStore::parse(image);
  ASSERT_TRUE(begun.ok());
  ASSERT_TRUE(begun->set(variable("B", 10, 2)).ok());
  EXPECT_EQ(begun->variables().size(), 2U);
  EXPECT_EQ(load_le<uint16_t>(&begun->image()[at + kRecordHeaderSize]), kRecordStart);
}

// What the firmware leaves when it is cut off in the middle of a reclaim.
struct InterruptedReclaim {
  Bytes image;
  Bytes reclaimed;  // the region as it shall be
  InterruptedReclaim() : image(read_test_file(kMicrosoftStore)) {
    VariableStore store = VariableStore::parse(image).value();
    store.compact();
    reclaimed.assign(store.image().begin(), store.image().begin() + 0x40000);
    std::ranges::copy(reclaimed, image.begin() + 0x42000);
    std::fill(image.begin(), image.begin() + 0x8000, kErased);  // the target's erase got this far
    const size_t write = 0x41000 + 32, record = write + 40;
    image[write] = std::byte{0xfc};
    store_le<uint64_t>(&image[write + 24], 1);
    store_le<uint64_t>(&image[write + 32], 0);
    image[record] = std::byte{0xfd};
    store_le<uint64_t>(&image[record + 8], 0);
    store_le<uint64_t>(&image[record + 16], 0x48);
    store_le<uint64_t>(&image[record + 24], 0x3ffb8);
    store_le<uint64_t>(&image[record + 32], static_cast<uint64_t>(-int64_t{0x42000}));
  }
  static constexpr size_t kRecordAt = 0x41000 + 32 + 40;
};

TEST(VariableStoreReclaim, is_brought_to_its_end) {
  const InterruptedReclaim cut;
  auto store = VariableStore::parse(cut.image);
  ASSERT_TRUE(store.ok()) << store.error().cause;
  EXPECT_TRUE(store->recovered());
  EXPECT_TRUE(std::ranges::equal(store->image().first(0x40000), cut.reclaimed));
  EXPECT_NE(store->find(guids::kGlobalVariable, "PK"), nullptr);
  auto again = VariableStore::parse(store->image());
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->recovered()) << "the queue is empty now";
}

TEST(VariableStoreReclaim, counts_for_nothing_before_its_copy_is_complete) {
  InterruptedReclaim cut;
  const Bytes whole = read_test_file(kMicrosoftStore);
  std::copy_n(whole.begin(), 0x40000, cut.image.begin());
  cut.image[InterruptedReclaim::kRecordAt] = kErased;
  auto store = VariableStore::parse(cut.image);
  ASSERT_TRUE(store.ok());
  EXPECT_FALSE(store->recovered());
  // The same when it is done, and only the write as a whole is not marked so.
  cut.image[InterruptedReclaim::kRecordAt] = std::byte{0xf9};
  EXPECT_FALSE(VariableStore::parse(cut.image).value().recovered());
}

TEST(VariableStoreReclaim, is_refused_if_it_goes_anywhere_else) {
  const auto refused = [](size_t field, uint64_t value) {
    InterruptedReclaim cut;
    store_le<uint64_t>(&cut.image[InterruptedReclaim::kRecordAt + field], value);
    return refusal(cut.image);
  };
  const std::string elsewhere =
      "variable store, byte 0x41048: a pending write that is not to the variables";
  EXPECT_EQ(refused(8, 1), elsewhere);
  EXPECT_EQ(refused(8, ~uint64_t{0}), elsewhere);
  EXPECT_EQ(refused(16, 0x1048), elsewhere);
  EXPECT_EQ(refused(16, ~uint64_t{0}), elsewhere);
  EXPECT_EQ(refused(24, 0x40000), elsewhere);
  EXPECT_EQ(refused(24, 0), elsewhere);
  EXPECT_EQ(refused(32, 0), elsewhere);
  InterruptedReclaim cut;
  store_le<uint64_t>(&cut.image[0x41020 + 24], 102);
  EXPECT_EQ(refusal(cut.image),
            "variable store, byte 0x41020: a write in the queue is longer than the queue");
}

TEST(VariableStoreReclaim, repairs_a_queue_that_was_being_rewritten) {
  Bytes image = read_test_file(kMicrosoftStore);
  std::fill(image.begin() + 0x41000, image.begin() + 0x42000, kErased);
  auto store = VariableStore::parse(image);
  ASSERT_TRUE(store.ok());
  EXPECT_TRUE(store->recovered());
  EXPECT_TRUE(std::ranges::equal(store->image(), read_test_file(kMicrosoftStore)));
}

TEST(VariableStore, says_why_it_refuses_an_image) {
  const Bytes good = read_test_file(kMicrosoftStore);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes bad = good;
    bad[at] = static_cast<std::byte>(value);
    return refusal(bad);
  };
  EXPECT_EQ(refusal(Bytes(1000)),
            "an image of 1000 bytes is no OVMF variable store (540672 or 131072 bytes)");
  EXPECT_EQ(refusal(Bytes(540672)),
            "no UEFI variable store: it does not begin with the header of one");
  EXPECT_EQ(with(34, 9), "variable store, byte 0x20: the volume's length is not the image's");
  EXPECT_EQ(with(50, 9), "variable store, byte 0x32: the volume header's checksum is wrong");
  EXPECT_EQ(with(0x48, 9), "variable store, byte 0x48: the store header's GUID is unknown");
  EXPECT_EQ(with(0x48 + 16, 9),
            "variable store, byte 0x58: the store's size does not fit its flash image");
  EXPECT_EQ(with(0x48 + 21, 0),
            "variable store, byte 0x5c: the store is not formatted or not healthy");
  EXPECT_EQ(with(0xb8 + 39, 0x7f),
            "variable store, byte 0xb8: a record of 2130706446 + 4 bytes reaches beyond the store");
  EXPECT_EQ(with(0xb8 + 36, 0x03), "variable store, byte 0xb8: a variable with a name of 3 bytes");
}

TEST(VariableStore, survives_mutations) {
  const Bytes good = read_test_file(kMicrosoftStore);
  const InterruptedReclaim cut;
  std::mt19937 random(7);
  size_t taken = 0;
  for (int round = 0; round < 12'000; ++round) {
    Bytes image = round % 8 == 0 ? cut.image : good;
    for (size_t changes = 1 + random() % 4; changes > 0; --changes) {
      const size_t at = round % 3 == 0 ? 0x41000 + random() % 0x80 : random() % 0x6000;
      image[at] = static_cast<std::byte>(random() % 4 == 0 ? 0xff : random());
    }
    auto store = VariableStore::parse(image);
    if (!store.ok()) continue;
    ++taken;
    (void)secure_boot_variables(*store);
    const size_t count = store->variables().size();
    if (round % 16 != 0) continue;
    // An edit of whatever was taken gives something that is taken again, with all it held.
    ASSERT_TRUE(store->set(variable("Probe", 100)).ok());
    ASSERT_EQ(VariableStore::parse(store->image())->variables().size(), count + 1);
    store->compact();
    ASSERT_EQ(VariableStore::parse(store->image())->variables().size(), count + 1);
    ASSERT_EQ(store->image().size(), image.size());
  }
  EXPECT_GT(taken, 3'000U);
}

TEST(SecureBootVariables, shims_count_only_with_the_attributes_that_it_keeps) {
  struct Case {
    const char* name;
    uint32_t attributes;
    bool counts;
  };
  constexpr uint32_t kBoot = attribute::kBootOnly;
  for (const Case& c :
       {Case{"MokList", kBoot, true}, Case{"MokList", kBoot | attribute::kRuntime, false},
        Case{"MokList", attribute::kSecureBoot, false},
        Case{"MokListX", kBoot | attribute::kRuntime, false}, Case{"MokSBState", kBoot, true},
        Case{"MokSBState", kBoot | attribute::kRuntime, false}, Case{"MokDBState", kBoot, true},
        Case{"MokDBState", kBoot | attribute::kRuntime, false}, Case{"SbatLevel", kBoot, true},
        Case{"SbatLevel", kBoot | attribute::kTimeAuthenticated, true},
        Case{"SbatLevel", kBoot | attribute::kRuntime, false}}) {
    VariableStore store = VariableStore::parse(read_test_file(kMicrosoftStore)).value();
    ASSERT_TRUE(store
                    .set({.vendor = guids::kShimLock,
                          .name = utf16(c.name),
                          .attributes = c.attributes,
                          .data = Bytes(1, std::byte{1})})
                    .ok());
    const SecureBootVariables found = secure_boot_variables(store);
    const bool counted = found.mok || found.mokx || found.sbat_level || found.mok_ignores_db ||
                         !found.shim_validation;
    EXPECT_EQ(counted, c.counts) << c.name << " " << c.attributes;
    EXPECT_EQ(found.ignored,
              c.counts ? std::vector<std::string>() : std::vector<std::string>{c.name});
  }
}

}  // namespace
}  // namespace hf::secure_boot
