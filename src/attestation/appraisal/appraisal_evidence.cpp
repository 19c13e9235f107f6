// Do the pieces of evidence agree with each other? The log with its own data, with the keeper's
// record and with the quote; the record with the quote.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>

#include "attestation/appraisal/appraisal_inner.h"
#include "attestation/boot/event_log_check.h"
#include "attestation/boot/known_measurements.h"
#include "attestation/log/event_cover.h"

namespace hf::attestation {
namespace {

constexpr std::string_view kLogMend =
    "read the log again; if it stays like this, somebody in the guest altered it: the keeper's "
    "record "
    "of extends is judged without it (holdfast attest check VM)";
constexpr std::string_view kReadMend =
    "read the log again from the guest's firmware; the keeper's record of extends is judged "
    "without "
    "it (holdfast attest check VM)";

// PCRs that a guest can reset or that belong to a dynamic launch say nothing about a boot.
bool resettable(uint32_t pcr) { return pcr == 16 || pcr >= kDynamicPcrFirst; }

Reason& refuse_log(Judge& judge, std::string code, std::string words, std::optional<size_t> event,
                   std::optional<uint64_t> extend = {}, std::optional<uint8_t> pcr = {}) {
  Reason& reason = judge.fail(TrustClaim::kExecutables, kTrustCryptographyFailed, std::move(code),
                              std::move(words));
  reason.mend = kLogMend;
  if (event) reason.event = static_cast<uint32_t>(*event);
  reason.extend = extend;
  reason.pcr = pcr;
  return reason;
}

void tell(const LogDifference& difference, Judge& judge) {
  bool truncated = difference.kind == LogDifference::Kind::kTruncated;
  refuse_log(judge, truncated ? "event_log_truncated" : "event_log_contradicts_record",
             fmt::format("the event log is not what the TPM saw: {}", difference.reason),
             difference.event, difference.extend, static_cast<uint8_t>(difference.pcr));
}

// What an operating system extends after the log was closed, where that is known: firmware's own
// farewell, and systemd's words for the phases of a boot.
constexpr std::array<std::string_view, 2> kFarewell = {kExitBootServicesAction,
                                                       "Exit Boot Services Returned with Success"};

bool leads_to(ByteSpan quoted, PcrBank bank, uint8_t pcr) {
  if (equal(bank.value(pcr), quoted)) return true;
  std::span<const std::string_view> later;
  if (pcr == 5) later = kFarewell;
  if (pcr == 11) later = kBootPhases;
  for (std::string_view word : later) {
    bank.extend(pcr, hash(bank.alg(), as_bytes(word)).bytes());
    if (equal(bank.value(pcr), quoted)) return true;
  }
  return false;
}

// The vTPM of a drill or a branch is marked before its firmware starts, and so in no log. Who does
// not know the incarnation cannot tell the mark.
std::optional<VmRole> marked_role(const EventLog& log, HashAlg alg, ByteSpan quoted,
                                  const IncarnationId& incarnation) {
  if (incarnation.is_zero()) return std::nullopt;
  for (VmRole role : {VmRole::kDrill, VmRole::kBranch}) {
    PcrBank bank(alg);
    bank.extend(kMarkedPcr, role_marker(role, alg).bytes());
    bank.extend(kMarkedPcr, incarnation_marker(incarnation, alg).bytes());
    for (const Event& event : log.events()) {
      if (!event.measured() || event.pcr != kMarkedPcr) continue;
      if (ByteSpan digest = event.digest(alg); !digest.empty()) bank.extend(kMarkedPcr, digest);
    }
    if (equal(bank.value(kMarkedPcr), quoted)) return role;
  }
  return std::nullopt;
}

std::string events_of(const EventLog& log, uint8_t pcr) {
  std::optional<size_t> first;
  size_t last = 0;
  for (const Event& event : log.events()) {
    if (!event.measured() || event.pcr != pcr) continue;
    if (!first) first = event.number;
    last = event.number;
  }
  if (!first) return "the log has no event of it";
  return fmt::format("its events in the log are {} to {}", *first, last);
}

// Registers that the operating system extends too: its extends are in no firmware log.
bool extended_later(uint8_t pcr) { return pcr == 15 || (pcr >= 10 && pcr <= 13); }

// Whether the log leads to the quoted value of a register; says so if that matters.
bool register_agrees(const AppraisalInput& input, const EventLog& log, const PcrBank& replayed,
                     uint8_t pcr, ByteSpan quoted, Judge& judge) {
  if (leads_to(quoted, replayed, pcr)) return true;
  PcrRule rule = input.policy->pcrs[pcr].rule;
  if (rule == PcrRule::kIgnore || (extended_later(pcr) && !matters(rule))) return false;
  if (extended_later(pcr)) {
    judge
        .unknown(TrustClaim::kExecutables, "log_not_of_quoted_value",
                 fmt::format("the log does not lead to the quoted PCR {}: the operating system "
                             "extended it since, or the log was edited",
                             pcr))
        .mend = "the keeper's record of extends tells which: judge with it";
    return false;
  }
  refuse_log(
      judge, "event_log_contradicts_quote",
      fmt::format("the log does not lead to the quoted {} PCR {}: {}, and some were changed, "
                  "left out or added{}",
                  name_of(replayed.alg()), pcr, events_of(log, pcr),
                  pcr == kMarkedPcr ? ", or the vTPM is marked as a drill's or a branch's" : ""),
      std::nullopt, std::nullopt, pcr);
  return false;
}

// What a quote leaves open although it carries the judgement: registers that the policy looks at,
// and the one with the marks of a drill. A guest can reset some; what was extended there is not in
// a quote at all.
void judge_coverage(const AppraisalInput& input, HashAlg bank, Judge& judge) {
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    PcrRule rule = input.policy->pcrs[pcr].rule;
    if (matters(rule) && resettable(pcr)) {
      judge
          .unknown(
              TrustClaim::kExecutables, "pcr_not_provable",
              fmt::format("the policy compares PCR {} with the baseline; a guest can reset it, "
                          "and no quote proves what was extended before",
                          pcr))
          .mend =
          "judge it at the VM's own site, by its keeper's record, or leave the register out";
      continue;
    }
    bool asked = matters(rule) || rule == PcrRule::kValues || pcr == kMarkedPcr;
    if (!asked || input.quote->find(bank, pcr) != nullptr) continue;
    judge
        .unknown(
            TrustClaim::kExecutables, "pcr_not_quoted",
            pcr == kMarkedPcr
                ? std::string("PCR 6 tells a drill or a branch from production, and the quote "
                              "does not cover it")
                : fmt::format("the policy looks at PCR {}, and the quote does not cover it", pcr))
        .mend = "quote PCR 6 and every register that the policy names";
  }
}

// Whose events the quote vouches for in this bank. Other quoted banks must agree as well: a log
// that lies in one of them is not honest in the others.
void judge_log_by_quote(const AppraisalInput& input, HashAlg bank, Vouched& vouched, Judge& judge) {
  const EventLog& log = *input.log;
  vouched.pcrs.reset();
  for (const PcrValues& quoted : input.quote->banks) {
    if (!log.has_bank(quoted.bank)) continue;
    Result<PcrBank> replayed = replay(log, quoted.bank);
    if (!replayed.ok()) {
      refuse_log(judge, "event_log_refused", replayed.error().cause, std::nullopt);
      return;
    }
    for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
      const std::optional<Bytes>& value = quoted.values[pcr];
      if (!value || resettable(pcr)) continue;
      if (pcr == kMarkedPcr) {
        vouched.marked = marked_role(log, quoted.bank, *value, input.context.incarnation);
      }
      bool marked = pcr == kMarkedPcr && vouched.marked.has_value();
      bool agrees = marked || register_agrees(input, log, *replayed, pcr, *value, judge);
      if (quoted.bank == bank) vouched.pcrs[pcr] = agrees;
    }
  }
}

