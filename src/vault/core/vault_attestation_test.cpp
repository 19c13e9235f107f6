// Enrolment against a real vTPM, pins that stay, and the key that signs verdicts.

#include "attestation/token/jws.h"
#include "attestation/tpm/ak_certificate.h"
#include "vault/core/testing.h"
#include "vtpm/attestation_key.h"
#include "vtpm/key_templates.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

Bytes spki_of(ByteSpan public_area) {
  auto key = attestation::openssl_key(*attestation::parse_public(public_area));
  return crypto::SpkiKey::adopt(std::move(key).value())->to_der();
}

// VM 1's vTPM, with EK certificates by `site`; running.
class Tpm : private vtpm::CertificateIssuer {
 public:
  explicit Tpm(TestVault& site, uint8_t number = 1) : site_(site), vm_(site.make(number).vm) {
    HF_ASSERT(site->release(vm_, kDaemon).ok());
    engine_ = vtpm::Engine::create({.store = &store_, .commit_allowed = false}).value();
    HF_ASSERT(vtpm::manufacture(*engine_, {.issuer = this}).ok() && engine_->init().ok());
    HF_ASSERT(vtpm::GuestTpm(*engine_).startup() == vtpm::kRcSuccess);
    HF_ASSERT(engine_
                  ->between_guest_commands([&](const vtpm::SendCommand& send) -> Status {
                    identity = TRY(vtpm::read_identity(send, {}));
                    return {};
                  })
                  .ok());
  }

  Result<Bytes> activate(const AttestationChallenge& challenge) {
    Result<Bytes> secret = Error{};
    HF_ASSERT(engine_
                  ->between_guest_commands([&](const vtpm::SendCommand& send) -> Status {
                    secret = vtpm::activate_credential(send, identity, challenge.id_object,
                                                       challenge.encrypted_secret,
                                                       Bytes(16, std::byte{7}));
                    return {};
                  })
                  .ok());
    return secret;
  }
  vtpm::TpmIdentity identity;

 private:
  Result<Bytes> endorsement_certificate(const vtpm::EkPublic& key) override {
    return site_->issue_ek_certificate(
        vm_, key.kind == vtpm::EkKind::kRsa2048 ? EkKind::kRsa2048 : EkKind::kEccP384,
        spki_of(key.public_area), kKeeper);
  }
  Result<std::optional<Bytes>> platform_certificate(const vtpm::EkPublic&) override {
    return std::optional<Bytes>();
  }

  TestVault& site_;
  VmId vm_;
  vtpm::MemoryStateStore store_;
  std::unique_ptr<vtpm::Engine> engine_;
};

Result<AttestationChallenge> enroll(TestVault& site, const Tpm& tpm, const VmId& vm = vm_of(1)) {
  return site->attestation_enroll(vm, tpm.identity.ek_public, *tpm.identity.ek_certificate,
                                  tpm.identity.ak_public, kDaemon);
}

Result<AttestationPin> enroll_whole(TestVault& site, Tpm& tpm) {
  const AttestationChallenge challenge = TRY(enroll(site, tpm));
  const Bytes secret = TRY(tpm.activate(challenge));
  return site->attestation_certify(vm_of(1), challenge.id, secret, kDaemon);
}

// An attestation key by its attributes, in no TPM.
Bytes foreign_ak() {
  const Bytes area = vtpm::attestation_key_template();
  const crypto::KeyPair key = crypto::KeyPair::generate_rsa(2048);
  const Bytes der = key.public_key().to_der();
  Bytes out(area.begin(), area.end() - 256);
  // SubjectPublicKeyInfo of RSA-2048 ends: modulus, then INTEGER 65537 (5 bytes).
  out.insert(out.end(), der.end() - 5 - 256, der.end() - 5);
  return out;
}

void expect_all_parts(const Error& error, ErrorCode code) {
  EXPECT_EQ(error.code, code) << error.describe();
  EXPECT_FALSE(error.cause.empty());
  EXPECT_FALSE(error.effect.empty()) << error.cause;
  EXPECT_FALSE(error.mend.empty()) << error.cause;
}

