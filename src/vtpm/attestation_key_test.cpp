// Quotes and credentials between a guest's commands, whatever the guest does to the keys.

#include "vtpm/attestation_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "crypto/crypto.h"
#include "vtpm/key_templates.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

constexpr uint32_t kCcClear = 0x126;
constexpr uint32_t kCcMakeCredential = 0x168;
constexpr uint32_t kCcHierarchyChangeAuth = 0x129;
constexpr uint32_t kHandleLockout = 0x4000000A;

class Issuer final : public CertificateIssuer {
 public:
  Result<Bytes> endorsement_certificate(const EkPublic&) override {
    return Bytes(1500, std::byte{0x5A});
  }
  Result<std::optional<Bytes>> platform_certificate(const EkPublic&) override {
    return std::optional<Bytes>();
  }
};

class AttestationKey : public ::testing::Test {
 protected:
  AttestationKey() {
    engine = Engine::create({.store = &store, .commit_allowed = false}).value();
    HF_ASSERT(manufacture(*engine, {.issuer = &issuer}).ok());
    HF_ASSERT(engine->set_commit_allowed(true).ok() && engine->init().ok());
    guest = std::make_unique<GuestTpm>(*engine);
    HF_ASSERT(guest->startup() == kRcSuccess);
    identity = *read();
  }

  template <typename T>
  Result<T> own(const std::function<Result<T>(const SendCommand&)>& work) {
    Result<T> out = Error{};
    TRY(engine->between_guest_commands([&](const SendCommand& send) -> Status {
      out = work(send);
      return {};
    }));
    return out;
  }
  Result<TpmIdentity> read(std::optional<Bytes> expected = {}) {
    return own<TpmIdentity>([&](const SendCommand& send) {
      return read_identity(send, expected ? std::optional<ByteSpan>(*expected) : std::nullopt);
    });
  }
  Result<Quote> quote_now(ByteSpan nonce = as_bytes("0123456789abcdef"),
                          const PcrSelection& pcrs = {{kAlgSha256, {0, 7, 23}}}) {
    return own<Quote>([&](const SendCommand& send) { return quote(send, identity, nonce, pcrs); });
  }
  Result<Bytes> activate(ByteSpan id_object, ByteSpan secret) {
    return own<Bytes>([&](const SendCommand& send) {
      return activate_credential(send, identity, id_object, secret, Bytes(16, std::byte{9}));
    });
  }

  // The outside's part, by the TPM's own command for it.
  std::pair<Bytes, Bytes> make_credential(const Bytes& name, std::string_view secret) {
    const auto made = guest->send(CommandBuilder(kTagNoSessions, kCcMakeCredential)
                                      .u32(kEkRsaHandle)
                                      .sized(as_bytes(secret))
                                      .sized(name)
                                      .finish());
    EXPECT_EQ(made.code, kRcSuccess);
    const size_t first = 2 + load_be<uint16_t>(made.body.data());
    const auto middle = made.body.begin() + static_cast<std::ptrdiff_t>(first);
    return {Bytes(made.body.begin(), middle), Bytes(middle, made.body.end())};
  }
  void expect_activation_works() {
    const auto [id_object, secret] = make_credential(identity.ak_name, "it is I");
    const Result<Bytes> opened = activate(id_object, secret);
    ASSERT_TRUE(opened.ok()) << opened.error().describe();
    EXPECT_EQ(as_text(*opened), "it is I");
  }

