// An appraisal policy: what a boot must be like for a VM to be called healthy. A file in JSON,
// docs/formats/appraisal-policy.md; "linux" and "windows" are built in and can be extended.
//
// Parsing is strict: a member that is not known is refused by name, so that a misspelt requirement
// is never silently no requirement.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/log/pcr.h"
#include "base/ids.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::attestation {

inline constexpr size_t kPolicyJsonMax = size_t{256} << 10;
inline constexpr size_t kPolicyListMax = 4096;   // entries of any list
inline constexpr size_t kPolicyTextMax = 16384;  // characters of any string

// How the events of a PCR are judged.
enum class PcrRule : uint8_t {
  kIgnore,
  kNote,      // compared with the baseline; a difference is told and does no harm
  kBaseline,  // the events up to the operating system's start must be the baseline's
  kSigned,    // programs may change while PCR 7 shows the same authorities as the baseline
  kValues     // the register must have one of `values`
};
struct PcrPolicy {
  PcrRule rule = PcrRule::kIgnore;
  std::vector<PcrDigest> values;
  bool operator==(const PcrPolicy&) const = default;
};

// A certificate or a digest in db, MOK or shim that vouched for a program. Both parts must match if
// both are there.
struct SignerPattern {
  std::optional<Digest> sha256;  // of the certificate in DER; of an image: its digest
  std::string subject;           // glob over the subject's common name or whole subject; may be ""
  bool operator==(const SignerPattern&) const = default;
};

// Over one line of text. Empty lists ask for nothing.
struct TextRules {
  std::vector<std::string> contains;     // each must occur, as whole words
  std::vector<std::string> excludes;     // none may occur, as whole words
  std::vector<std::string> equals;       // the line is one of them
  std::vector<std::string> starts_with;  // with one of them
  std::vector<std::string> like;         // matches one of them; * any run, ? any character
  bool empty() const;
  bool operator==(const TextRules&) const = default;
};
// Empty if the line keeps the rules, else what is wrong, in words.
std::string broken_rule(const TextRules& rules, std::string_view line);
// '*' any run of characters, '?' any one; ASCII letters alike in either case.
bool glob_match(std::string_view pattern, std::string_view text);

enum class Need : uint8_t { kRequired, kOptional };
enum class Allow : uint8_t { kAllow, kRefuse };
enum class KeyNeed : uint8_t { kPinned, kCertified, kAny };
enum class MokRule : uint8_t { kAny, kNone, kListed };

struct Policy {
  std::string name;
  std::string id;  // policy_id(), of a policy that was read or built in; else may be empty
  std::string description;
  std::vector<HashAlg> banks;  // usable ones, best first

  Need baseline = Need::kRequired;
  Need quote = Need::kOptional;
  Need event_log = Need::kOptional;
  KeyNeed attestation_key = KeyNeed::kPinned;  // when there is a quote

  std::array<PcrPolicy, kPcrCount> pcrs;

  Need secure_boot = Need::kRequired;
  std::map<std::string, std::vector<SignerPattern>> keys;  // "PK", "KEK", "db": all must match one
  std::vector<SignerPattern> signers;  // every authority matches one; empty: any
  std::vector<SignerPattern> refused_signers;
  Allow test_signers = Allow::kRefuse;
  MokRule mok = MokRule::kAny;
  std::vector<SignerPattern> mok_allowed;
  Allow dbx_growth = Allow::kAllow;  // revocations added since the baseline
  uint64_t dbx_entries_min = 0;
  std::vector<Bytes> dbx_contains;             // digests (any size) that must be in dbx
  std::map<std::string, uint64_t> sbat_level;  // component → generation at least
  TextRules kernel_command_line;
  Allow debugging = Allow::kRefuse;  // shim validation off, Windows boot debugging, test signing

  bool compares_with_baseline() const;
  bool operator==(const Policy&) const = default;
};

// kInvalidArgument names the member.
Result<Policy> parse_policy(std::string_view json);
Result<Policy> policy_from(const sys::JsonObject& object);
// Complete: nothing is left to a default, so that the text keeps its meaning.
sys::JsonObject to_json(const Policy& policy);
// "linux", "windows"; kNotFound lists them.
Result<Policy> built_in_policy(std::string_view name);
// The name, and the first 16 hex digits of the SHA-256 of to_json(): what tokens name a policy by.
std::string policy_id(const Policy& policy);

}  // namespace hf::attestation
