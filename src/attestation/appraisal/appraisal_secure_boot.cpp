// Secure Boot: on or off, whose keys, who vouched for the programs, what is revoked.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "attestation/appraisal/appraisal_inner.h"
#include "attestation/words/database_change.h"
#include "attestation/words/quoted.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using secure_boot::SignatureDatabase;

constexpr int8_t kNoKnownVulnerabilities = 3;  // a configuration that nothing speaks against
constexpr std::array<std::string_view, 4> kKeyNames = {"PK", "KEK", "db", "dbx"};
// Words in the names of certificates that vouch for nothing: makers' samples and test keys.
constexpr std::array<std::string_view, 9> kTestWords = {
    "*do not trust*", "*do not ship*", "*snakeoil*", "test *",   "* test",
    "* test *",       "debug *",       "* debug",    "* debug *"};

bool matches(const SignerPattern& pattern, const Digest& fingerprint, std::string_view common_name,
             std::string_view subject) {
  if (pattern.sha256 && *pattern.sha256 != fingerprint) return false;
  return pattern.subject.empty() || glob_match(pattern.subject, common_name) ||
         glob_match(pattern.subject, subject);
}

bool any_matches(const std::vector<SignerPattern>& patterns, const Digest& fingerprint,
                 std::string_view common_name, std::string_view subject) {
  return std::ranges::any_of(patterns, [&](const SignerPattern& pattern) {
    return matches(pattern, fingerprint, common_name, subject);
  });
}

bool any_matches(const std::vector<SignerPattern>& patterns, const Authority& authority) {
  if (patterns.empty()) return false;
  return any_matches(patterns, authority.fingerprint, authority.common_name,
                     secure_boot::name_text(authority.subject));
}

void locate(Reason& reason, const Measurement* m) {
  if (m == nullptr) return;
  reason.pcr = m->pcr;
  reason.nth = m->nth;
  reason.event = m->event;
  reason.extend = m->extend;
}

// The entries of a database that no pattern names, in words.
std::vector<std::string> strangers(ByteSpan content, const std::vector<SignerPattern>& patterns) {
  std::vector<std::string> names;
  auto database = SignatureDatabase::parse(content);
  if (!database.ok()) return {"content that cannot be read"};
  for (const secure_boot::SignatureList& list : database->lists()) {
    for (const secure_boot::Signature& signature : list.signatures) {
      secure_boot::SignatureWords words = secure_boot::describe(list, signature);
      auto fingerprint = Digest::parse_hex(words.fingerprint);
      std::string subject;
      if (auto facts = secure_boot::read_certificate(signature.data); facts.ok()) {
        subject = facts->subject;
      }
      if (fingerprint.ok() && any_matches(patterns, *fingerprint, words.title, subject)) continue;
      names.push_back(quoted(words.title));
    }
  }
  return names;
}

class SecureBootJudge {
 public:
  SecureBootJudge(const AppraisalInput& input, const BootJudgement& boot, Judge& judge)
      : input_(input), policy_(*input.policy), boot_(boot), facts_(*boot.facts), judge_(judge) {}

  void run() {
    state();
    keys();
    signers();
    mok();
    revocations();
    sbat();
    debugging();
  }

 private:
  // What cannot be seen is as it was accepted, if PCR 7 is what was accepted.
  bool accepted() const { return boot_.agrees_in(7); }

  void unseen(std::string what) {
    if (!accepted()) unknown(std::move(what));
  }

  void unknown(std::string what) {
    judge_
        .unknown(TrustClaim::kConfiguration, "secure_boot_unknown",
                 fmt::format("the policy asks for {}, and the evidence does not show it", what))
        .mend = "send the event log with the evidence, or accept a baseline";
  }

  void state() {
    if (policy_.secure_boot != Need::kRequired) return;
    if (!facts_.secure_boot) return unseen("Secure Boot");
    if (*facts_.secure_boot) {
      judge_.affirm(TrustClaim::kConfiguration, kNoKnownVulnerabilities);
      return;
    }
    Reason& reason =
        judge_.fail(TrustClaim::kConfiguration, kConfigurationUnsupportable, "secure_boot_off",
                    "Secure Boot is off: anything may have started");
    reason.pcr = 7;
    reason.mend = "switch it on with keys enrolled (holdfast secure-boot show VM), and start again";
  }

  void keys() {
    for (const auto& [name, patterns] : policy_.keys) {
      auto content = facts_.variables.find(name);
      if (content == facts_.variables.end()) {
        unseen(fmt::format("certain keys in {}", name));
        continue;
      }
      std::vector<std::string> names = strangers(content->second, patterns);
      if (names.empty()) continue;
      judge_
          .fail(TrustClaim::kConfiguration, kConfigurationUnsupportable, "key_refused",
                fmt::format("{} has {}, which the policy does not list", name, joined(names, ", ")))
          .mend = fmt::format("remove it (holdfast secure-boot remove VM {}), or list it", name);
    }
  }