  // The quote's own signature and digest, with OpenSSL.
  void expect_quote_holds(const Quote& made, std::string_view nonce) {
    Bytes values;
    for (const auto& [bank, pcrs] : made.pcrs) {
      for (const auto& [pcr, value] : pcrs) {
        values.insert(values.end(), value.begin(), value.end());
      }
    }
    const Digest digest = crypto::sha256(values);
    EXPECT_TRUE(made.attest.size() > 32 &&
                std::equal(digest.bytes.begin(), digest.bytes.end(), made.attest.end() - 32));
    EXPECT_NE(as_text(made.attest).find(nonce), std::string_view::npos);
    ResponseReader reader(made.signature);
    ASSERT_EQ(*reader.u16(), kAlgRsassa);
    ASSERT_EQ(*reader.u16(), kAlgSha256);
    const ByteSpan signature = *reader.sized();
    EXPECT_TRUE(reader.rest().empty());

    const ByteSpan modulus = ByteSpan(identity.ak_public).last(256);
    BIGNUM* n = BN_bin2bn(reinterpret_cast<const unsigned char*>(modulus.data()), 256, nullptr);
    BIGNUM* e = BN_new();
    BN_set_word(e, 65537);
    OSSL_PARAM_BLD* builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
    OSSL_PARAM* params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr);
    EVP_PKEY* key = nullptr;
    EVP_PKEY_fromdata_init(context);
    ASSERT_EQ(EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_MD_CTX* verify = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(verify, nullptr, EVP_sha256(), nullptr, key);
    EXPECT_EQ(EVP_DigestVerify(verify, reinterpret_cast<const unsigned char*>(signature.data()),
                               signature.size(),
                               reinterpret_cast<const unsigned char*>(made.attest.data()),
                               made.attest.size()),
              1);
    EVP_MD_CTX_free(verify);
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    BN_free(e);
  }

  // Handles of a range, as a guest's resource manager counts them.
  std::vector<uint32_t> handles(uint32_t range) {
    const auto answer = guest->send(
        CommandBuilder(kTagNoSessions, kCcGetCapability).u32(1).u32(range).u32(64).finish());
    EXPECT_EQ(answer.code, kRcSuccess);
    std::vector<uint32_t> out;
    for (size_t at = 9; at + 4 <= answer.body.size(); at += 4) {
      out.push_back(load_be<uint32_t>(answer.body.data() + at));
    }
    return out;
  }
  void expect_nothing_left_behind() {
    EXPECT_TRUE(handles(0x80000000).empty());  // transient objects
    EXPECT_TRUE(handles(0x02000000).empty());  // loaded sessions
    EXPECT_TRUE(handles(0x03000000).empty());
  }
  uint32_t evict(uint32_t handle) {
    return guest
        ->send(CommandBuilder(kTagSessions, kCcEvictControl)
                   .u32(kHandleOwner)
                   .u32(handle)
                   .password()
                   .u32(handle)
                   .finish())
        .code;
  }

  MemoryStateStore store;
  Issuer issuer;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<GuestTpm> guest;
  TpmIdentity identity;
};