TEST(Enrolment, pins_and_certifies_the_key_whose_tpm_opened_the_secret) {
  TestVault site("a");
  Tpm tpm(site);
  EXPECT_EQ(site->attestation_pinned(vm_of(1)).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(site->attestation_pinned_name(vm_of(1), kKeeper)->has_value());
  const AttestationPin pin = *enroll_whole(site, tpm);
  EXPECT_EQ(pin.ak_name, tpm.identity.ak_name);
  EXPECT_EQ(pin.certified_by, site->identity().site);

  const auto ak = *attestation::parse_public(tpm.identity.ak_public);
  std::vector<crypto::Certificate> cas;
  cas.push_back(*crypto::Certificate::from_pem(site->identity().ca_certificate_pem));
  const auto identity =
      attestation::check_ak_certificate(pin.certificate_pem, ak, cas, site.clock.wall);
  ASSERT_TRUE(identity.ok()) << identity.error().describe();
  EXPECT_EQ(identity->vm, vm_of(1));
  EXPECT_TRUE(
      crypto::Certificate::from_pem(pin.certificate_pem)->has_extended_key_usage("2.23.133.8.3"));

  site.reopen();
  EXPECT_EQ(*site->attestation_pinned(vm_of(1)), pin);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  EXPECT_EQ(**site->attestation_pinned_name(vm_of(1), kKeeper), pin.ak_name);
  const Caller other{.uid = kKeeperUid + 1, .pid = 61};
  EXPECT_EQ(site->attestation_pinned_name(vm_of(1), other).error().code, ErrorCode::kPermission);
  EXPECT_TRUE(enroll_whole(site, tpm).ok());  // again: nothing against it
  const std::string log(as_text(read_file(site.directory + "/audit.log")));
  EXPECT_TRUE(verify_audit_log(log).ok());
  EXPECT_NE(log.find("\"event\":\"attestation_certify\",\"vm\":\"" + vm_of(1).hex()),
            std::string::npos);
  EXPECT_EQ(site->check()->attestation_records, 1u);
  EXPECT_TRUE(site->check()->problems.empty());
}

TEST(Enrolment, ends_with_a_wrong_secret_a_second_try_or_too_late) {
  TestVault site("a");
  Tpm tpm(site);
  const AttestationChallenge challenge = *enroll(site, tpm);
  const Bytes secret = *tpm.activate(challenge);
  const auto certify = [&](const VmId& vm, const ChallengeId& id, ByteSpan what) {
    return site->attestation_certify(vm, id, what, kDaemon).error();
  };
  expect_all_parts(certify(vm_of(2), challenge.id, secret), ErrorCode::kNotFound);
  expect_all_parts(certify(vm_of(1), challenge.id, Bytes(32)), ErrorCode::kWrongKey);
  expect_all_parts(certify(vm_of(1), challenge.id, secret), ErrorCode::kNotFound);

  const AttestationChallenge late = *enroll(site, tpm);
  const Bytes late_secret = *tpm.activate(late);
  site.clock.mono.value += 121'000'000;
  expect_all_parts(certify(vm_of(1), late.id, late_secret), ErrorCode::kNotFound);
  EXPECT_EQ(site->attestation_pinned(vm_of(1)).error().code, ErrorCode::kNotFound);
}

TEST(Enrolment, takes_no_more_than_a_bounded_number_at_a_time) {
  TestVault site("a");
  Tpm tpm(site);
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(enroll(site, tpm).ok());
  expect_all_parts(enroll(site, tpm).error(), ErrorCode::kLimit);
  site.clock.mono.value += 121'000'000;
  EXPECT_TRUE(enroll(site, tpm).ok());
}

TEST(Enrolment, never_puts_another_key_in_a_pinned_ones_place) {
  TestVault site("a");
  Tpm tpm(site);
  const AttestationPin pin = *enroll_whole(site, tpm);
  const Bytes swapped = foreign_ak();
  expect_all_parts(site->attestation_enroll(vm_of(1), tpm.identity.ek_public,
                                            *tpm.identity.ek_certificate, swapped, kDaemon)
                       .error(),
                   ErrorCode::kConflict);
  EXPECT_EQ(*site->attestation_pinned(vm_of(1)), pin);
  const std::string log(as_text(read_file(site.directory + "/audit.log")));
  EXPECT_NE(log.find("\"event\":\"attestation_enroll\",\"vm\":\"" + vm_of(1).hex() +
                     "\",\"uid\":500,\"pid\":50,\"outcome\":\"refused\""),
            std::string::npos);

  ASSERT_TRUE(site->attestation_forget(vm_of(1), kDaemon).ok());
  EXPECT_EQ(site->attestation_forget(vm_of(1), kDaemon).error().code, ErrorCode::kNotFound);
  // A challenge for it can be had now. Opening it takes the TPM that holds it.
  const auto challenge = site->attestation_enroll(vm_of(1), tpm.identity.ek_public,
                                                  *tpm.identity.ek_certificate, swapped, kDaemon);
  ASSERT_TRUE(challenge.ok());
  EXPECT_EQ(tpm.activate(*challenge).error().code, ErrorCode::kWrongKey);
}

TEST(Enrolment, wants_the_endorsement_key_that_the_vm_was_made_with) {
  TestVault site("a");
  Tpm tpm(site);
  site.make(2);
  ASSERT_TRUE(site->release(vm_of(2), kDaemon).ok());
  // VM 2's TPM was made with another EK; then VM 1's keys are shown for it.
  const crypto::KeyPair other = crypto::KeyPair::generate_rsa(2048);
  const Bytes other_spki = other.public_key().to_der();
  ASSERT_TRUE(site->issue_ek_certificate(vm_of(2), EkKind::kRsa2048, other_spki, kKeeper2).ok());
  expect_all_parts(enroll(site, tpm, vm_of(2)).error(), ErrorCode::kWrongKey);

  const auto with_certificate = [&](const Bytes& der) {
    return site
        ->attestation_enroll(vm_of(1), tpm.identity.ek_public, der, tpm.identity.ak_public, kDaemon)
        .error();
  };
  // By the right CA for the right key, but a TLS leaf.
  const std::string leaf = *site->issue_tls(
      {.common_name = "x",
       .key_pem = crypto::SpkiKey::from_der(spki_of(tpm.identity.ek_public))->to_pem()},
      kDaemon);
  expect_all_parts(with_certificate(crypto::Certificate::from_pem(leaf)->to_der()),
                   ErrorCode::kWrongKey);
  // An EK's, but another EK's.
  expect_all_parts(with_certificate(*site->issue_ek_certificate(vm_of(2), EkKind::kRsa2048,
                                                                other_spki, kKeeper2)),
                   ErrorCode::kWrongKey);
  // By a CA that nobody here knows; once paired with it, it counts.
  TestVault stranger("b");
  stranger.make(2);
  ASSERT_TRUE(stranger->release(vm_of(2), kDaemon).ok());
  const Bytes theirs = *stranger->issue_ek_certificate(vm_of(2), EkKind::kRsa2048,
                                                       spki_of(tpm.identity.ek_public), kKeeper2);
  expect_all_parts(with_certificate(theirs), ErrorCode::kWrongKey);
  ASSERT_TRUE(site->add_recipient(stranger->identity(), "", kDaemon).ok());
  EXPECT_TRUE(site->attestation_enroll(vm_of(1), tpm.identity.ek_public, theirs,
                                       tpm.identity.ak_public, kDaemon)
                  .ok());
  EXPECT_FALSE(enroll(site, tpm, vm_of(9)).ok());  // no such VM
}

TEST(Enrolment, refuses_keys_that_could_sign_what_their_tpm_did_not_make) {
  TestVault site("a");
  Tpm tpm(site);
  const auto with_ak = [&](const Bytes& ak) {
    return site
        ->attestation_enroll(vm_of(1), tpm.identity.ek_public, *tpm.identity.ek_certificate, ak,
                             kDaemon)
        .error()
        .code;
  };
  for (const size_t byte : {5uz, 7uz}) {  // attributes: restricted and sign; fixedTPM …
    Bytes ak = tpm.identity.ak_public;
    ak[byte] = std::byte{0};
    EXPECT_EQ(with_ak(ak), ErrorCode::kInvalidArgument);
  }
  EXPECT_NE(with_ak(tpm.identity.ek_public), ErrorCode::kInternal);
  for (size_t size = 0; size < tpm.identity.ak_public.size(); size += 13) {
    const Bytes cut(tpm.identity.ak_public.begin(),
                    tpm.identity.ak_public.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(with_ak(cut) == ErrorCode::kInternal) << size;
  }
}

TEST(Adoption, takes_what_a_paired_site_certified_for_this_vm) {
  TestVault a("a");
  TestVault b("b");
  Tpm tpm(a);
  const AttestationPin pin = *enroll_whole(a, tpm);
  const auto adopt = [&](const VmId& vm, ByteSpan ak) {
    return b->attestation_adopt(vm, pin.certificate_pem, ak, kDaemon);
  };
  EXPECT_EQ(adopt(vm_of(1), pin.ak_public).error().code, ErrorCode::kNotFound);  // no VM yet
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  ASSERT_TRUE(a->add_member(vm_of(1), b->identity().site, kOperator).ok());
  const Bytes wrap = *a->wrap_for(vm_of(1), b->identity().site, kDaemon);
  b.make(3);
  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  ASSERT_TRUE(b->import_wrap(vm_of(1), wrap, kDaemon).ok());
  ASSERT_TRUE(b->remove_recipient(a->identity().site, kDaemon).ok());
  expect_all_parts(adopt(vm_of(1), pin.ak_public).error(), ErrorCode::kWrongKey);  // not paired
  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  expect_all_parts(adopt(vm_of(3), pin.ak_public).error(), ErrorCode::kWrongKey);
  expect_all_parts(adopt(vm_of(1), foreign_ak()).error(), ErrorCode::kWrongKey);
  const AttestationPin adopted = *adopt(vm_of(1), pin.ak_public);
  EXPECT_EQ(adopted.ak_name, pin.ak_name);
  EXPECT_EQ(adopted.certified_by, a->identity().site);
  EXPECT_EQ(*adopt(vm_of(1), pin.ak_public), adopted);
  // A TLS leaf is no attestation certificate, whoever asks for one.
  const std::string leaf = *a->issue_tls(
      {.common_name = "x", .key_pem = crypto::SpkiKey::from_der(spki_of(pin.ak_public))->to_pem()},
      kDaemon);
  EXPECT_EQ(b->attestation_adopt(vm_of(3), leaf, pin.ak_public, kDaemon).error().code,
            ErrorCode::kWrongKey);
}

TEST(Pin, goes_with_the_vm_and_is_refused_when_damaged) {
  TestVault site("a");
  Tpm tpm(site);
  ASSERT_TRUE(enroll_whole(site, tpm).ok());
  const std::string file = site.directory + "/attestation-" + vm_of(1).hex() + ".hfv";
  const Bytes whole = read_file(file);
  for (size_t at = 0; at < whole.size(); at += whole.size() / 29) {
    Bytes bad = whole;
    bad[at] ^= std::byte{0x10};
    write_file(file, bad);
    EXPECT_EQ(site->attestation_pinned(vm_of(1)).error().code, ErrorCode::kCorrupt) << at;
    EXPECT_FALSE(enroll(site, tpm).ok());
  }
  write_file(site.directory + "/attestation-" + vm_of(2).hex() + ".hfv", whole);
  EXPECT_EQ(site->attestation_pinned(vm_of(2)).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(site->check()->problems.size(), 2u);
  write_file(file, whole);
  ASSERT_TRUE(site->revoke(vm_of(1), kDaemon).ok());
  ASSERT_TRUE(site->delete_key(vm_of(1), kDaemon).ok());
  EXPECT_FALSE(fs::exists(file));
}

}  // namespace
}  // namespace hf::vault