// A bank of the quote, and where the record has led it so far.
class QuotedBank {
 public:
  QuotedBank(const ExtendRecord& record, const PcrValues& quoted)
      : quoted_(&quoted), bank_(quoted.bank, record.startup_locality) {
    for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) compare(pcr);
  }
  void follow(const Extend& extend) {
    if (extend.apply(bank_)) {
      compare(extend.pcr);
    } else {
      differing_.set(extend.pcr);
    }
  }
  HashAlg alg() const { return quoted_->bank; }
  const std::bitset<kPcrCount>& differing() const { return differing_; }

 private:
  void compare(uint8_t pcr) {
    const std::optional<Bytes>& value = quoted_->values[pcr];
    differing_[pcr] = value && !resettable(pcr) && !equal(bank_.value(pcr), *value);
  }
  const PcrValues* quoted_;
  PcrBank bank_;
  std::bitset<kPcrCount> differing_;
};

void quote_contradicts(const QuotedBank& bank, Judge& judge) {
  std::string pcrs;
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if (bank.differing()[pcr]) pcrs += fmt::format("{}{}", pcrs.empty() ? "" : ", ", pcr);
  }
  judge
      .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "quote_contradicts_record",
            fmt::format("the quoted {} values of PCR {} are not what the keeper saw extended: the "
                        "quote is of another vTPM or of another boot",
                        name_of(bank.alg()), pcrs.empty() ? "s" : pcrs))
      .mend = "ask for new evidence; if it stays like this, the guest answers with another TPM";
}

