#include "crypto/session_statement.h"
#include "vault/core/certificate.h"
#include "vault/core/signing_labels.h"
#include "vault/core/testing.h"
#include "vault/core/wrap.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT
using crypto::SessionRole;
using crypto::SessionStatement;

// Two sites that are paired, each with a keeper of VM 1; a third that knows neither.
class Sessions : public ::testing::Test {
 protected:
  Sessions() {
    HF_ASSERT(home_->add_recipient(replica_->identity(), "", kDaemon).ok());
    HF_ASSERT(replica_->add_recipient(home_->identity(), "", kDaemon).ok());
  }
  SessionStatement statement(SessionRole signer) {
    SessionStatement out;
    out.signer = signer;
    out.vm = vm_of(1);
    out.home = home_->identity().site;
    out.replica = replica_->identity().site;
    out.epoch = Epoch(3);
    out.home_nonce.fill(std::byte{7});
    return out;
  }
  SiteId home_site() { return home_->identity().site; }
  SiteId replica_site() { return replica_->identity().site; }

  TestVault home_{"a"};
  TestVault replica_{"b"};
  TestVault stranger_{"c"};
};

TEST_F(Sessions, are_signed_at_one_site_and_checked_at_the_other_without_any_key_or_release) {
  for (const SessionRole signer : {SessionRole::kHome, SessionRole::kReplica}) {
    TestVault& from = signer == SessionRole::kHome ? home_ : replica_;
    TestVault& to = signer == SessionRole::kHome ? replica_ : home_;
    const auto bytes = crypto::encode(statement(signer));
    const crypto::Signature signature = *from->session_sign(vm_of(1), bytes, kKeeper);
    EXPECT_TRUE(to->session_check(vm_of(1), from->identity().site, bytes, signature, kKeeper).ok());
  }
}

TEST_F(Sessions, are_signed_only_for_the_vms_own_keeper_as_its_own_site_to_a_paired_one) {
  const auto code = [&](const SessionStatement& what, const Caller& who) {
    return home_->session_sign(vm_of(1), crypto::encode(what), who).error().code;
  };
  const SessionStatement good = statement(SessionRole::kHome);
  ASSERT_TRUE(home_->session_sign(vm_of(1), crypto::encode(good), kKeeper).ok());
  EXPECT_EQ(code(good, kKeeper2), ErrorCode::kPermission);
  EXPECT_EQ(code(good, kDaemon), ErrorCode::kPermission);
  SessionStatement other = good;
  other.vm = vm_of(2);
  EXPECT_EQ(code(other, kKeeper), ErrorCode::kPermission);
  other = good;
  other.signer = SessionRole::kReplica;  // in the other site's name
  EXPECT_EQ(code(other, kKeeper), ErrorCode::kPermission);
  other = good;
  other.replica = stranger_->identity().site;
  EXPECT_EQ(code(other, kKeeper), ErrorCode::kNotFound);
  EXPECT_EQ(home_->session_sign(vm_of(1), as_bytes("anything else"), kKeeper).error().code,
            ErrorCode::kCorrupt);
}

TEST_F(Sessions, fail_a_check_with_anything_changed) {
  const auto bytes = crypto::encode(statement(SessionRole::kHome));
  const crypto::Signature signature = *home_->session_sign(vm_of(1), bytes, kKeeper);
  const auto check = [&](ByteSpan what, const crypto::Signature& by) {
    return replica_->session_check(vm_of(1), home_site(), what, by, kKeeper);
  };
  ASSERT_TRUE(check(bytes, signature).ok());
  for (size_t at = 0; at < bytes.size(); ++at) {
    auto altered = bytes;
    altered[at] ^= std::byte{0x20};
    EXPECT_FALSE(check(altered, signature).ok()) << at;
  }
  crypto::Signature altered = signature;
  altered[9] ^= std::byte{1};
  EXPECT_EQ(check(bytes, altered).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(check(bytes, {}).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(replica_->session_check(vm_of(1), home_site(), bytes, signature, kKeeper2).error().code,
            ErrorCode::kPermission);
  // By a vault that is not that site's, in its name.
  SessionStatement forged = statement(SessionRole::kHome);
  forged.home = stranger_->identity().site;
  HF_ASSERT(stranger_->add_recipient(replica_->identity(), "", kDaemon).ok());
  const auto forged_bytes = crypto::encode(forged);
  const crypto::Signature theirs = *stranger_->session_sign(vm_of(1), forged_bytes, kKeeper);
  EXPECT_EQ(check(bytes, theirs).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(check(forged_bytes, theirs).error().code, ErrorCode::kPermission);
  EXPECT_EQ(
      replica_->session_check(vm_of(1), stranger_->identity().site, forged_bytes, theirs, kKeeper)
          .error()
          .code,
      ErrorCode::kNotFound);
}

TEST_F(Sessions, a_signature_cannot_be_sent_back_to_who_made_it) {
  const auto bytes = crypto::encode(statement(SessionRole::kHome));
  const crypto::Signature signature = *home_->session_sign(vm_of(1), bytes, kKeeper);
  auto reflected = bytes;
  reflected[6] = static_cast<std::byte>(SessionRole::kReplica);
  EXPECT_EQ(
      home_->session_check(vm_of(1), replica_site(), reflected, signature, kKeeper).error().code,
      ErrorCode::kWrongKey);
  EXPECT_FALSE(home_->session_check(vm_of(1), replica_site(), bytes, signature, kKeeper).ok());
}

// One key signs three kinds of things: none of them is ever taken for another.
TEST_F(Sessions, no_signature_of_one_kind_counts_as_one_of_another) {
  const crypto::PublicKey key = home_->identity().signing_public_key;
  const KeyInfo made = home_.make(1);
  const auto bytes = crypto::encode(statement(SessionRole::kHome));
  const crypto::Signature session = *home_->session_sign(vm_of(1), bytes, kKeeper);
  for (const std::string_view label : kSigningLabels) {
    EXPECT_EQ(crypto::verify(key, labelled(label, bytes), session), label == kSessionLabel);
  }
  EXPECT_FALSE(crypto::verify(key, bytes, session));  // nor without a label

  Bytes certificate = made.certificate;
  ASSERT_TRUE(verify_certificate(certificate, key).ok());
  std::ranges::copy(session, certificate.end() - crypto::kSignatureSize);
  EXPECT_EQ(verify_certificate(certificate, key).error().code, ErrorCode::kWrongKey);

  ASSERT_TRUE(home_->add_member(vm_of(1), replica_site(), kOperator).ok());
  const Bytes wrap = *home_->wrap_for(vm_of(1), replica_site(), kDaemon);
  const ParsedWrap parsed = *parse_wrap(wrap);
  EXPECT_EQ(
      replica_->session_check(vm_of(1), home_site(), bytes, parsed.signature, kKeeper).error().code,
      ErrorCode::kWrongKey);
}

}  // namespace
}  // namespace hf::vault
