#include "vtpm/manufacture.h"

#include <fmt/format.h>

#include <algorithm>

#include "vtpm/key_templates.h"

namespace hf::vtpm {
namespace {

// TPMA_NV before writing: platformcreate, no_da, authread, ownerread, ppread, writedefine, ppwrite.
// WRITTEN and WRITELOCKED come by themselves: 0x62072801 in the end.
constexpr uint32_t kCertificateAttributes = 0x42072001;
constexpr size_t kNvChunk = 1024;  // libtpms' MAX_NV_BUFFER_SIZE

constexpr std::array kLibtpmsBanks = {kAlgSha1, kAlgSha256, kAlgSha384, kAlgSha512};

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
    TRY(make_primary(kHandleOwner, srk_template(), kSrkHandle, "SRK"));
    const Bytes rsa =
        TRY(make_primary(kHandleEndorsement, ek_rsa_template(), kEkRsaHandle, "EK RSA-2048"));
    const Bytes ecc =
        TRY(make_primary(kHandleEndorsement, ek_ecc_template(), kEkEccHandle, "EK ECC P-384"));
    TRY(make_primary(kHandleEndorsement, attestation_key_template(), kAttestationKeyHandle,
                     "attestation key"));
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
    const auto send = [this](ByteSpan command) { return engine_.process(command); };
    PrimaryKey made = TRY_CONTEXT(create_primary(send, hierarchy, area), what);
    TRY_CONTEXT(persist(send, made.handle, persistent), what);
    TRY_CONTEXT(flush(send, made.handle), what);
    return std::move(made.public_area);
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
