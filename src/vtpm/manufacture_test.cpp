#include "vtpm/manufacture.h"

#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

class Issuer final : public CertificateIssuer {
 public:
  Result<Bytes> endorsement_certificate(const EkPublic& key) override {
    keys.push_back(key);
    return Bytes(key.kind == EkKind::kRsa2048 ? 1500 : 900, std::byte{0x5A});
  }
  Result<std::optional<Bytes>> platform_certificate(const EkPublic& /*rsa_key*/) override {
    return std::optional<Bytes>(Bytes(1100, std::byte{0xA5}));
  }
  std::vector<EkPublic> keys;
};

struct NvIndex {
  uint32_t attributes = 0;
  uint16_t size = 0;
};
NvIndex read_nv_public(GuestTpm& guest, uint32_t index) {
  GuestTpm::Answer answer = guest.send(CommandBuilder(kTagNoSessions, 0x169).u32(index).finish());
  EXPECT_EQ(answer.code, kRcSuccess);
  if (answer.code != kRcSuccess) return {};
  // TPM2B size, index u32, nameAlg u16, attributes u32, policy TPM2B (empty), data size u16
  return {.attributes = load_be<uint32_t>(answer.body.data() + 8),
          .size = load_be<uint16_t>(answer.body.data() + 14)};
}

struct Made {
  MemoryStateStore store;
  std::unique_ptr<Engine> engine;
};
void make(Made& made, CertificateIssuer* issuer) {
  made.engine = std::move(Engine::create({.store = &made.store, .commit_allowed = false})).value();
  const Status done = manufacture(*made.engine, {.issuer = issuer});
  ASSERT_TRUE(done.ok()) << done.error().describe();
  EXPECT_EQ(made.store.commits, 0U);
  ASSERT_TRUE(made.engine->set_commit_allowed(true).ok());
  EXPECT_EQ(made.store.commits, 1U);
  ASSERT_TRUE(made.engine->init().ok());
}

TEST(Manufacture, leaves_only_the_chosen_pcr_banks_active) {
  Made made;
  make(made, nullptr);
  GuestTpm guest(*made.engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  EXPECT_EQ(guest.read_pcr(0, kAlgSha256).size(), 32U);
  EXPECT_TRUE(guest.read_pcr(0, kAlgSha1).empty());
  EXPECT_TRUE(guest.read_pcr(0, kAlgSha384).empty());
  EXPECT_TRUE(guest.read_pcr(0, kAlgSha512).empty());
}

TEST(Manufacture, keeps_several_banks_over_a_crash) {
  MemoryStateStore store;
  {
    const auto engine =
        std::move(Engine::create({.store = &store, .commit_allowed = false})).value();
    ASSERT_TRUE(manufacture(*engine, {.pcr_banks = {kAlgSha256, kAlgSha384}}).ok());
    ASSERT_TRUE(engine->set_commit_allowed(true).ok());
  }
  const Bytes made = store.last;
  const auto engine = std::move(Engine::recover({.store = &store}, made)).value();
  ASSERT_TRUE(engine->init().ok());
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  EXPECT_EQ(guest.read_pcr(0, kAlgSha256).size(), 32U);
  EXPECT_EQ(guest.read_pcr(0, kAlgSha384).size(), 48U);
  EXPECT_TRUE(guest.read_pcr(0, kAlgSha1).empty());
}

TEST(Manufacture, puts_keys_at_the_standard_handles_without_an_issuer) {
  Made made;
  make(made, nullptr);
  GuestTpm guest(*made.engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  for (const uint32_t handle : {kEkRsaHandle, kEkEccHandle, kSrkHandle}) {
    const auto answer =
        guest.send(CommandBuilder(kTagNoSessions, kCcReadPublic).u32(handle).finish());
    EXPECT_EQ(answer.code, kRcSuccess) << std::hex << handle;
  }
}

TEST(Manufacture, writes_and_locks_the_certificates_of_its_issuer) {
  Issuer issuer;
  Made made;
  make(made, &issuer);
  ASSERT_EQ(issuer.keys.size(), 2U);
  EXPECT_EQ(issuer.keys[0].modulus.size(), 256U);
  EXPECT_EQ(issuer.keys[1].x.size(), 48U);
  EXPECT_EQ(issuer.keys[1].y.size(), 48U);
  GuestTpm guest(*made.engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  // The certified key is the one at the handle.
  const auto ek =
      guest.send(CommandBuilder(kTagNoSessions, kCcReadPublic).u32(kEkRsaHandle).finish());
  ASSERT_EQ(ek.code, kRcSuccess);
  EXPECT_EQ(Bytes(ek.body.begin() + 2, ek.body.begin() + 2 + load_be<uint16_t>(ek.body.data())),
            issuer.keys[0].public_area);
  for (const auto& [index, size] :
       {std::pair(kEkRsaCertificateIndex, 1500), std::pair(kEkEccCertificateIndex, 900),
        std::pair(kPlatformCertificateIndex, 1100)}) {
    const NvIndex found = read_nv_public(guest, index);
    EXPECT_EQ(found.attributes, 0x62072801U) << std::hex << index;
    EXPECT_EQ(found.size, size);
  }
}

TEST(Manufacture, makes_another_identity_each_time) {
  Issuer first;
  Issuer second;
  {
    Made made;
    make(made, &first);
  }
  Made made;
  make(made, &second);
  EXPECT_NE(first.keys[0].modulus, second.keys[0].modulus);
  EXPECT_NE(first.keys[1].x, second.keys[1].x);
}

}  // namespace
}  // namespace hf::vtpm
