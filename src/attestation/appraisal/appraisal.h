// Appraisal: from what is known of a boot to a verdict with reasons.
//
// The evidence may be a quote with the guest's event log, the keeper's record of extends alone, or
// all of it. Every check that can be made is made, and every one that fails gives a reason that
// names the event, the extend or the register, says what was expected, and what to do.
//
//   Unhealthy  something is wrong, or pieces of evidence contradict each other
//   Unknown    nothing is wrong, but something that the policy asks for could not be judged
//   Healthy    everything the policy asks for was judged and is right
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/baseline/baseline.h"
#include "attestation/boot/boot_facts.h"
#include "attestation/log/event_log.h"
#include "attestation/policy/policy.h"
#include "attestation/token/ear.h"
#include "attestation/token/trust_vector.h"
#include "attestation/tpm/quote.h"

namespace hf::attestation {

enum class Verdict : uint8_t { kHealthy, kUnhealthy, kUnknown };
std::string_view name_of(Verdict verdict);  // "Healthy"
// What a drill's or branch's vTPM has PCR 6 extended with before its firmware starts: the role,
// then the incarnation. Production's PCR 6 has neither.
HashValue role_marker(VmRole role, HashAlg alg);  // of kDrill or kBranch
HashValue incarnation_marker(const IncarnationId& incarnation, HashAlg alg);

// Counters of the TPM as they were last seen: they never go back, unless the state did.
struct TpmCounters {
  uint64_t clock = 0;  // ms
  uint32_t reset_count = 0;
  uint32_t restart_count = 0;
  bool operator==(const TpmCounters&) const = default;
};

// What is known about whether the VM's state is the newest there was.
struct FreshnessFacts {
  std::optional<Sequence> durable;       // the vault's record of the newest durable position
  bool on_lineage = true;                // that position lies on the journal's chain
  std::optional<TpmCounters> last_seen;  // of the same AK, in an earlier quote
  // That quote was of an earlier boot: each TPM2_Startup since has raised one of the counts, so
  // equal ones are of a copy of the state.
  bool another_boot = false;
  std::string declared;  // an audited recovery to an earlier point: why; else empty
};

struct AppraisalContext {
  VmId vm;
  std::optional<SiteId> site;
  Epoch epoch;
  IncarnationId incarnation;
  Sequence sequence;  // the position of the VM's journal when the evidence was made
  VmRole role = VmRole::kProduction;
  // What whoever asks expects; unset: no expectation.
  std::optional<VmRole> presented_as;
  std::optional<Epoch> expected_epoch;
  std::optional<IncarnationId> expected_incarnation;
  std::optional<Bytes> pinned_ak_name;
  bool ak_certified = false;  // the AK's certificate chains to a site CA that is trusted
  std::optional<bool> ek_certified;
  FreshnessFacts freshness;
  bool record_from_keeper = true;  // the record was read from the VM's own keeper, on this host
  Micros now;
};

struct AppraisalInput {
  const EventLog* log = nullptr;
  std::optional<Error> log_error;  // the log could not be parsed
  const ExtendRecord* record = nullptr;
  const QuotedPcrs* quote = nullptr;        // verified
  std::optional<Error> quote_error;         // there was one, and verify_quote() refused it
  const KeyVariables* variables = nullptr;  // from the VM's variable store
  std::span<const FileExplanation> files;
  const Policy* policy = nullptr;  // never null
  const Baseline* baseline = nullptr;
  AppraisalContext context;
};

enum class Severity : uint8_t { kFailure, kUnknown, kNote };
std::string_view name_of(Severity severity);

struct Reason {
  Severity severity = Severity::kFailure;
  std::string code;  // stable: "secure_boot_off", "pcr_changed" …; docs/formats/appraisal-policy.md
  std::string words;              // a sentence for a person
  std::string mend;               // what to do; may be empty
  std::optional<uint32_t> event;  // its number in the log
  std::optional<uint8_t> pcr;
  std::optional<uint32_t> nth;     // extend of that PCR, from 1
  std::optional<uint64_t> extend;  // its number in the keeper's record
};
sys::JsonObject to_json(const Reason& reason);

struct Appraisal {
  Verdict verdict = Verdict::kUnknown;
  std::vector<Reason> reasons;  // failures first, then unknowns, then notes
  TrustVector trust;
  std::string policy_id;
  std::vector<std::string> planned_changes;  // ids of those that this boot carried out
  std::optional<bool> secure_boot;
  std::string kernel_command_line;       // the last one measured; empty if unknown
  std::vector<std::string> authorities;  // in words
  std::optional<TpmCounters> counters;   // to remember, if the quote verified

  std::string summary() const;  // one line: the verdict and the first reason
};
sys::JsonObject to_json(const Appraisal& appraisal);

Appraisal appraise(const AppraisalInput& input);

// "current", "older-declared", "older", "unknown": what is known of the state's freshness.
std::string freshness_words(const AppraisalContext& context, const Appraisal& appraisal);

// The token's content. Whoever issues it adds the verifier's name, nonces and times.
Ear to_ear(const Appraisal& appraisal, const AppraisalContext& context);

}  // namespace hf::attestation