// After how many of the record's extends (at least `least`) all quoted banks had their values, the
// most that is possible: what may follow then is of registers that the quote does not cover.
std::optional<size_t> extends_at_quote(const AppraisalInput& input, size_t least, Judge& judge) {
  const ExtendRecord& record = *input.record;
  std::vector<QuotedBank> banks;
  for (const PcrValues& quoted : input.quote->banks) {
    if (record.extends.front().kind != PcrChange::kReset &&
        record.extends.front().digest(quoted.bank) == nullptr) {
      continue;  // the record does not have this bank
    }
    banks.emplace_back(record, quoted);
  }
  auto agree = [&] {
    return std::ranges::all_of(banks, [](const QuotedBank& b) { return b.differing().none(); });
  };
  std::optional<size_t> found;
  if (least == 0 && agree()) found = 0;
  for (size_t done = 1; done <= record.extends.size(); ++done) {
    for (QuotedBank& bank : banks) bank.follow(record.extends[done - 1]);
    if (done >= least && agree()) found = done;
  }
  if (found) return found;
  auto worst = std::ranges::find_if(banks, [](const QuotedBank& b) { return b.differing().any(); });
  quote_contradicts(worst == banks.end() ? banks.front() : *worst, judge);
  return std::nullopt;
}

// What an attester's record says of the time after the quote is said by nobody else.
void cut_record(Vouched& vouched, size_t extends) {
  if (extends == vouched.record->extends.size()) return;
  auto cut = std::make_unique<ExtendRecord>(*vouched.record);
  cut->extends.resize(extends);
  cut->total = extends;
  if (cut->exit_boot_services && *cut->exit_boot_services >= extends) {
    cut->exit_boot_services.reset();
    cut->exited.reset();
  }
  vouched.record = cut.get();
  vouched.cut = std::move(cut);
}

bool log_is_sound(const AppraisalInput& input, Judge& judge) {
  if (input.log_error) {
    refuse_log(judge, "event_log_refused",
               fmt::format("the event log is refused: {}", input.log_error->cause), std::nullopt)
        .mend = kReadMend;
    return false;
  }
  if (input.log == nullptr) {
    if (input.policy->event_log == Need::kRequired) {
      judge.unknown(TrustClaim::kExecutables, "event_log_missing",
                    "the policy requires the event log, and there is none");
    }
    return false;
  }
  for (const UnprovenEvent& event : unproven_events(*input.log)) {
    if (!event.disproved) continue;
    refuse_log(judge, "event_log_refused",
               fmt::format("the event log is refused: event {} (PCR {}): {}", event.event,
                           event.pcr, event.reason),
               event.event, {}, static_cast<uint8_t>(event.pcr));
    return false;
  }
  return true;
}

