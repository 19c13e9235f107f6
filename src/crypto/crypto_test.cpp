#include "crypto/crypto.h"

#include <gtest/gtest.h>

#include "base/sanitizer.h"

namespace hf::crypto {
namespace {

Bytes hex(std::string_view text) { return *from_hex(text); }

template <size_t N>
std::array<std::byte, N> array_of(std::string_view text) {
  std::array<std::byte, N> out;
  Bytes raw = hex(text);
  HF_ASSERT(raw.size() == N);
  std::copy(raw.begin(), raw.end(), out.begin());
  return out;
}

TEST(Sha256, gives_the_vectors_of_fips_180) {
  constexpr auto kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(sha256(as_bytes("abc")).hex(), kAbc);
  EXPECT_EQ(sha256(as_bytes("a"), as_bytes("bc")).hex(), kAbc);
  Sha256 hash;
  hash.update(as_bytes("ab"));
  hash.update(as_bytes("c"));
  EXPECT_EQ(hash.finish().hex(), kAbc);
  hash.update(as_bytes("abc"));
  EXPECT_EQ(hash.finish().hex(), kAbc);
}

TEST(Hmac, gives_test_case_2_of_rfc_4231) {
  EXPECT_EQ(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?")).hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Hkdf, gives_test_case_1_of_rfc_5869) {
  Bytes key = hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
  Bytes salt = hex("000102030405060708090a0b0c");
  Bytes info = hex("f0f1f2f3f4f5f6f7f8f9");
  Secret out = hkdf_sha256(key, salt, as_text(info), 42);
  EXPECT_EQ(to_hex(out.span()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
TEST(Aead, gives_test_case_16_of_the_gcm_specification) {
  Aead aead(
      Secret::copy_of(hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")));
  Nonce nonce = array_of<12>("cafebabefacedbaddecaf888");
  Bytes aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  Bytes plain = hex(
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
      "b525b16aedf5aa0de657ba637b39");
  Bytes sealed(plain.size() + kTagSize);
  aead.seal(nonce, aad, plain, sealed);
  EXPECT_EQ(
      to_hex(sealed),
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056"
      "828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
  Bytes opened(plain.size());
  ASSERT_TRUE(aead.open(nonce, aad, sealed, opened).ok());
  EXPECT_EQ(opened, plain);
}

TEST(Aead, opens_nothing_that_was_altered) {
  Aead aead(Secret::copy_of(Bytes(32, std::byte{7})));
  Nonce nonce{};
  Bytes plain(100, std::byte{1});
  Bytes sealed(plain.size() + kTagSize);
  aead.seal(nonce, as_bytes("header"), plain, sealed);
  Bytes out(plain.size(), std::byte{9});
  EXPECT_EQ(aead.open(nonce, as_bytes("Header"), sealed, out).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(out, Bytes(plain.size()));
  for (size_t i = 0; i < sealed.size(); ++i) {
    sealed[i] ^= std::byte{1};
    EXPECT_FALSE(aead.open(nonce, as_bytes("header"), sealed, out).ok());
    sealed[i] ^= std::byte{1};
  }
  EXPECT_TRUE(aead.open(nonce, as_bytes("header"), sealed, out).ok());
  EXPECT_EQ(aead.open(nonce, {}, ByteSpan(sealed).first(3), {}).error().code, ErrorCode::kCorrupt);
}

TEST(Aead, seals_an_empty_payload_as_a_tag_over_its_header) {
  Aead aead(Secret::copy_of(Bytes(32, std::byte{7})));
  std::array<std::byte, kTagSize> tag;
  aead.seal(Nonce{}, as_bytes("header"), {}, tag);
  EXPECT_TRUE(aead.open(Nonce{}, as_bytes("header"), tag, {}).ok());
  EXPECT_FALSE(aead.open(Nonce{}, as_bytes("other"), tag, {}).ok());
}

TEST(Ed25519, gives_test_3_of_rfc_8032) {
  SigningKey key(
      Secret::copy_of(hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")));
  EXPECT_EQ(to_hex(key.public_key()),
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
  Bytes message = hex("af82");
  Signature signature = key.sign(message);
  EXPECT_EQ(
      to_hex(signature),
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760"
      "984dc6594a7c15e9716ed28dc027beceea1ec40a");
  EXPECT_TRUE(verify(key.public_key(), message, signature));
  message[0] ^= std::byte{1};
  EXPECT_FALSE(verify(key.public_key(), message, signature));
}

TEST(Secret, is_locked_and_kept_out_of_core_dumps) {
  if (under_sanitizer()) GTEST_SKIP() << "a sanitizer's runtime leaves mlock() out";
  Secret secret = Secret::copy_of(as_bytes("0123456789abcdef"));
  std::FILE* smaps = std::fopen("/proc/self/smaps", "r");
  ASSERT_NE(smaps, nullptr);
  char line[512];
  bool inside = false, locked = false, no_dump = false;
  const auto address = reinterpret_cast<uintptr_t>(secret.span().data());
  while (std::fgets(line, sizeof line, smaps) != nullptr) {
    unsigned long from = 0, to = 0;
    if (std::sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = from <= address && address < to;
    if (inside && std::strncmp(line, "VmFlags:", 8) == 0) {
      locked = std::strstr(line, " lo") != nullptr;
      no_dump = std::strstr(line, " dd") != nullptr;
    }
  }
  std::fclose(smaps);
  EXPECT_TRUE(locked);
  EXPECT_TRUE(no_dump);
}

}  // namespace
}  // namespace hf::crypto
