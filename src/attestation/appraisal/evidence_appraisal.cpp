#include "attestation/appraisal/evidence_appraisal.h"

#include "attestation/log/event_log.h"
#include "attestation/log/extend_record.h"

namespace hf::attestation {
namespace {

// Owns what an AppraisalInput points to.
struct Parts {
  std::optional<EventLog> log;
  std::optional<ExtendRecord> record;
  std::optional<QuotedPcrs> quote;
  KeyVariables variables;
};

void read_quote(const Evidence& evidence, const EvidenceQuestion& question, Parts& parts,
                AppraisalInput& input) {
  QuoteExpectation expected{.nonce = question.nonce};
  const std::optional<Bytes>& pinned = question.context.pinned_ak_name;
  if (pinned) expected.ak_name = ByteSpan(*pinned);
  Result<QuotedPcrs> quote = verify_quote(evidence, expected);
  if (!quote.ok()) {
    input.quote_error = std::move(quote).error();
    return;
  }
  parts.quote = std::move(quote).value();
  input.quote = &*parts.quote;
}

void read_certificate(const Evidence& evidence, const EvidenceQuestion& question,
                      EvidenceAnswer& answer) {
  static const std::vector<crypto::Certificate> kNone;
  Result<AkIdentity> identity =
      certified_key(evidence, question.cas == nullptr ? kNone : *question.cas, answer.context.now);
  if (!identity.ok()) {
    answer.key_words = identity.error().cause;
    return;
  }
  answer.key = *identity;
  answer.key_words = "certified as VM " + identity->vm.hex();
  answer.context.ak_certified = true;
  answer.context.vm = identity->vm;
}

void read_log(const Evidence& evidence, Parts& parts, AppraisalInput& input) {
  if (!evidence.event_log) return;
  Result<EventLog> log = EventLog::parse(*evidence.event_log);
  if (!log.ok()) {
    input.log_error = std::move(log).error();
    return;
  }
  parts.log = std::move(log).value();
  input.log = &*parts.log;
}

}  // namespace

Result<AkIdentity> certified_key(const Evidence& evidence,
                                 const std::vector<crypto::Certificate>& cas, Micros now) {
  auto unknown = [](std::string cause) {
    return Error{.code = ErrorCode::kNotFound, .cause = std::move(cause)};
  };
  if (!evidence.ak_certificate) return unknown("the attestation key has no certificate");
  if (cas.empty()) return unknown("no site is known that could vouch for the attestation key");
  const TpmPublic ak = TRY(parse_public(evidence.ak_public));
  return check_ak_certificate(*evidence.ak_certificate, ak, cas, now);
}

Result<EvidenceAnswer> appraise_evidence(const Evidence& evidence,
                                         const EvidenceQuestion& question) {
  HF_ASSERT(question.policy != nullptr);
  EvidenceAnswer answer{.context = question.context, .askers_rules = question.askers_rules};
  answer.context.record_from_keeper = false;  // whoever sent the document may have written it
  Parts parts;
  AppraisalInput input;
  input.policy = question.policy;
  if (question.baseline != nullptr && !question.baseline->boots.empty()) {
    input.baseline = question.baseline;
  }
  read_quote(evidence, question, parts, input);
  read_certificate(evidence, question, answer);
  read_log(evidence, parts, input);
  if (evidence.extends) {
    parts.record = TRY_CONTEXT(extend_record_from(*evidence.extends), "evidence");
    input.record = &*parts.record;
  }
  if (!evidence.secure_boot.empty()) {
    parts.variables.insert(evidence.secure_boot.begin(), evidence.secure_boot.end());
    input.variables = &parts.variables;
  }
  input.context = answer.context;
  answer.appraisal = appraise(input);
  return answer;
}

Ear to_ear(const EvidenceAnswer& answer, ByteSpan nonce) {
  Ear ear = to_ear(answer.appraisal, answer.context);
  ear.nonce = Bytes(nonce.begin(), nonce.end());
  ear.evidence_nonce = ear.nonce;  // appraised for this nonce only
  if (answer.context.vm.is_zero() || answer.askers_rules) ear.vm.vm.reset();
  if (answer.askers_rules) ear.vm.role.reset();
  return ear;
}

}  // namespace hf::attestation