  void signers() {
    bool known = facts_.authorities.size() == facts_.authority_measurements.size();
    for (const Authority& authority : facts_.authorities) judge_signer(authority);
    if (known || (policy_.signers.empty() && policy_.refused_signers.empty())) return;
    unseen("certain signers");
  }

  void judge_signer(const Authority& authority) {
    std::string who = fmt::format("{} (in {})", quoted(authority.common_name), authority.source);
    if (!policy_.signers.empty() && !any_matches(policy_.signers, authority)) {
      refuse(authority, "signer_not_allowed", kExecutablesUnrecognised,
             fmt::format("a program at boot was vouched for by {}, which the policy does not list",
                         who));
    }
    if (any_matches(policy_.refused_signers, authority)) {
      refuse(authority, "signer_refused", kExecutablesContraindicated,
             fmt::format("a program at boot was vouched for by {}, which the policy refuses", who));
    }
    bool test = std::ranges::any_of(kTestWords, [&](std::string_view words) {
      return glob_match(words, authority.common_name);
    });
    if (test && policy_.test_signers == Allow::kRefuse) {
      refuse(authority, "test_signer", kExecutablesContraindicated,
             fmt::format("a program at boot was vouched for by {}, a test or debug key", who));
    }
    bool mok = authority.source.starts_with("Mok");
    if (mok && policy_.mok == MokRule::kNone) {
      refuse(authority, "mok_refused", kExecutablesUnrecognised,
             fmt::format("a program at boot was vouched for by {}, and the policy allows no MOK",
                         who));
    }
    if (mok && policy_.mok == MokRule::kListed && !any_matches(policy_.mok_allowed, authority)) {
      refuse(
          authority, "mok_refused", kExecutablesUnrecognised,
          fmt::format("a program at boot was vouched for by {}, which the policy's MOK list does "
                      "not have",
                      who));
    }
  }

  void refuse(const Authority& authority, std::string code, int8_t value, std::string words) {
    Reason& reason =
        judge_.fail(TrustClaim::kExecutables, value, std::move(code), std::move(words));
    reason.mend =
        "put back the program signed by an allowed key, and take this one out of db or MOK";
    locate(reason, authority.measurement);
  }

  void mok() {
    if (policy_.mok == MokRule::kAny) return;
    std::vector<SignerPattern> allowed = policy_.mok_allowed;
    std::optional<ByteSpan> list = mok_list(allowed);
    if (!list) {
      if (!boot_.agrees_in(14)) unknown("a certain MOK list");
      return;
    }
    std::vector<std::string> names = strangers(*list, allowed);
    if (list->empty() || names.empty()) return;
    judge_
        .fail(TrustClaim::kConfiguration, kConfigurationUnsupportable, "mok_refused",
              fmt::format("shim's MOK list has {}, which the policy does not allow",
                          joined(names, ", ")))
        .mend = "delete it (mokutil --delete in the guest), or list it";
  }

  // The store that the keeper read is the VM's. Variables that came with the evidence are what PCR
  // 14 proves of them: shim measures its list there, or the one it hands on (MokListRT), which has
  // its own certificate too.
  std::optional<ByteSpan> mok_list(std::vector<SignerPattern>& allowed) const {
    if (input_.variables == nullptr) return std::nullopt;
    if (input_.context.record_from_keeper) {
      auto list = input_.variables->find("MokList");
      return list == input_.variables->end() ? ByteSpan() : ByteSpan(list->second);
    }
    for (std::string_view name : {"MokList", "MokListRT"}) {
      auto list = input_.variables->find(name);
      if (list == input_.variables->end() || !measured_as_mok(list->second)) continue;
      for (const Authority& authority : facts_.authorities) {
        if (name != "MokListRT" || authority.source != "Shim") continue;
        allowed.push_back({.sha256 = authority.fingerprint});
      }
      return ByteSpan(list->second);
    }
    return std::nullopt;
  }

  bool measured_as_mok(ByteSpan list) const {
    HashValue digest = hash(boot_.boot->bank(), list);
    return std::ranges::any_of(boot_.boot->measurements(), [&](const Measurement& m) {
      return m.kind == MeasurementKind::kMok && equal(m.digest, digest.bytes());
    });
  }

