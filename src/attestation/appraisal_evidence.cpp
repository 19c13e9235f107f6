// Do the pieces of evidence agree with each other? The log with its own data, with the keeper's
// record and with the quote; the record with the quote.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>

#include "attestation/appraisal_inner.h"
#include "attestation/event_cover.h"
#include "attestation/known_measurements.h"

namespace hf::attestation {
namespace {

constexpr std::string_view kLogMend =
    "read the log again; if it stays like this, somebody in the guest altered it: the keeper's "
    "record "
    "of extends is judged without it (holdfast attest check VM)";

// PCRs that a guest can reset or that belong to a dynamic launch say nothing about a boot.
bool resettable(uint32_t pcr) { return pcr == 16 || pcr >= kDynamicPcrFirst; }

void refuse_log(Judge& judge, std::string code, std::string words, std::optional<size_t> event,
                std::optional<uint64_t> extend = {}, std::optional<uint8_t> pcr = {}) {
  Reason& reason = judge.fail(TrustClaim::kExecutables, kTrustCryptographyFailed, std::move(code),
                              std::move(words));
  reason.mend = kLogMend;
  if (event) reason.event = static_cast<uint32_t>(*event);
  reason.extend = extend;
  reason.pcr = pcr;
}

// What a log need not have: the keeper's marks in PCR 6, resets, and, at the end, what firmware
// measures when the operating system has read the log already.
bool may_be_unlogged(const Extend& extend) {
  return extend.pcr == 6 || extend.kind == PcrChange::kReset;
}
bool firmware_farewell(const Extend& extend) {
  if (extend.pcr != 5 || extend.digests.empty()) return false;
  const PcrDigest& digest = extend.digests.front();
  return known_event_text(digest.alg, digest.bytes).starts_with("Exit Boot Services");
}

// The bank in which they differ, if they do. Banks that only one of them has are not compared.
std::optional<HashAlg> differing_bank(const Event& event, const Extend& extend, bool& compared) {
  compared = false;
  for (const PcrDigest& digest : extend.digests) {
    ByteSpan logged = event.digest(digest.alg);
    if (logged.empty()) continue;
    compared = true;
    if (!equal(logged, digest.bytes)) return digest.alg;
  }
  return std::nullopt;
}

class RecordCheck {
 public:
  RecordCheck(const EventLog& log, const ExtendRecord& record, Judge& judge)
      : log_(log), record_(record), judge_(judge) {}

  bool agrees() {
    size_t at = 0;
    for (const Event& event : log_.events()) {
      if (!event.measured()) continue;
      if (!event_agrees(event, at)) return false;
      ++at;
    }
    return end_agrees(at);
  }

 private:
  bool event_agrees(const Event& event, size_t& at) {
    if (at >= record_.extends.size()) {
      refuse_log(judge_, "event_log_contradicts_record",
                 fmt::format("event {} of the log (PCR {}) was never extended: the TPM saw {} "
                             "extends, and the log goes on",
                             event.number, event.pcr, record_.extends.size()),
                 event.number);
      return false;
    }
    while (true) {
      const Extend& extend = record_.extends[at];
      bool compared = false;
      std::optional<HashAlg> bank = differing_bank(event, extend, compared);
      if (extend.pcr == event.pcr && compared && !bank) return true;
      bool skip = may_be_unlogged(extend) && at + 1 < record_.extends.size();
      if (!skip) return contradict(event, extend, bank, compared);
      ++at;
    }
  }

  bool contradict(const Event& event, const Extend& extend, std::optional<HashAlg> bank,
                  bool compared) {
    std::string what =
        event.pcr != extend.pcr
            ? fmt::format("the log has PCR {}, the TPM extended PCR {}", event.pcr, extend.pcr)
        : !compared
            ? std::string("they have no bank in common")
            : fmt::format("the {} digest in the log is another than the TPM's", name_of(*bank));
    refuse_log(
        judge_, "event_log_contradicts_record",
        fmt::format("event {} of the log is not extend {} of the TPM: {}; the log was edited "
                    "there, or events are missing",
                    event.number, extend.n, what),
        event.number, extend.n, extend.pcr);
    return false;
  }

  bool end_agrees(size_t at) {
    // Nothing is missing once the operating system runs: its extends have no place in this log.
    size_t end = record_.exit_boot_services ? static_cast<size_t>(*record_.exit_boot_services) + 1
                                            : record_.extends.size();
    end = std::min(end, record_.extends.size());
    size_t missing_at = at;
    while (missing_at < end && (may_be_unlogged(record_.extends[missing_at]) ||
                                firmware_farewell(record_.extends[missing_at]))) {
      ++missing_at;
    }
    if (missing_at >= end) return true;
    const Extend& extend = record_.extends[missing_at];
    size_t next = log_.events().empty() ? 0 : log_.events().back().number + 1;
    refuse_log(judge_, "event_log_truncated",
               fmt::format("the log ends where event {} should be: the TPM extended PCR {} (extend "
                           "{}) and {} more before the operating system started",
                           next, extend.pcr, extend.n, end - missing_at - 1),
               next, extend.n, extend.pcr);
    return false;
  }

  const EventLog& log_;
  const ExtendRecord& record_;
  Judge& judge_;
};

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
                  "left out or added",
                  name_of(replayed.alg()), pcr, events_of(log, pcr)),
      std::nullopt, std::nullopt, pcr);
  return false;
}

void not_quoted(uint8_t pcr, Judge& judge) {
  judge
      .unknown(TrustClaim::kExecutables, "pcr_not_quoted",
               fmt::format("the policy looks at PCR {}, and the quote does not cover it", pcr))
      .mend = "quote every register that the policy names";
}

