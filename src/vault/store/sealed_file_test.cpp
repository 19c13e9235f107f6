#include "vault/store/sealed_file.h"

#include "base/crc32c.h"
#include "vault/core/testing.h"

namespace hf::vault {
namespace {

#include "vault/store/sealed_file_vector.inc"

Bytes hex(std::string_view text) { return *from_hex(text); }

// Gives the bytes it was made with: the vector's salt.
class FixedRng final : public Rng {
 public:
  explicit FixedRng(ByteSpan bytes) : bytes_(bytes) {}
  void fill(MutableByteSpan out) override {
    HF_ASSERT(out.size() == bytes_.size());
    std::copy(bytes_.begin(), bytes_.end(), out.begin());
  }

 private:
  ByteSpan bytes_;
};

TEST(SealedFile, is_byte_for_byte_the_vector_made_by_another_hand) {
  const Bytes vector = hex(kFile);
  const crypto::Secret kek = crypto::Secret::copy_of(hex(kKek));
  FixedRng rng(ByteSpan(vector).subspan(16, 32));
  EXPECT_EQ(to_hex(seal_file(FileKind::kKey, kek, hex(kClear), hex(kPlaintext), rng)), kFile);
  const ParsedFile file = *parse_file(FileKind::kKey, vector, "vector");
  EXPECT_EQ(to_hex(file.clear), kClear);
  EXPECT_EQ(to_hex(open_file(file, kek, "vector")->span()), kPlaintext);
}

TEST(SealedFile, is_refused_under_another_key_or_as_another_kind) {
  const Bytes vector = hex(kFile);
  const crypto::Secret other(32);
  const ParsedFile file = *parse_file(FileKind::kKey, vector, "vector");
  EXPECT_EQ(open_file(file, other, "vector").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(parse_file(FileKind::kFreshness, vector, "vector").error().code, ErrorCode::kCorrupt);
}

TEST(SealedFile, with_its_checksum_made_good_is_still_refused_if_altered) {
  const crypto::Secret kek = crypto::Secret::copy_of(hex(kKek));
  const Bytes vector = hex(kFile);
  for (size_t at = 16; at + 4 < vector.size(); ++at) {
    Bytes altered = vector;
    altered[at] ^= std::byte{1};
    store_le<uint32_t>(altered.data() + altered.size() - 4,
                       crc32c(ByteSpan(altered).first(altered.size() - 4)));
    const ParsedFile file = *parse_file(FileKind::kKey, altered, "altered");
    EXPECT_FALSE(open_file(file, kek, "altered").ok()) << at;
  }
}

TEST(SealedFile, of_a_later_version_is_named_so) {
  Bytes later = hex(kFile);
  later[4] = std::byte{2};
  store_le<uint32_t>(later.data() + later.size() - 4,
                     crc32c(ByteSpan(later).first(later.size() - 4)));
  EXPECT_EQ(parse_file(FileKind::kKey, later, "later").error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace hf::vault