  void revocations() {
    if (policy_.dbx_entries_min == 0 && policy_.dbx_contains.empty()) return;
    auto content = facts_.variables.find("dbx");
    if (content == facts_.variables.end()) return unseen("certain revocations in dbx");
    auto dbx = SignatureDatabase::parse(content->second);
    if (!dbx.ok()) return unseen("certain revocations in dbx");
    auto behind = [&](std::string words) {
      judge_
          .fail(TrustClaim::kConfiguration, kConfigurationVulnerable, "dbx_behind",
                std::move(words))
          .mend = "holdfast secure-boot apply-update VM FILE with the newest dbx";
    };
    if (dbx->size() < policy_.dbx_entries_min) {
      behind(fmt::format("dbx has {} revocations, the policy asks for {} at least", dbx->size(),
                         policy_.dbx_entries_min));
    }
    size_t missing = 0;
    for (const Bytes& digest : policy_.dbx_contains) missing += has(*dbx, digest) ? 0 : 1;
    if (missing > 0) {
      behind(fmt::format("dbx lacks {} of the {} revocations that the policy names", missing,
                         policy_.dbx_contains.size()));
    }
  }

  static bool has(const SignatureDatabase& database, ByteSpan data) {
    return std::ranges::any_of(database.lists(), [&](const secure_boot::SignatureList& list) {
      return std::ranges::any_of(list.signatures, [&](const secure_boot::Signature& signature) {
        return equal(signature.data, data);
      });
    });
  }

  // "component,generation" a line; the first line is the format's own (shim, SBAT.md).
  static std::optional<uint64_t> generation_of(std::string_view level, std::string_view component) {
    while (!level.empty()) {
      size_t end = std::min(level.find('\n'), level.size());
      std::string_view line = level.substr(0, end);
      level.remove_prefix(std::min(end + 1, level.size()));
      size_t comma = line.find(',');
      if (comma == std::string_view::npos || line.substr(0, comma) != component) continue;
      std::string_view digits = line.substr(comma + 1);
      uint64_t generation = 0;
      auto [stop, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), generation);
      if (error == std::errc() && stop != digits.data()) return generation;
    }
    return std::nullopt;
  }

  void sbat() {
    if (policy_.sbat_level.empty()) return;
    if (!facts_.sbat_level) return unseen("an SBAT level");
    for (const auto& [component, least] : policy_.sbat_level) {
      uint64_t generation = generation_of(*facts_.sbat_level, component).value_or(0);
      if (generation >= least) continue;
      judge_
          .fail(TrustClaim::kConfiguration, kConfigurationVulnerable, "sbat_level_behind",
                fmt::format("shim revokes {} below generation {}, the policy asks for {}",
                            component, generation, least))
          .mend = "update shim in the guest, or its SBAT level (mokutil --set-sbat-policy latest)";
    }
  }

  void debugging() {
    if (policy_.debugging != Allow::kRefuse) return;
    std::vector<std::string> settings = facts_.debug_settings;
    if (facts_.shim_validation_off) settings.emplace_back("shim validates no signatures");
    for (const std::string& setting : settings) {
      judge_
          .fail(TrustClaim::kConfiguration, kConfigurationUnsupportable, "debugging",
                fmt::format("the VM was started for debugging: {}", setting))
          .mend = "switch it off in the guest and start again";
    }
  }

  const AppraisalInput& input_;
  const Policy& policy_;
  const BootJudgement& boot_;
  const BootFacts& facts_;
  Judge& judge_;
};

}  // namespace

void judge_secure_boot(const AppraisalInput& input, const BootJudgement& boot, Judge& judge) {
  SecureBootJudge(input, boot, judge).run();
}

// The variable store is what the next boot will measure; it may have changed since this one.
void judge_variables(const AppraisalInput& input, const BootJudgement& boot, Judge& judge) {
  if (input.variables == nullptr) return;
  for (std::string_view name : kKeyNames) {
    auto stored = input.variables->find(name);
    auto measured = boot.facts->variables.find(name);
    if (stored == input.variables->end()) continue;
    if (measured == boot.facts->variables.end()) {
      // Without a log, content that is not the stored one cannot be recognised.
      bool any_seen = !boot.facts->variables.empty();
      if (any_seen) {
        judge.note("keys_changed_since_boot",
                   fmt::format("{} in the variable store is not what this boot measured", name));
      }
      continue;
    }
    if (equal(stored->second, measured->second)) continue;
    DatabaseChange change = database_change(measured->second, stored->second);
    judge
        .note(
            "keys_changed_since_boot",
            fmt::format("{} was changed since this boot{}{}: PCR 7 will be another after the "
                        "next start",
                        name, change.added.empty() ? "" : ", added: " + joined(change.added, ", "),
                        change.removed.empty() ? "" : ", removed: " + joined(change.removed, ", ")))
        .mend = "announce it: holdfast attest baseline announce VM";
  }
}

}  // namespace hf::attestation
