#include "vtpm/key_templates.h"

namespace hf::vtpm {
namespace {

// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, and then
// adminWithPolicy (L-1), userWithAuth too (H-3), or userWithAuth and noDA (SRK). The attestation
// key signs instead of decrypting.
constexpr uint32_t kEkLowAttributes = 0x000300B2;
constexpr uint32_t kEkHighAttributes = 0x000300F2;
constexpr uint32_t kSrkAttributes = 0x00030472;
constexpr uint32_t kAttestationKeyAttributes = 0x00050472;
constexpr std::string_view kAttestationKeyUnique = "holdfast attestation key v1";

// PolicySecret(TPM_RH_ENDORSEMENT), EK Credential Profile B.3.
constexpr std::string_view kEkLowPolicy =
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
// PolicyOR of that and PolicyAuthorizeNV, B.6.
constexpr std::string_view kEkHighPolicy =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e"
    "12";

Bytes policy(std::string_view hex) { return std::move(from_hex(hex)).value(); }

// A TPMT_PUBLIC, built with the command builder's fields.
class PublicArea {
 public:
  PublicArea(uint16_t type, uint16_t name_algorithm, uint32_t attributes, ByteSpan auth_policy) {
    fields_.u16(type).u16(name_algorithm).u32(attributes).sized(auth_policy);
  }
  CommandBuilder& fields() { return fields_; }
  Bytes finish() {
    Bytes all = fields_.finish();
    return Bytes(all.begin() + kTpmHeaderSize, all.end());
  }

 private:
  CommandBuilder fields_{0, 0};
};

Bytes rsa_2048_template(uint32_t attributes, ByteSpan auth_policy) {
  PublicArea area(kAlgRsa, kAlgSha256, attributes, auth_policy);
  area.fields().u16(kAlgAes).u16(128).u16(kAlgCfb);  // symmetric
  area.fields().u16(kAlgNull).u16(2048).u32(0);      // scheme, key bits, exponent
  area.fields().sized(Bytes(256));                   // unique
  return area.finish();
}

Bytes ecc_p384_template(uint32_t attributes, ByteSpan auth_policy) {
  PublicArea area(kAlgEcc, kAlgSha384, attributes, auth_policy);
  area.fields().u16(kAlgAes).u16(256).u16(kAlgCfb);           // symmetric
  area.fields().u16(kAlgNull).u16(kCurveP384).u16(kAlgNull);  // scheme, curve, kdf
  area.fields().sized({}).sized({});                          // unique: x, y
  return area.finish();
}

}  // namespace

Bytes ek_rsa_template() { return rsa_2048_template(kEkLowAttributes, policy(kEkLowPolicy)); }
Bytes ek_ecc_template() { return ecc_p384_template(kEkHighAttributes, policy(kEkHighPolicy)); }
Bytes srk_template() { return rsa_2048_template(kSrkAttributes, {}); }

Bytes attestation_key_template() {
  PublicArea area(kAlgRsa, kAlgSha256, kAttestationKeyAttributes, {});
  area.fields().u16(kAlgNull);  // symmetric: it has no children
  area.fields().u16(kAlgRsassa).u16(kAlgSha256);
  area.fields().u16(2048).u32(0);  // key bits, exponent
  Bytes unique(256);
  std::ranges::copy(as_bytes(kAttestationKeyUnique), unique.begin());
  area.fields().sized(unique);
  return area.finish();
}

Result<PrimaryKey> create_primary(const SendCommand& send, uint32_t hierarchy, ByteSpan area) {
  const Bytes command = CommandBuilder(kTagSessions, kCcCreatePrimary)
                            .u32(hierarchy)
                            .password()
                            .u16(4)
                            .u16(0)
                            .u16(0)  // sensitive: no authorization value, no data
                            .sized(area)
                            .u16(0)  // outside info
                            .u32(0)  // creation PCRs
                            .finish();
  const Bytes answer = TRY(send(command));
  ResponseReader reader(TRY(expect_success(answer, "create a primary key")));
  PrimaryKey key{.handle = TRY(reader.u32()), .public_area = {}};
  TRY(reader.u32());  // parameter size
  const ByteSpan made = TRY(reader.sized());
  key.public_area.assign(made.begin(), made.end());
  return key;
}

Status persist(const SendCommand& send, uint32_t handle, uint32_t persistent) {
  const Bytes answer = TRY(send(CommandBuilder(kTagSessions, kCcEvictControl)
                                    .u32(kHandleOwner)
                                    .u32(handle)
                                    .password()
                                    .u32(persistent)
                                    .finish()));
  TRY(expect_success(answer, "make a key persistent"));
  return {};
}

Status flush(const SendCommand& send, uint32_t handle) {
  const Bytes answer =
      TRY(send(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(handle).finish()));
  TRY(expect_success(answer, "flush a key"));
  return {};
}

}  // namespace hf::vtpm
