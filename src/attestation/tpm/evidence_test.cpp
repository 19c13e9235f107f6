#include "attestation/tpm/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/testing/quote_maker.h"
#include "attestation/tpm/ak_certificate.h"

namespace hf::attestation {
namespace {

const Bytes kNonce(16, std::byte{9});

Evidence example(const SoftwareAk& ak) {
  Evidence evidence;
  evidence.vm = VmId::parse_hex("000102030405060708090a0b0c0d0e0f").value();
  evidence.nonce = kNonce;
  PcrValues& bank = evidence.pcrs.emplace_back();
  bank.bank = HashAlg::kSha256;
  bank.values[0] = Bytes(32, std::byte{1});
  bank.values[23] = Bytes(32, std::byte{2});
  evidence.quote = ak.attest(kNonce, evidence.pcrs);
  evidence.signature = ak.sign(evidence.quote);
  evidence.ak_public = ak.area();
  evidence.ak_certificate = "-----BEGIN CERTIFICATE-----\n";
  evidence.ek_certificate = Bytes(700, std::byte{3});
  evidence.event_log = Bytes(5000, std::byte{4});
  evidence.extends = sys::parse_json_object(R"({"total":0,"extends":[]})").value();
  evidence.secure_boot["PK"] = Bytes(44, std::byte{5});
  evidence.secure_boot["dbx"] = {};
  return evidence;
}

TEST(Evidence, comes_back_from_its_text) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  const std::string text = sys::to_text(to_json(example(ak)));
  Result<Evidence> read = parse_evidence(text);
  ASSERT_TRUE(read.ok()) << read.error().describe();
  EXPECT_EQ(sys::to_text(to_json(*read)), text);
  EXPECT_EQ(read->event_log->size(), 5000U);
  EXPECT_EQ(read->pcrs[0].values[23], Bytes(32, std::byte{2}));
  EXPECT_FALSE(read->pcrs[0].values[1].has_value());
  EXPECT_TRUE(verify_quote(*read, {.nonce = kNonce}).ok());
  const Bytes other(16, std::byte{8});
  EXPECT_FALSE(verify_quote(*read, {.nonce = other}).ok());
}

TEST(Evidence, names_what_is_wrong) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  const sys::JsonObject good = to_json(example(ak));
  const auto refused = [&](auto change) {
    sys::JsonObject object = good;
    change(object);
    Result<Evidence> read = parse_evidence(sys::to_text(object));
    return read.ok() ? std::string("taken") : read.error().cause;
  };
  EXPECT_EQ(refused([](auto&) {}), "taken");
  const auto says = [](const char* text) { return testing::HasSubstr(text); };
  for (const char* name : {"version", "nonce", "quote", "signature", "ak_public", "pcrs"}) {
    EXPECT_THAT(refused([&](auto& o) { o.erase(name); }), says(name));
    EXPECT_THAT(refused([&](auto& o) { o[name] = -7; }), says(name));
  }
  for (const char* name :
       {"vm", "ak_certificate", "ek_certificate", "event_log", "extends", "secure_boot"}) {
    EXPECT_EQ(refused([&](auto& o) { o.erase(name); }), "taken");
    EXPECT_EQ(refused([&](auto& o) { o[name] = nullptr; }), "taken");
    EXPECT_THAT(refused([&](auto& o) { o[name] = 7; }), says(name));
  }
  EXPECT_THAT(refused([](auto& o) { o["version"] = 2; }), says("version"));
  EXPECT_THAT(refused([](auto& o) { o["nonce"] = "AAAA"; }), says("nonce"));
  EXPECT_THAT(refused([](auto& o) { o["nonce"] = std::string(87, 'A'); }), says("nonce"));
  EXPECT_THAT(refused([](auto& o) { o["quote"] = "A-_="; }), says("quote"));
  EXPECT_THAT(refused([](auto& o) { o["quote"] = std::string(2000, 'A'); }), says("quote"));
  EXPECT_THAT(refused([](auto& o) { o["pcrs"] = sys::JsonObject{}; }), says("no bank"));
  const auto pcr = [&](const char* bank, const char* number, const char* value) {
    return refused(
        [&](auto& o) { o["pcrs"] = sys::JsonObject{{bank, sys::JsonObject{{number, value}}}}; });
  };
  EXPECT_EQ(pcr("sha1", "7", "0000000000000000000000000000000000000000"), "taken");
  EXPECT_THAT(pcr("md5", "7", "00"), says("md5"));
  EXPECT_THAT(pcr("sha1", "24", "00"), says("0 to 23"));
  EXPECT_THAT(pcr("sha1", "07", "00"), says("0 to 23"));
  EXPECT_THAT(pcr("sha1", "7", "00"), says("PCR 7"));
  EXPECT_THAT(pcr("sha1", "7", "zz00000000000000000000000000000000000000"), says("PCR 7"));
}