const ExtendRecord* usable_record(const AppraisalInput& input, Judge& judge) {
  if (input.record == nullptr) return nullptr;
  if (!input.record->complete) {
    judge
        .unknown(TrustClaim::kExecutables, "record_incomplete",
                 "the keeper's record of extends is not complete: it began in the middle of a boot")
        .mend = "restart the VM; its next boot is recorded from the start";
    return nullptr;
  }
  if (input.record->extends.empty() || !input.record->whole()) return nullptr;
  return input.record;
}

// The record of the VM's own keeper speaks for itself; any other needs a quote that agrees, and
// counts as far as that goes: up to its moment, in the registers that it covers.
void judge_record(const AppraisalInput& input, HashAlg bank, Vouched& vouched, Judge& judge) {
  vouched.record = usable_record(input, judge);
  if (vouched.record == nullptr) return;
  const bool keepers = input.context.record_from_keeper;
  vouched.order = keepers;
  if (input.quote == nullptr) {
    if (keepers) return;
    vouched.record = nullptr;
    judge
        .unknown(TrustClaim::kExecutables, "nothing_vouches_for_record",
                 "there is a record of extends, but no quote that it could be checked against")
        .mend = "send a quote with it";
    return;
  }
  // The keeper quotes at or after the system's start; the record may have grown since.
  const std::optional<uint64_t>& exit = vouched.record->exit_boot_services;
  size_t least = keepers && exit ? static_cast<size_t>(*exit) + 1 : 0;
  std::optional<size_t> extends = extends_at_quote(input, least, judge);
  if (keepers) return;
  if (!extends) {
    vouched.record = nullptr;
    return;
  }
  cut_record(vouched, *extends);
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    vouched.pcrs[pcr] = !resettable(pcr) && input.quote->find(bank, pcr) != nullptr;
  }
  judge_coverage(input, bank, judge);
}

// A guest writes its log as it likes: one without the bank is as good as none, and no reason not to
// judge the boot by what the keeper saw.
bool log_has_bank(const AppraisalInput& input, HashAlg bank, Judge& judge) {
  if (input.log->has_bank(bank)) return true;
  std::string words =
      fmt::format("the event log has no {} digests: it is left aside", name_of(bank));
  if (input.policy->event_log == Need::kRequired) {
    judge.unknown(TrustClaim::kExecutables, "event_log_without_bank", std::move(words));
  } else {
    judge.note("event_log_without_bank", std::move(words));
  }
  return false;
}

}  // namespace

// A log decides only where there is nothing else to judge by.
std::optional<HashAlg> choose_bank(const AppraisalInput& input) {
  for (HashAlg bank : input.policy->banks) {
    bool in_log = input.log == nullptr || input.record != nullptr || input.log->has_bank(bank);
    bool in_record = input.record == nullptr || input.record->extends.empty() ||
                     input.record->extends.front().digest(bank) != nullptr;
    bool in_quote =
        input.quote == nullptr ||
        std::ranges::find(input.quote->banks, bank, &PcrValues::bank) != input.quote->banks.end();
    if (in_log && in_record && in_quote) return bank;
  }
  return std::nullopt;
}

Vouched judge_evidence(const AppraisalInput& input, HashAlg bank, Judge& judge) {
  Vouched vouched;
  judge_record(input, bank, vouched, judge);
  if (!log_is_sound(input, judge) || !log_has_bank(input, bank, judge)) return vouched;
  if (vouched.record != nullptr) {
    std::optional<LogDifference> difference = find_difference(*input.log, *vouched.record);
    if (difference) {
      tell(*difference, judge);
    } else {
      vouched.log = input.log;
    }
    return vouched;
  }
  if (input.quote != nullptr) {
    size_t failures_before = judge.failures();
    judge_log_by_quote(input, bank, vouched, judge);
    judge_coverage(input, bank, judge);
    // A log that contradicts the quote in one register is not believed in any.
    if (judge.failures() == failures_before) vouched.log = input.log;
    return vouched;
  }
  judge
      .unknown(TrustClaim::kExecutables, "nothing_vouches_for_log",
               "there is an event log, but no quote and no record of extends that it could be "
               "checked against")
      .mend = "send a quote with it";
  return vouched;
}

}  // namespace hf::attestation
