#include "secure_boot/preflight/signed_program.h"

#include "base/base64.h"
#include "secure_boot/efi/guid.h"
#include "secure_boot/image/signature_search.h"

namespace hf::secure_boot {
namespace {

std::optional<Authority> find_in(const SignatureSource& source, const SignedProgram& program,
                                 CertificatesTried tried) {
  if (auto found = find_digest(source, DigestAlgorithm::kSha256, program.sha256)) return found;
  for (const Bytes& blob : program.signatures) {
    Result<AuthenticodeSignature> signature = AuthenticodeSignature::parse(blob);
    if (!signature.ok()) continue;
    if (auto found = find_certificate(source, *signature, tried)) return found;
  }
  return std::nullopt;
}

// As judge_by_firmware() goes through the signatures.
std::optional<Authority> firmware_authority(const SignedProgram& program,
                                            const SecureBootState& state) {
  const SignatureSource db{state.db, "db", guids::kImageSecurity};
  const SignatureSource dbx{state.dbx, "dbx", guids::kImageSecurity};
  if (auto found = find_digest(db, DigestAlgorithm::kSha256, program.sha256)) return found;
  for (const Bytes& blob : program.signatures) {
    Result<AuthenticodeSignature> signature = AuthenticodeSignature::parse(blob);
    if (!signature.ok()) continue;
    auto found = find_certificate(db, *signature, CertificatesTried::kAll);
    if (found && !find_tbs_digest(dbx, ByteSpan(found->data).subspan(Guid::kSize))) return found;
  }
  return std::nullopt;
}

// The signer whom dbx lists by the digest of his certificate.
std::optional<Authority> revoked_signer(const SignedProgram& program, const SignatureSource& dbx) {
  for (const Bytes& blob : program.signatures) {
    Result<AuthenticodeSignature> signature = AuthenticodeSignature::parse(blob);
    if (!signature.ok()) continue;
    for (const Bytes& signer : signature->signers()) {
      if (auto found = find_tbs_digest(dbx, signer)) return found;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Authority> authority_for(const SignedProgram& program, const SecureBootState& state) {
  if (program.judged_by == "firmware") return firmware_authority(program, state);
  const SignatureSource db{state.db, "db", guids::kImageSecurity};
  if (!state.mok_ignores_db) {
    if (auto found = find_in(db, program, CertificatesTried::kAsShim)) return found;
  }
  if (program.vouched && program.vouched->from_shim) return program.vouched;
  const SignatureSource mok{state.mok, "MokListRT", guids::kShimLock};
  return find_in(mok, program, CertificatesTried::kAsShim);
}

std::optional<Authority> revocation_of(const SignedProgram& program, const SecureBootState& state) {
  const SignatureSource dbx{state.dbx, "dbx", guids::kImageSecurity};
  if (auto found = find_in(dbx, program, CertificatesTried::kAll)) return found;
  if (program.judged_by != "shim") return revoked_signer(program, dbx);
  const SignatureSource mokx{state.mokx, "MokListXRT", guids::kShimLock};
  return find_in(mokx, program, CertificatesTried::kAsShim);
}

std::vector<SignedProgram> signed_programs_of(const PreflightReport& report) {
  std::vector<SignedProgram> programs;
  const BootPath* path = deciding_path(report);
  if (path == nullptr) return programs;
  for (const BootPart& part : path->parts) {
    if (programs.size() == kSignedProgramsMax) break;
    if (part.judged_by != "firmware" && part.judged_by != "shim") continue;
    Result<Bytes> digest = from_hex(part.authenticode_sha256);
    programs.push_back({.path = part.path,
                        .judged_by = part.judged_by,
                        .sha256 = digest.ok() ? *digest : Bytes(),
                        .signatures = part.pkcs7,
                        .vouched = part.verdict.authority});
  }
  return programs;
}

std::vector<Authority> authorities_of(const std::vector<SignedProgram>& programs,
                                      const SecureBootState& state) {
  std::vector<Authority> authorities;
  for (const SignedProgram& program : programs) {
    if (auto found = authority_for(program, state)) authorities.push_back(*std::move(found));
  }
  return authorities;
}

sys::JsonArray to_json(const std::vector<SignedProgram>& programs) {
  sys::JsonArray list;
  for (const SignedProgram& program : programs) {
    sys::JsonArray signatures;
    for (const Bytes& blob : program.signatures) signatures.emplace_back(base64_encode(blob));
    sys::JsonObject json{{"path", program.path},
                         {"judged_by", program.judged_by},
                         {"sha256", to_hex(program.sha256)},
                         {"signatures", std::move(signatures)}};
    if (program.vouched) {
      json["vouched"] = sys::JsonObject{{"variable", program.vouched->variable},
                                        {"vendor", program.vouched->vendor.text()},
                                        {"data", base64_encode(program.vouched->data)},
                                        {"words", program.vouched->words},
                                        {"from_shim", program.vouched->from_shim}};
    }
    list.push_back(std::move(json));
  }
  return list;
}

Result<std::vector<SignedProgram>> signed_programs_from_json(const sys::JsonArray& list) {
  std::vector<SignedProgram> programs;
  for (const sys::JsonValue& item : list) {
    if (!item.is_object() || programs.size() == kSignedProgramsMax) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a broken list of boot programs"};
    }
    const sys::JsonObject& json = item.get_object();
    SignedProgram program{.path = TRY(sys::get_string(json, "path")),
                          .judged_by = TRY(sys::get_string(json, "judged_by")),
                          .sha256 = TRY(from_hex(TRY(sys::get_string(json, "sha256"))))};
    for (const std::string& blob : TRY(sys::get_strings(json, "signatures"))) {
      program.signatures.push_back(TRY(base64_decode(blob)));
    }
    if (sys::has_member(json, "vouched")) {
      const sys::JsonObject& by = *TRY(sys::get_object(json, "vouched"));
      program.vouched = Authority{.variable = TRY(sys::get_string(by, "variable")),
                                  .vendor = TRY(Guid::parse(TRY(sys::get_string(by, "vendor")))),
                                  .data = TRY(base64_decode(TRY(sys::get_string(by, "data")))),
                                  .words = TRY(sys::get_string(by, "words"))};
      // Older records do not say it; what vouched then and was not db counted as shim's.
      program.vouched->from_shim =
          TRY(sys::get_bool_or(by, "from_shim", program.vouched->variable != "db"));
    }
    programs.push_back(std::move(program));
  }
  return programs;
}

}  // namespace hf::secure_boot
