#include "attestation/tpm/evidence.h"

#include <algorithm>

#include "base/base64.h"

namespace hf::attestation {
namespace {

constexpr uint64_t kVersion = 1;
constexpr size_t kCertificateTextMax = 16384;
constexpr size_t kCertificateDerMax = 8192;
constexpr size_t kVariablesMax = 32;
constexpr size_t kVariableNameMax = 64;

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}
Error too_long(std::string_view name, size_t size_max) {
  return Error{.code = ErrorCode::kLimit,
               .cause = "member \"" + std::string(name) + "\" is longer than " +
                        std::to_string(size_max) + " bytes"};
}

std::string_view text_of(const boost::json::string& text) { return {text.data(), text.size()}; }

// The text of a member without a copy; nullopt if absent or null.
Result<std::optional<std::string_view>> find_text(const sys::JsonObject& object,
                                                  std::string_view name) {
  if (!sys::has_member(object, name)) return std::optional<std::string_view>();
  return std::optional(TRY(sys::get_text(object, name)));
}

Result<Bytes> decode_member(std::string_view name, std::string_view text, size_t size_max) {
  if (text.size() > size_max / 3 * 4 + 4) return too_long(name, size_max);
  Result<Bytes> bytes = base64_decode(text);
  if (!bytes.ok()) return invalid("member \"" + std::string(name) + "\" is not base64");
  if (bytes->size() > size_max) return too_long(name, size_max);
  return bytes;
}

Result<std::optional<Bytes>> get_optional(const sys::JsonObject& object, std::string_view name,
                                          size_t size_max) {
  const std::optional<std::string_view> text = TRY(find_text(object, name));
  if (!text) return std::optional<Bytes>();
  return std::optional<Bytes>(TRY(decode_member(name, *text, size_max)));
}

Result<Bytes> get_required(const sys::JsonObject& object, std::string_view name, size_t size_max) {
  std::optional<Bytes> bytes = TRY(get_optional(object, name, size_max));
  if (!bytes) return invalid("member \"" + std::string(name) + "\" is missing");
  return std::move(*bytes);
}

// "0" to "23" and no other spelling.
std::optional<uint32_t> parse_pcr_number(std::string_view text) {
  for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if (text == std::to_string(pcr)) return pcr;
  }
  return std::nullopt;
}

Result<PcrValues> parse_bank(std::string_view name, const sys::JsonValue& value) {
  const std::optional<HashAlg> alg = parse_hash_alg(name);
  if (!alg) return invalid("\"pcrs\": " + std::string(name) + " is not a PCR bank we know");
  if (!value.is_object()) return invalid("\"pcrs\": a bank that is not an object");
  PcrValues bank{.bank = *alg, .values = {}};
  for (const auto& member : value.get_object()) {
    const std::string_view key(member.key().data(), member.key().size());
    const std::optional<uint32_t> pcr = parse_pcr_number(key);
    if (!pcr) return invalid("\"pcrs\": a PCR number that is not 0 to 23");
    if (!member.value().is_string()) return invalid("\"pcrs\": a value that is not hex");
    Result<Bytes> bytes = from_hex(text_of(member.value().get_string()));
    if (!bytes.ok() || bytes->size() != size_of(*alg)) {
      return invalid("\"pcrs\": the value of PCR " + std::to_string(*pcr) + " is not a " +
                     std::string(name) + " digest in hex");
    }
    bank.values[*pcr] = std::move(*bytes);
  }
  return bank;
}

Result<std::vector<PcrValues>> parse_pcrs(const sys::JsonObject& object) {
  std::vector<PcrValues> banks;
  const sys::JsonObject* pcrs = TRY(sys::get_object(object, "pcrs"));
  for (const auto& member : *pcrs) {
    const std::string_view name(member.key().data(), member.key().size());
    banks.push_back(TRY(parse_bank(name, member.value())));
  }
  if (banks.empty()) return invalid("\"pcrs\" names no bank");
  return banks;
}

Result<std::map<std::string, Bytes>> parse_variables(const sys::JsonObject& object) {
  std::map<std::string, Bytes> variables;
  if (!sys::has_member(object, "secure_boot")) return variables;
  const sys::JsonObject* members = TRY(sys::get_object(object, "secure_boot"));
  if (members->size() > kVariablesMax) return invalid("\"secure_boot\" names too many variables");
  for (const auto& member : *members) {
    const std::string name(member.key().data(), member.key().size());
    if (name.empty() || name.size() > kVariableNameMax) {
      return invalid("\"secure_boot\": a variable without a proper name");
    }
    if (member.value().is_null()) continue;  // the variable does not exist
    if (!member.value().is_string())
      return invalid("\"secure_boot\": a variable that is not base64");
    variables.emplace(name, TRY(decode_member(name, text_of(member.value().get_string()),
                                              kSecureBootVariableMax)));
  }
  return variables;
}