TEST(Evidence, is_bounded_and_says_each_thing_once) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  std::string text = sys::to_text(to_json(example(ak)));
  text.insert(1, R"("version":1,)");
  EXPECT_FALSE(parse_evidence(text).ok());
  EXPECT_EQ(parse_evidence(std::string(kEvidenceTextMax + 1, ' ')).error().code, ErrorCode::kLimit);
  sys::JsonObject big = to_json(example(ak));
  big["event_log"] = std::string((kEvidenceEventLogMax / 3 + 2) * 4, 'A');
  EXPECT_EQ(parse_evidence(sys::to_text(big)).error().code, ErrorCode::kLimit);
  sys::JsonArray extends;
  extends.resize(kEvidenceExtendsMax + 1);
  big = to_json(example(ak));
  big["extends"].as_object()["extends"] = extends;
  EXPECT_EQ(parse_evidence(sys::to_text(big)).error().code, ErrorCode::kLimit);
  EXPECT_FALSE(parse_evidence(std::string(100, '[')).ok());
  EXPECT_FALSE(parse_evidence("[]").ok());
}

// --- certificates of attestation keys -----------------------------------------------------------

constexpr Micros kNow{1'790'000'000'000'000};
const std::string kUri = "holdfast:vm:000102030405060708090a0b0c0d0e0f";

struct Ca {
  crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  crypto::Certificate certificate =
      crypto::make_ca(key, {.common_name = "site", .now = kNow, .valid_days = 10});
  std::string issue(const crypto::SpkiKey& subject, std::vector<std::string> uris) const {
    return crypto::issue_leaf(
               certificate, key, subject,
               {.common_name = "AK", .uris = std::move(uris), .now = kNow, .valid_days = 5})
        .value()
        .to_pem();
  }
  std::vector<crypto::Certificate> trusted() const {
    std::vector<crypto::Certificate> all;
    all.push_back(crypto::Certificate::from_der(certificate.to_der()).value());
    return all;
  }
};

TEST(AkCertificate, tells_the_vm_of_a_key_that_the_site_vouches_for) {
  for (AkKind kind : {AkKind::kRsassa, AkKind::kEcdsaP256, AkKind::kEcdsaP384}) {
    const SoftwareAk ak(kind);
    const Ca site;
    const TpmPublic key = parse_public(ak.area()).value();
    Result<AkIdentity> identity = check_ak_certificate(
        site.issue(ak.key().public_key(), {kUri, "https://x"}), key, site.trusted(), kNow);
    ASSERT_TRUE(identity.ok()) << identity.error().describe();
    EXPECT_EQ(identity->vm.hex(), kUri.substr(kVmUriPrefix.size()));
    EXPECT_EQ(identity->ca, site.certificate.fingerprint());
  }
}

TEST(AkCertificate, of_another_site_key_time_or_no_vm_is_refused) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  const SoftwareAk other(AkKind::kEcdsaP256);
  const Ca site;
  const Ca impostor;  // same name
  const TpmPublic key = parse_public(ak.area()).value();
  const crypto::SpkiKey& subject = ak.key().public_key();
  const auto code = [&](const std::string& pem, Micros now = kNow) {
    Result<AkIdentity> identity = check_ak_certificate(pem, key, site.trusted(), now);
    EXPECT_FALSE(identity.ok());
    return identity.error().code;
  };
  EXPECT_EQ(code(impostor.issue(subject, {kUri})), ErrorCode::kWrongKey);
  EXPECT_EQ(code(site.issue(other.key().public_key(), {kUri})), ErrorCode::kWrongKey);
  EXPECT_EQ(code(site.issue(subject, {})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(site.issue(subject, {kUri, kUri})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(site.issue(subject, {"holdfast:vm:00"})), ErrorCode::kInvalidArgument);
  const Micros late{kNow.value + 6ULL * 86400 * 1'000'000};
  const Micros early{kNow.value - 2ULL * 3600 * 1'000'000};
  EXPECT_EQ(code(site.issue(subject, {kUri}), late), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(site.issue(subject, {kUri}), early), ErrorCode::kInvalidArgument);
  // When it is the clock, it is said to be, and by how much.
  const Error by_clock =
      check_ak_certificate(site.issue(subject, {kUri}), key, site.trusted(), early).error();
  EXPECT_NE(by_clock.cause.find("begins 1 h from now by this clock"), std::string::npos)
      << by_clock.cause;
  EXPECT_NE(by_clock.mend.find("timedatectl"), std::string::npos);
  EXPECT_EQ(code(site.certificate.to_pem()), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(check_ak_certificate("x", key, site.trusted(), kNow).ok());
  EXPECT_FALSE(
      check_ak_certificate(std::string(kCertificateMax + 1, 'x'), key, site.trusted(), kNow).ok());
  EXPECT_EQ(check_ak_certificate(site.issue(subject, {kUri}), key, {}, kNow).error().code,
            ErrorCode::kWrongKey);
}

}  // namespace
}  // namespace hf::attestation
