#include "guest_state/vmgs_image.h"

#include <gtest/gtest.h>

#include <random>

namespace hf::guest_state {
namespace {

// The stream of docs/formats/vmgs.md's image vector: SHA-256("vector-1" ‖ LE32(i)), whole digests a
// draw.
class VectorRng final : public Rng {
 public:
  void fill(MutableByteSpan out) override {
    size_t done = 0;
    while (done < out.size()) {
      std::array<std::byte, 4> counter;
      store_le<uint32_t>(counter.data(), next_++);
      Digest block = crypto::sha256(as_bytes("vector-1"), counter);
      const size_t take = std::min(out.size() - done, block.bytes.size());
      std::copy_n(block.bytes.begin(), take, out.begin() + static_cast<std::ptrdiff_t>(done));
      done += take;
    }
  }

 private:
  uint32_t next_ = 0;
};

crypto::Secret counting_key(uint8_t from = 0) {
  crypto::Secret key(32);
  for (size_t i = 0; i < 32; ++i) key.mutable_span()[i] = static_cast<std::byte>(from + i);
  return key;
}

Bytes text(std::string_view value) {
  ByteSpan raw = as_bytes(value);
  return {raw.begin(), raw.end()};
}

struct Store {
  VectorRng rng;
  VmgsImage image = VmgsImage::format(65536, rng);
  Store() {
    HF_ASSERT(image.set_key(counting_key()).ok());
    HF_ASSERT(image.write({{3, {text("TPM-NVRAM-TEST-BLOB")}}}).ok());
    HF_ASSERT(image.write({{6, {Bytes(2060, std::byte{0x5a}), VmgsProtection::kPlaintext}}}).ok());
  }
  Bytes raw() const { return {image.bytes().begin(), image.bytes().end()}; }
};

TEST(Vmgs, formats_to_the_known_image) {
  VectorRng rng;
  VmgsImage image = VmgsImage::format(65536, rng);
  EXPECT_EQ(to_hex(image.bytes().first(16)),
            "475545535452545300000300"
            "28ed2e6d");
  EXPECT_EQ(crypto::sha256(image.bytes()).hex(),
            "4bda08a9836223108cf92696d5d8e6482abaaf703c891386013f6800ef965d7f");
}

TEST(Vmgs, writes_encrypted_files_to_the_known_image) {
  Store store;
  EXPECT_EQ(crypto::sha256(store.image.bytes()).hex(),
            "f5c89f5e55a349bc9d40e0dd4cd00a64194ad6e477d1e6f2d232c8a72c7d9815");
}

TEST(Vmgs, places_plaintext_files_as_openvmm_does) {
  VectorRng rng;
  VmgsImage image = VmgsImage::format(uint64_t{4} << 20, rng);
  auto write = [&](uint32_t id) {
    ASSERT_TRUE(image.write({{id, {text("hello world"), VmgsProtection::kPlaintext}}}).ok());
  };
  write(1);
  EXPECT_EQ(image.header().sequence, 2U);
  EXPECT_EQ(image.files()[0].block, 4U);
  EXPECT_EQ(image.files()[1].block, 5U);
  write(2);
  EXPECT_EQ(image.files()[0].block, 2U);
  EXPECT_EQ(image.files()[2].block, 6U);
  write(1);
  EXPECT_EQ(image.files()[0].block, 4U);
  EXPECT_EQ(image.files()[1].block, 7U);
}

TEST(Vmgs, reads_back_with_the_key_and_only_with_it) {
  Store store;
  crypto::Secret key = counting_key(), other = counting_key(9);
  auto unlocked = VmgsImage::open(store.raw(), &key, store.rng);
  ASSERT_TRUE(unlocked.ok());
  EXPECT_EQ(*unlocked->read(3), text("TPM-NVRAM-TEST-BLOB"));
  EXPECT_FALSE(unlocked->has_zero_metadata_key());
  auto locked = VmgsImage::open(store.raw(), nullptr, store.rng);
  ASSERT_TRUE(locked.ok());
  EXPECT_TRUE(locked->locked());
  EXPECT_EQ(locked->read(3).error().code, ErrorCode::kConflict);
  EXPECT_EQ(locked->read(6)->size(), 2060U);
  EXPECT_EQ(VmgsImage::open(store.raw(), &other, store.rng).error().code, ErrorCode::kWrongKey);
}

TEST(Vmgs, reads_a_fixed_vhd) {
  Store store;
  Bytes raw = store.raw();
  Bytes footer = fixed_vhd_footer(raw.size(), Bytes(16));
  raw.insert(raw.end(), footer.begin(), footer.end());
  crypto::Secret key = counting_key();
  EXPECT_TRUE(VmgsImage::open(raw, &key, store.rng)->read(3).ok());
}

TEST(Vmgs, never_downgrades_to_plaintext) {
  Store store;
  auto locked = VmgsImage::open(store.raw(), nullptr, store.rng);
  EXPECT_FALSE(locked->write({{7, {text("secret")}}}).ok());
  EXPECT_FALSE(store.image.write({{3, {text("x"), VmgsProtection::kPlaintext}}}).ok());
  VmgsImage plain = VmgsImage::format(65536, store.rng);
  EXPECT_FALSE(plain.write({{7, {text("secret")}}}).ok());
  EXPECT_FALSE(store.image.write({{63, {text("x")}}}).ok());
  EXPECT_FALSE(store.image.write({{8, {Bytes{}}}}).ok());
}

TEST(Vmgs, a_replaced_key_opens_neither_header) {
  Store store;
  ASSERT_TRUE(store.image.replace_key(counting_key(40)).ok());
  crypto::Secret old_key = counting_key(), new_key = counting_key(40);
  EXPECT_EQ(*VmgsImage::open(store.raw(), &new_key, store.rng)->read(3),
            text("TPM-NVRAM-TEST-BLOB"));
  for (size_t header = 0; header < 2; ++header) {
    Bytes raw = store.raw();
    std::fill_n(raw.begin() + static_cast<std::ptrdiff_t>(header * kVmgsSector), 16, std::byte{0});
    auto opened = VmgsImage::open(raw, &old_key, store.rng);
    EXPECT_TRUE(!opened.ok() || !opened->read(3).ok());
  }
}

TEST(Vmgs, erases_the_bytes_of_an_erased_file) {
  Store store;
  ASSERT_TRUE(store.image.erase(6).ok());
  EXPECT_EQ(store.image.read(6).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(as_text(store.image.bytes()).find(std::string(64, 'Z')), std::string_view::npos);
  EXPECT_TRUE(store.image.read(3).ok());
}

TEST(Vmgs, tells_full_from_broken) {
  VectorRng rng;
  VmgsImage image = VmgsImage::format(65536, rng);
  EXPECT_EQ(image.write({{1, {Bytes(60000), VmgsProtection::kPlaintext}}}).error().code,
            ErrorCode::kNoSpace);
  EXPECT_TRUE(image.write({{1, {Bytes(20000), VmgsProtection::kPlaintext}}}).ok());
  EXPECT_EQ(VmgsImage::open(Bytes(65536), nullptr, rng).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(VmgsImage::open(Bytes(100), nullptr, rng).error().code, ErrorCode::kCorrupt);
}

TEST(Vmgs, chooses_the_newer_header_across_the_wrap) {
  auto header = [](uint32_t sequence) {
    return std::optional<VmgsHeader>(VmgsHeader{.sequence = sequence, .file_table_block = 2});
  };
  EXPECT_EQ(*choose_vmgs_header(header(0xFFFFFFFF), header(0)), 1);
  EXPECT_EQ(*choose_vmgs_header(header(4), header(3)), 0);
  EXPECT_FALSE(choose_vmgs_header(header(1), header(3)).ok());
  EXPECT_FALSE(choose_vmgs_header(header(5), header(5)).ok());
  EXPECT_EQ(*choose_vmgs_header(std::nullopt, header(5)), 1);
}

TEST(Vmgs, never_serves_an_altered_encrypted_file) {
  Store store;
  crypto::Secret key = counting_key();
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    Bytes raw = store.raw();
    raw[random() % raw.size()] ^= static_cast<std::byte>(1 + random() % 255);
    auto opened = VmgsImage::open(raw, &key, store.rng);
    if (!opened.ok()) continue;
    auto data = opened->read(3);
    if (data.ok()) EXPECT_EQ(*data, text("TPM-NVRAM-TEST-BLOB"));
  }
}

}  // namespace
}  // namespace hf::guest_state