// Which registers' events the quote vouches for in this bank. Other quoted banks must agree as
// well: a log that lies in one of them is not honest in the others.
std::bitset<kPcrCount> vouched_by_quote(const AppraisalInput& input, const EventLog& log,
                                        HashAlg bank, Judge& judge) {
  std::bitset<kPcrCount> vouched;
  for (const PcrValues& quoted : input.quote->banks) {
    if (!log.has_bank(quoted.bank)) continue;
    Result<PcrBank> replayed = replay(log, quoted.bank);
    if (!replayed.ok()) {
      refuse_log(judge, "event_log_refused", replayed.error().cause, std::nullopt);
      return {};
    }
    for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
      const std::optional<Bytes>& value = quoted.values[pcr];
      if (!value || resettable(pcr)) continue;
      bool agrees = register_agrees(input, log, *replayed, pcr, *value, judge);
      if (quoted.bank == bank) vouched[pcr] = agrees;
    }
  }
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    const PcrValues& of_bank = *std::ranges::find(input.quote->banks, bank, &PcrValues::bank);
    if (!matters(input.policy->pcrs[pcr].rule) || of_bank.values[pcr]) continue;
    not_quoted(pcr, judge);
  }
  return vouched;
}

// The quote is of some moment at or after the boot; later extends may be in the record already.
bool record_leads_to_quote(const ExtendRecord& record, const PcrValues& quoted, Judge& judge) {
  PcrBank bank(quoted.bank, record.startup_locality);
  std::array<bool, kPcrCount> same{};
  auto check = [&](uint8_t pcr) {
    const std::optional<Bytes>& value = quoted.values[pcr];
    same[pcr] = !value || resettable(pcr) || equal(bank.value(pcr), *value);
  };
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) check(pcr);
  uint64_t from = record.exit_boot_services.value_or(0);
  auto all_same = [&] { return std::ranges::all_of(same, [](bool is) { return is; }); };
  if (record.extends.empty() && all_same()) return true;
  for (const Extend& extend : record.extends) {
    if (!extend.apply(bank)) return true;  // the record does not have this bank
    check(extend.pcr);
    if (extend.n >= from && all_same()) return true;
  }
  std::string pcrs;
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if (!same[pcr]) pcrs += fmt::format("{}{}", pcrs.empty() ? "" : ", ", pcr);
  }
  judge
      .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "quote_contradicts_record",
            fmt::format("the quoted {} values of PCR {} are not what the keeper saw extended: the "
                        "quote is of another vTPM or of another boot",
                        name_of(quoted.bank), pcrs.empty() ? "s" : pcrs))
      .mend = "ask for new evidence; if it stays like this, the guest answers with another TPM";
  return false;
}

bool log_is_sound(const AppraisalInput& input, Judge& judge) {
  if (input.log_error) {
    refuse_log(judge, "event_log_refused",
               fmt::format("the event log is refused: {}", input.log_error->cause), std::nullopt);
    return false;
  }
  if (input.log == nullptr) {
    if (input.policy->event_log == Need::kRequired) {
      judge.unknown(TrustClaim::kExecutables, "event_log_missing",
                    "the policy requires the event log, and there is none");
    }
    return false;
  }
  if (Status covered = check_covered(*input.log); !covered.ok()) {
    refuse_log(judge, "event_log_refused",
               fmt::format("the event log is refused: {}", covered.error().cause), std::nullopt);
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

// What a quote vouches for, of a record that the attester itself sent: the registers that it
// covers.
std::bitset<kPcrCount> quoted_registers(const AppraisalInput& input, HashAlg bank, Judge& judge) {
  std::bitset<kPcrCount> quoted;
  auto of_bank = std::ranges::find(input.quote->banks, bank, &PcrValues::bank);
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    quoted[pcr] = of_bank != input.quote->banks.end() && of_bank->values[pcr].has_value();
    if (quoted[pcr] || !matters(input.policy->pcrs[pcr].rule)) continue;
    not_quoted(pcr, judge);
  }
  return quoted;
}

// The record of the VM's own keeper speaks for itself; any other needs a quote that agrees.
void judge_record(const AppraisalInput& input, HashAlg bank, Vouched& vouched, Judge& judge) {
  vouched.record = usable_record(input, judge);
  if (vouched.record == nullptr) return;
  vouched.order = input.context.record_from_keeper;
  if (input.quote == nullptr) {
    if (input.context.record_from_keeper) return;
    vouched.record = nullptr;
    judge
        .unknown(TrustClaim::kExecutables, "nothing_vouches_for_record",
                 "there is a record of extends, but no quote that it could be checked against")
        .mend = "send a quote with it";
    return;
  }
  bool agrees = std::ranges::all_of(input.quote->banks, [&](const PcrValues& quoted) {
    return record_leads_to_quote(*vouched.record, quoted, judge);
  });
  if (input.context.record_from_keeper) return;
  if (agrees) {
    vouched.pcrs = quoted_registers(input, bank, judge);
  } else {
    vouched.record = nullptr;
  }
}

}  // namespace

std::optional<HashAlg> choose_bank(const AppraisalInput& input) {
  for (HashAlg bank : input.policy->banks) {
    bool in_log = input.log == nullptr || input.log->has_bank(bank);
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
  if (!log_is_sound(input, judge)) return vouched;
  if (vouched.record != nullptr) {
    if (RecordCheck(*input.log, *vouched.record, judge).agrees()) vouched.log = input.log;
    return vouched;
  }
  if (input.quote != nullptr) {
    size_t failures_before = judge.failures();
    vouched.pcrs = vouched_by_quote(input, *input.log, bank, judge);
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
