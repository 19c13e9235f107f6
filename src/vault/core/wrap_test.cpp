#include "vault/core/wrap.h"

#include "vault/core/certificate.h"
#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

#include "vault/core/wrap_vector.inc"

Bytes hex(std::string_view text) { return *from_hex(text); }

TEST(WrapVector, made_by_another_hand_opens) {
  const Bytes blob = hex(kBlob);
  const ParsedWrap wrap = *parse_wrap(blob);
  EXPECT_EQ(wrap.facts.vm, vm_of(0xa1));
  EXPECT_EQ(wrap.facts.key_id.hex(), kKeyId);
  EXPECT_EQ(wrap.facts.version, KeyVersion(3));
  EXPECT_EQ(wrap.facts.from.bytes[0], std::byte{0xb2});
  EXPECT_EQ(wrap.facts.recipient.bytes[0], std::byte{0xc3});
  EXPECT_EQ(wrap.facts.time, Micros(1'760'000'000'000'000));
  crypto::PublicKey signer;
  const Bytes raw = hex(kSigner);
  std::copy(raw.begin(), raw.end(), signer.begin());
  EXPECT_TRUE(wrap_signed_by(wrap, signer));
  const crypto::KeyPair recipient = *crypto::KeyPair::from_pkcs8(hex(kPkcs8));
  EXPECT_EQ(wrap.facts.recipient_key, recipient.public_key().fingerprint());
  EXPECT_EQ(to_hex(open_wrap(wrap, recipient)->span()), kKey);
}

class Wrap : public ::testing::Test {
 protected:
  Wrap() : signer_(crypto::Secret::copy_of(Bytes(32, std::byte{3}))) {
    key_.mutable_span()[0] = std::byte{1};
    facts_ = {.vm = vm_of(1),
              .key_id = key_id_of(key_),
              .version = KeyVersion(1),
              .from = {},
              .recipient = {},
              .recipient_key = {},
              .time = Micros(5)};
    recipient_ = std::make_unique<crypto::KeyPair>(
        std::move(crypto::KeyPair::from_pkcs8(hex(kPkcs8))).value());
    blob_ = std::move(seal_wrap(facts_, key_, recipient_->public_key(), signer_)).value();
  }
  crypto::Secret key_{32};
  WrapFacts facts_;
  crypto::SigningKey signer_;
  std::unique_ptr<crypto::KeyPair> recipient_;
  Bytes blob_;
};

TEST_F(Wrap, comes_back) {
  const ParsedWrap wrap = *parse_wrap(blob_);
  EXPECT_TRUE(wrap_signed_by(wrap, signer_.public_key()));
  EXPECT_EQ(to_hex(open_wrap(wrap, *recipient_)->span()), to_hex(key_.span()));
}

TEST_F(Wrap, altered_anywhere_is_not_signed_and_does_not_open) {
  for (size_t at = 0; at < blob_.size(); at += 3) {
    Bytes altered = blob_;
    altered[at] ^= std::byte{2};
    const auto wrap = parse_wrap(altered);
    if (!wrap.ok()) continue;
    EXPECT_FALSE(wrap_signed_by(*wrap, signer_.public_key())) << at;
    // Even if a signer were wrong: the label ties the ciphertext to its header.
    const bool in_signature = at >= blob_.size() - crypto::kSignatureSize;
    if (at % 30 == 0 && !in_signature) {
      EXPECT_FALSE(open_wrap(*wrap, *recipient_).ok()) << at;
    }
  }
}

TEST_F(Wrap, cut_off_or_longer_is_refused) {
  for (size_t size = 0; size < blob_.size(); size += 17) {
    EXPECT_FALSE(parse_wrap(ByteSpan(blob_).first(size)).ok()) << size;
  }
  blob_.push_back(std::byte{0});
  EXPECT_EQ(parse_wrap(blob_).error().code, ErrorCode::kCorrupt);
}

TEST(JournalCertificate, verifies_only_unaltered_and_under_its_vault) {
  const crypto::SigningKey vault(crypto::Secret::copy_of(Bytes(32, std::byte{1})));
  const crypto::SigningKey other(crypto::Secret::copy_of(Bytes(32, std::byte{2})));
  const JournalCertificate statement{.site = {},
                                     .vm = vm_of(4),
                                     .version = KeyVersion(2),
                                     .journal_public_key = other.public_key()};
  const Bytes bytes = sign_certificate(statement, vault);
  EXPECT_EQ(bytes.size(), kJournalCertificateSize);
  EXPECT_EQ(*verify_certificate(bytes, vault.public_key()), statement);
  EXPECT_EQ(verify_certificate(bytes, other.public_key()).error().code, ErrorCode::kWrongKey);
  for (size_t at = 0; at < bytes.size(); ++at) {
    Bytes altered = bytes;
    altered[at] ^= std::byte{1};
    EXPECT_FALSE(verify_certificate(altered, vault.public_key()).ok()) << at;
  }
  EXPECT_FALSE(verify_certificate(ByteSpan(bytes).first(143), vault.public_key()).ok());
}

}  // namespace
}  // namespace hf::vault
