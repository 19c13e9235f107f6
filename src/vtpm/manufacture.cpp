#include "vtpm/manufacture.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::vtpm {
namespace {

// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, and then
// adminWithPolicy (L-1), userWithAuth too (H-3), or userWithAuth and noDA (SRK).
constexpr uint32_t kEkLowAttributes = 0x000300B2;
constexpr uint32_t kEkHighAttributes = 0x000300F2;
constexpr uint32_t kSrkAttributes = 0x00030472;

// PolicySecret(TPM_RH_ENDORSEMENT), EK Credential Profile B.3.
constexpr std::string_view kEkLowPolicy =
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
// PolicyOR of that and PolicyAuthorizeNV, B.6.
constexpr std::string_view kEkHighPolicy =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e"
    "12";

// TPMA_NV before writing: platformcreate, no_da, authread, ownerread, ppread, writedefine, ppwrite.
// WRITTEN and WRITELOCKED come by themselves: 0x62072801 in the end.
constexpr uint32_t kCertificateAttributes = 0x42072001;
constexpr size_t kNvChunk = 1024;  // libtpms' MAX_NV_BUFFER_SIZE

constexpr std::array kLibtpmsBanks = {kAlgSha1, kAlgSha256, kAlgSha384, kAlgSha512};

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

Result<EkPublic> parse_ek_public(EkKind kind, ByteSpan area) {
  ResponseReader reader(area);
  TRY(reader.raw(8));   // type, nameAlg, attributes
  TRY(reader.sized());  // policy
  EkPublic key{.kind = kind, .public_area = Bytes(area.begin(), area.end())};
  const auto copy = [](ByteSpan from) { return Bytes(from.begin(), from.end()); };
  if (kind == EkKind::kRsa2048) {
    TRY(reader.raw(6 + 2 + 2 + 4));  // symmetric, scheme, key bits, exponent
    key.modulus = copy(TRY(reader.sized()));
    if (key.modulus.size() != 256) return Error{.cause = "EK of an unexpected size"};
  } else {
    TRY(reader.raw(6 + 2 + 2 + 2));  // symmetric, scheme, curve, kdf
    key.x = copy(TRY(reader.sized()));
    key.y = copy(TRY(reader.sized()));
    if (key.x.size() != 48 || key.y.size() != 48) return Error{.cause = "EK of an unexpected size"};
  }
  return key;
}

class Line {
 public:
  Line(Engine& engine, const ManufactureOptions& options) : engine_(engine), options_(options) {}

  Status run() {
    TRY(engine_.init());
    TRY(send(startup_command(StartupType::kClear), "start the new TPM up"));
    TRY(allocate_pcr_banks());
    TRY(make_primary(kHandleOwner, rsa_2048_template(kSrkAttributes, {}), kSrkHandle, "SRK"));
    const Bytes rsa = TRY(make_primary(kHandleEndorsement,
                                       rsa_2048_template(kEkLowAttributes, policy(kEkLowPolicy)),
                                       kEkRsaHandle, "EK RSA-2048"));
    const Bytes ecc = TRY(make_primary(kHandleEndorsement,
                                       ecc_p384_template(kEkHighAttributes, policy(kEkHighPolicy)),
                                       kEkEccHandle, "EK ECC P-384"));
    if (options_.issuer != nullptr) TRY(certify(rsa, ecc));
    return engine_.power_off();
  }

 private:
  // The response's parameters and handles, without its header.
  Result<Bytes> send(Bytes command, std::string_view doing) {
    const Bytes response = TRY_CONTEXT(engine_.process(command), doing);
    const ByteSpan body = TRY(expect_success(response, doing));
    return Bytes(body.begin(), body.end());
  }

  Status allocate_pcr_banks() {
    HF_ASSERT(!options_.pcr_banks.empty());
    CommandBuilder command(kTagSessions, kCcPcrAllocate);
    command.u32(kHandlePlatform).password();
    command.u32(kLibtpmsBanks.size());
    for (const uint16_t bank : kLibtpmsBanks) {
      const bool on = std::ranges::count(options_.pcr_banks, bank) != 0;
      const uint8_t select = on ? 0xFF : 0;
      command.u16(bank).u8(3).u8(select).u8(select).u8(select);
    }
    const Bytes answer = TRY(send(command.finish(), "allocate PCR banks"));
    ResponseReader reader(answer);
    TRY(reader.u32());  // parameter size
    if (TRY(reader.u8()) == 0) return Error{.cause = "the TPM refused the PCR banks"};
    return {};
  }