Result<Evidence> parse_members(const sys::JsonObject& object) {
  if (TRY(sys::get_u64(object, "version")) != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a version of evidence other than 1"};
  }
  Evidence evidence;
  if (sys::has_member(object, "vm")) {
    evidence.vm = TRY_CONTEXT(VmId::parse_hex(TRY(sys::get_string(object, "vm"))), "member \"vm\"");
  }
  Result<Bytes> nonce = base64url_decode(TRY(sys::get_string(object, "nonce")));
  if (!nonce.ok() || nonce->size() < kNonceMin || nonce->size() > kNonceMax) {
    return invalid("member \"nonce\" is not 8 to 64 bytes in base64url");
  }
  evidence.nonce = std::move(*nonce);
  evidence.quote = TRY(get_required(object, "quote", kAttestMax));
  evidence.signature = TRY(get_required(object, "signature", kSignatureMax));
  evidence.ak_public = TRY(get_required(object, "ak_public", kPublicAreaMax));
  if (const auto pem = TRY(find_text(object, "ak_certificate"))) {
    if (pem->size() > kCertificateTextMax) return too_long("ak_certificate", kCertificateTextMax);
    evidence.ak_certificate = std::string(*pem);
  }
  evidence.ek_certificate = TRY(get_optional(object, "ek_certificate", kCertificateDerMax));
  evidence.pcrs = TRY(parse_pcrs(object));
  evidence.event_log = TRY(get_optional(object, "event_log", kEvidenceEventLogMax));
  if (sys::has_member(object, "extends")) {
    const sys::JsonObject* record = TRY(sys::get_object(object, "extends"));
    if (TRY(sys::get_array(*record, "extends"))->size() > kEvidenceExtendsMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "more extends than a boot makes"};
    }
    evidence.extends = *record;
  }
  evidence.secure_boot = TRY(parse_variables(object));
  return evidence;
}

}  // namespace

Result<Evidence> parse_evidence(std::string_view json) {
  const sys::JsonLimits limits{
      .bytes_max = kEvidenceTextMax, .depth_max = 8, .duplicates = sys::JsonDuplicates::kRefuse};
  const sys::JsonObject object = TRY_CONTEXT(sys::parse_json_object(json, limits), "evidence");
  return TRY_CONTEXT(parse_members(object), "evidence");
}

sys::JsonObject to_json(const Evidence& evidence) {
  sys::JsonObject object;
  object["version"] = kVersion;
  if (evidence.vm) object["vm"] = evidence.vm->hex();
  object["nonce"] = base64url_encode(evidence.nonce);
  object["quote"] = base64_encode(evidence.quote);
  object["signature"] = base64_encode(evidence.signature);
  object["ak_public"] = base64_encode(evidence.ak_public);
  if (evidence.ak_certificate) object["ak_certificate"] = *evidence.ak_certificate;
  if (evidence.ek_certificate) object["ek_certificate"] = base64_encode(*evidence.ek_certificate);
  sys::JsonObject& pcrs = object["pcrs"].emplace_object();
  for (const PcrValues& bank : evidence.pcrs) {
    sys::JsonObject& values = pcrs[name_of(bank.bank)].emplace_object();
    for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
      if (bank.values[pcr]) values[std::to_string(pcr)] = to_hex(*bank.values[pcr]);
    }
  }
  if (evidence.event_log) object["event_log"] = base64_encode(*evidence.event_log);
  if (evidence.extends) object["extends"] = *evidence.extends;
  if (!evidence.secure_boot.empty()) {
    sys::JsonObject& variables = object["secure_boot"].emplace_object();
    for (const auto& [name, data] : evidence.secure_boot) variables[name] = base64_encode(data);
  }
  return object;
}

Result<QuotedPcrs> verify_quote(const Evidence& evidence, const QuoteExpectation& expectation) {
  const TpmPublic ak = TRY(parse_public(evidence.ak_public));
  return verify_quote(ak, evidence.quote, evidence.signature, evidence.pcrs, expectation);
}

}  // namespace hf::attestation