TEST_F(AttestationKey, is_made_at_manufacture_with_the_documented_template) {
  const auto there = guest->send(
      CommandBuilder(kTagNoSessions, kCcReadPublic).u32(kAttestationKeyHandle).finish());
  ASSERT_EQ(there.code, kRcSuccess);
  const Bytes area = attestation_key_template();
  ASSERT_EQ(identity.ak_public.size(), area.size());
  EXPECT_TRUE(std::equal(area.begin(), area.end() - 256, identity.ak_public.begin()));
  EXPECT_EQ(to_hex(ByteSpan(identity.ak_public).first(8)), "0001000b00050472");
  EXPECT_EQ(identity.ak_name.size(), 34u);
  // The TPM's own name of it: behind the TPM2B_PUBLIC.
  EXPECT_EQ(Bytes(there.body.begin() + 2 + static_cast<std::ptrdiff_t>(area.size()) + 2,
                  there.body.begin() + 2 + static_cast<std::ptrdiff_t>(area.size()) + 2 + 34),
            identity.ak_name);
  EXPECT_EQ(identity.ek_certificate, Bytes(1500, std::byte{0x5A}));
  EXPECT_EQ(read()->ak_name, identity.ak_name);
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, quotes_the_pcrs_it_is_asked_for) {
  ASSERT_EQ(guest->extend_pcr(7, std::byte{3}), kRcSuccess);
  const Quote made = *quote_now();
  expect_quote_holds(made, "0123456789abcdef");
  const Bytes seen = guest->read_pcr(7);
  EXPECT_EQ(made.pcrs.at(kAlgSha256).at(7), seen);
  std::vector<uint8_t> all(24);
  for (uint8_t i = 0; i < 24; ++i) all[i] = i;
  expect_quote_holds(*quote_now(as_bytes("x"), {{kAlgSha256, all}}), "x");
  EXPECT_TRUE(quote_now(Bytes(64)).ok());
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, refuses_what_cannot_be_quoted) {
  const auto refused = [&](ByteSpan nonce, const PcrSelection& pcrs) {
    return quote_now(nonce, pcrs).error().code;
  };
  const Bytes nonce(16);
  EXPECT_EQ(refused({}, {{kAlgSha256, {0}}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(Bytes(65), {{kAlgSha256, {0}}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(nonce, {}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(nonce, {{kAlgSha256, {}}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(nonce, {{kAlgSha256, {24}}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(nonce, {{kAlgSha384, {0}}}), ErrorCode::kInvalidArgument);  // not allocated
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, opens_credentials_for_itself_only) {
  expect_activation_works();
  Bytes other_name = identity.ak_name;
  other_name.back() ^= std::byte{1};
  const auto [id_object, secret] = make_credential(other_name, "not for you");
  EXPECT_EQ(activate(id_object, secret).error().code, ErrorCode::kWrongKey);
  for (size_t at = 0; at < secret.size(); at += 37) {
    Bytes bad = secret;
    bad[at] ^= std::byte{1};
    EXPECT_FALSE(activate(id_object, bad).ok()) << at;
  }
  EXPECT_EQ(activate({}, secret).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(activate(Bytes(3000), secret).error().code, ErrorCode::kInvalidArgument);
  expect_nothing_left_behind();
  expect_activation_works();
}

TEST_F(AttestationKey, outlives_eviction_and_a_clear_of_the_tpm) {
  ASSERT_EQ(evict(kAttestationKeyHandle), kRcSuccess);
  ASSERT_EQ(evict(kEkRsaHandle), kRcSuccess);
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  EXPECT_EQ(read()->ak_name, identity.ak_name);  // persistent once more
  EXPECT_EQ(read()->ek_public, identity.ek_public);
  EXPECT_EQ(handles(0x8101FF00).size(), 1u);

  ASSERT_EQ(
      guest->send(CommandBuilder(kTagSessions, kCcClear).u32(kHandleLockout).password().finish())
          .code,
      kRcSuccess);
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  EXPECT_EQ(read()->ak_name, identity.ak_name);
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, is_not_replaced_by_a_key_put_in_its_place) {
  // The guest's own restricted signing key, of the same kind, at our handle.
  Bytes area = attestation_key_template();
  area.back() = std::byte{1};
  const SendCommand send = [&](ByteSpan command) { return engine->process(command); };
  const PrimaryKey other = *create_primary(send, kHandleEndorsement, area);
  ASSERT_EQ(evict(kAttestationKeyHandle), kRcSuccess);
  ASSERT_TRUE(persist(send, other.handle, kAttestationKeyHandle).ok());
  ASSERT_TRUE(flush(send, other.handle).ok());
  const TpmIdentity seen = *read();
  EXPECT_NE(seen.ak_name, identity.ak_name);
  EXPECT_EQ(read(identity.ak_name)->ak_name, identity.ak_name);  // the enrolled one, made again
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  expect_activation_works();
  // Asked to be another vTPM's, it says no.
  identity.ak_name.back() ^= std::byte{1};
  EXPECT_EQ(quote_now().error().code, ErrorCode::kWrongKey);
  identity.ak_name = seen.ak_name;  // what a host that had pinned the guest's key would ask for
  EXPECT_TRUE(quote_now().ok());
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, quotes_though_the_guest_owns_the_hierarchies) {
  for (const uint32_t hierarchy : {kHandleOwner, kHandleEndorsement}) {
    ASSERT_EQ(guest
                  ->send(CommandBuilder(kTagSessions, kCcHierarchyChangeAuth)
                             .u32(hierarchy)
                             .password()
                             .sized(as_bytes("secret"))
                             .finish())
                  .code,
              kRcSuccess);
  }
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  const auto [id_object, secret] = make_credential(identity.ak_name, "x");
  EXPECT_EQ(activate(id_object, secret).error().code, ErrorCode::kUnavailable);
  expect_nothing_left_behind();
}

// Both together leave nothing to quote with: said in words, and the mend that it names mends it.
TEST_F(AttestationKey, says_what_a_password_and_an_evicted_key_take_away_and_what_mends_it) {
  const auto password = [&](std::string_view from, std::string_view to) {
    CommandBuilder command(kTagSessions, kCcHierarchyChangeAuth);
    command.u32(kHandleEndorsement);
    return guest->send(command.password(as_bytes(from)).sized(as_bytes(to)).finish()).code;
  };
  ASSERT_EQ(password("", "secret"), kRcSuccess);
  ASSERT_EQ(evict(kAttestationKeyHandle), kRcSuccess);
  const Error refused = quote_now().error();
  EXPECT_EQ(refused.code, ErrorCode::kUnavailable);
  EXPECT_NE(refused.cause.find("the guest has set a password on the vTPM's endorsement hierarchy"),
            std::string::npos)
      << refused.cause;
  EXPECT_NE(refused.mend.find("tpm2_changeauth -c endorsement"), std::string::npos) << refused.mend;
  EXPECT_EQ(read(identity.ak_name).error().mend, refused.mend);
  const auto [id_object, secret] = make_credential(identity.ak_name, "x");
  EXPECT_EQ(activate(id_object, secret).error().mend, refused.mend);
  // As the mend has it: off, read once, and on again.
  ASSERT_EQ(password("secret", ""), kRcSuccess);
  EXPECT_EQ(read(identity.ak_name)->ak_name, identity.ak_name);
  ASSERT_EQ(password("", "secret"), kRcSuccess);
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  expect_nothing_left_behind();
}

TEST_F(AttestationKey, says_that_the_hierarchy_is_switched_off) {
  constexpr uint32_t kCcHierarchyControl = 0x121;
  ASSERT_EQ(evict(kAttestationKeyHandle), kRcSuccess);
  ASSERT_EQ(guest
                ->send(CommandBuilder(kTagSessions, kCcHierarchyControl)
                           .u32(kHandleEndorsement)
                           .password()
                           .u32(kHandleEndorsement)
                           .u8(0)
                           .finish())
                .code,
            kRcSuccess);
  const Error refused = quote_now().error();
  EXPECT_NE(refused.cause.find("switched the vTPM's endorsement hierarchy off"), std::string::npos)
      << refused.cause;
  EXPECT_NE(refused.mend.find("restart the VM"), std::string::npos) << refused.mend;
}

TEST_F(AttestationKey, waits_for_room_and_leaves_the_guests_keys_alone) {
  std::vector<uint32_t> held;
  for (int i = 0; i < 3; ++i) held.push_back(guest->create_primary());
  EXPECT_EQ(quote_now().error().code, ErrorCode::kTimeout);
  EXPECT_EQ(handles(0x80000000), held);
  guest->send(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(held.back()).finish());
  held.pop_back();
  expect_quote_holds(*quote_now(), "0123456789abcdef");
  EXPECT_EQ(handles(0x80000000), held);
  // Two keys are needed at once for this.
  const auto [id_object, secret] = make_credential(identity.ak_name, "x");
  EXPECT_EQ(activate(id_object, secret).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(handles(0x80000000), held);
  for (const uint32_t handle : held) {
    EXPECT_EQ(
        guest->send(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(handle).finish()).code,
        kRcSuccess);
  }
  expect_activation_works();
}

TEST_F(AttestationKey, leaves_a_guests_shutdown_and_a_migration_alone) {
  ASSERT_EQ(guest->shutdown(), kRcSuccess);
  EXPECT_EQ(quote_now().error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(engine->init().ok());
  EXPECT_EQ(quote_now().error().code, ErrorCode::kUnavailable);  // not started up yet
  ASSERT_EQ(guest->startup(), kRcSuccess);
  ASSERT_TRUE(quote_now().ok());
  ASSERT_TRUE(engine->get_state(StateType::kVolatile).ok());
  EXPECT_EQ(quote_now().error().code, ErrorCode::kUnavailable);
  guest->read_pcr(0);  // it goes on here after all
  EXPECT_TRUE(quote_now().ok());
  ASSERT_TRUE(engine->power_off().ok());
  EXPECT_EQ(quote_now().error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace hf::vtpm