  // Returns the public area.
  Result<Bytes> make_primary(uint32_t hierarchy, const Bytes& area, uint32_t persistent,
                             std::string_view what) {
    Bytes command = CommandBuilder(kTagSessions, kCcCreatePrimary)
                        .u32(hierarchy)
                        .password()
                        .u16(4)
                        .u16(0)
                        .u16(0)  // sensitive: no authorization value, no data
                        .sized(area)
                        .u16(0)  // outside info
                        .u32(0)  // creation PCRs
                        .finish();
    const Bytes answer = TRY(send(std::move(command), fmt::format("create {}", what)));
    ResponseReader reader(answer);
    const uint32_t handle = TRY(reader.u32());
    TRY(reader.u32());  // parameter size
    const ByteSpan made = TRY(reader.sized());
    // TPM2_EvictControl keeps a copy under the persistent handle; owner authorization for all
    // three.
    TRY(send(CommandBuilder(kTagSessions, kCcEvictControl)
                 .u32(kHandleOwner)
                 .u32(handle)
                 .password()
                 .u32(persistent)
                 .finish(),
             fmt::format("persist {}", what)));
    TRY(send(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(handle).finish(),
             fmt::format("flush {}", what)));
    return Bytes(made.begin(), made.end());
  }

  Status certify(ByteSpan rsa_area, ByteSpan ecc_area) {
    const EkPublic rsa = TRY(parse_ek_public(EkKind::kRsa2048, rsa_area));
    const EkPublic ecc = TRY(parse_ek_public(EkKind::kEccP384, ecc_area));
    const Bytes rsa_certificate = TRY(options_.issuer->endorsement_certificate(rsa));
    TRY(write_certificate(kEkRsaCertificateIndex, rsa_certificate));
    const Bytes ecc_certificate = TRY(options_.issuer->endorsement_certificate(ecc));
    TRY(write_certificate(kEkEccCertificateIndex, ecc_certificate));
    const std::optional<Bytes> platform = TRY(options_.issuer->platform_certificate(rsa));
    if (platform) TRY(write_certificate(kPlatformCertificateIndex, *platform));
    return {};
  }

  Status write_certificate(uint32_t index, const Bytes& der) {
    if (der.empty() || der.size() > kCertificateSizeMax) {
      return Error{.code = ErrorCode::kLimit,
                   .cause = fmt::format("a certificate of {} bytes for NV index 0x{:08x}, the TPM "
                                        "takes up to {}",
                                        der.size(), index, kCertificateSizeMax)};
    }
    Bytes public_info = CommandBuilder(0, 0)
                            .u32(index)
                            .u16(kAlgSha256)
                            .u32(kCertificateAttributes)
                            .u16(0)
                            .u16(static_cast<uint16_t>(der.size()))
                            .finish();
    TRY(send(CommandBuilder(kTagSessions, kCcNvDefineSpace)
                 .u32(kHandlePlatform)
                 .password()
                 .u16(0)
                 .sized(ByteSpan(public_info).subspan(kTpmHeaderSize))
                 .finish(),
             "define a certificate's NV index"));
    for (size_t at = 0; at < der.size(); at += kNvChunk) {
      const ByteSpan chunk = ByteSpan(der).subspan(at, std::min(kNvChunk, der.size() - at));
      TRY(send(CommandBuilder(kTagSessions, kCcNvWrite)
                   .u32(kHandlePlatform)
                   .u32(index)
                   .password()
                   .sized(chunk)
                   .u16(static_cast<uint16_t>(at))
                   .finish(),
               "write a certificate"));
    }
    TRY(send(CommandBuilder(kTagSessions, kCcNvWriteLock)
                 .u32(kHandlePlatform)
                 .u32(index)
                 .password()
                 .finish(),
             "lock a certificate"));
    return {};
  }

  Engine& engine_;
  const ManufactureOptions& options_;
};

}  // namespace

Status manufacture(Engine& engine, const ManufactureOptions& options) {
  HF_ASSERT(!engine.running());
  return Line(engine, options).run();
}

}  // namespace hf::vtpm
