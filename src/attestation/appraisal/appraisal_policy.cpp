// What the policy and the baseline ask of a boot: registers, command lines, marks of a role.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "attestation/appraisal/appraisal_inner.h"
#include "attestation/log/event_cover.h"
#include "attestation/words/quoted.h"

namespace hf::attestation {
namespace {

constexpr size_t kFailuresToldMax = 16;
constexpr size_t kNotesToldMax = 8;

// Which claim of the trust vector a register speaks for.
TrustClaim claim_of(uint8_t pcr) {
  switch (pcr) {
    case 1:
    case 3:
    case 5:
    case 7:
    case 8:
    case 12:
    case 14:
      return TrustClaim::kConfiguration;
    default:
      return TrustClaim::kExecutables;
  }
}

int8_t failed_value(TrustClaim claim) {
  return claim == TrustClaim::kConfiguration ? kConfigurationUnsupportable
                                             : kExecutablesUnrecognised;
}

// Differences of one cause, the first of them first.
using Group = std::vector<const Difference*>;

// Whether the second follows from what the first does. A code that names what changed (a program,
// a certificate, a list of keys) is a cause of its own each time.
bool same_cause(const Difference& a, const Difference& b) {
  if (a.weight != b.weight || a.code != b.code) return false;
  if (a.code == "grub_config_changed") return true;
  bool nameless = a.code == "pcr_changed" || a.code == "file_changed" ||
                  a.code == "firmware_changed" || a.code == "mok_changed";
  return nameless && a.pcr == b.pcr;
}

std::vector<Group> by_cause(const std::vector<Difference>& differences) {
  std::vector<Group> groups;
  for (const Difference& difference : differences) {
    auto same = std::ranges::find_if(
        groups, [&](const Group& group) { return same_cause(*group.front(), difference); });
    if (same == groups.end()) {
      groups.push_back({&difference});
    } else {
      same->push_back(&difference);
    }
  }
  return groups;
}

// "and 14 more: 12 of PCR 8, 2 of PCR 9".
std::string rest_of(const Group& group) {
  std::map<uint8_t, size_t> counts;
  for (const Difference* difference : std::span(group).subspan(1)) ++counts[difference->pcr];
  std::string list;
  for (const auto& [pcr, count] : counts) {
    list += fmt::format("{}{} of PCR {}", list.empty() ? "" : ", ", count, pcr);
  }
  return fmt::format("; with it {} more: {}", group.size() - 1, list);
}

void tell(const Group& group, Judge& judge) {
  const Difference& first = *group.front();
  bool grub = first.code == "grub_config_changed";
  std::string words = grub ? "GRUB's configuration is another: " + first.words : first.words;
  if (group.size() > 1) words += rest_of(group);
  TrustClaim claim = claim_of(first.pcr);
  bool failure = first.weight == Weight::kFailure;
  Reason& reason = failure ? judge.fail(claim, failed_value(claim), first.code, std::move(words))
                           : judge.note(first.code, std::move(words));
  // The registers of a group may speak for different claims.
  for (const Difference* difference : group) {
    TrustClaim other = claim_of(difference->pcr);
    if (failure && other != claim) judge.lower(other, failed_value(other));
  }
  if (failure) reason.mend = grub ? kGrubMend : kAcceptMend;
  reason.pcr = first.pcr;
  reason.nth = first.nth;
  reason.event = first.event;
  reason.extend = first.extend;
}

// A line for each cause. The first ones tell the story; the rest follows from them, mostly.
void tell_all(const std::vector<Difference>& differences, Judge& judge) {
  const std::vector<Group> groups = by_cause(differences);
  for (Weight weight : {Weight::kFailure, Weight::kNote}) {
    size_t max = weight == Weight::kFailure ? kFailuresToldMax : kNotesToldMax;
    size_t told = 0;
    size_t untold = 0;
    for (const Group& group : groups) {
      if (group.front()->weight != weight) continue;
      if (told < max) {
        tell(group, judge);
        ++told;
      } else {
        untold += group.size();
      }
    }
    if (untold > 0) {
      judge.note("more_differences",
                 fmt::format("{} more measurements differ {}", untold,
                             weight == Weight::kFailure ? "from the baseline"
                                                        : "where the policy does not mind"));
    }
  }
}

std::optional<Bytes> register_value(const AppraisalInput& input, const Vouched& vouched,
                                    HashAlg bank, uint8_t pcr) {
  if (input.quote != nullptr) {
    const Bytes* value = input.quote->find(bank, pcr);
    if (value != nullptr) return *value;
  }
  // Of a record that only a quote vouches for, nothing is known outside what that covers.
  if (vouched.record == nullptr || !vouched.pcrs[pcr]) return std::nullopt;
  Result<PcrBank> replayed = replay(*vouched.record, bank);
  if (!replayed.ok()) return std::nullopt;
  return Bytes(replayed->value(pcr).begin(), replayed->value(pcr).end());
}

void affirm_boot(const BootJudgement& boot, Judge& judge) {
  judge.affirm(TrustClaim::kConfiguration, kConfigurationApproved);
  judge.affirm(TrustClaim::kExecutables, kExecutablesApprovedBoot);
  for (const std::string& id : boot.match->planned) {
    judge.note("planned_change", fmt::format("this boot carried out the planned change {}", id));
  }
}

}  // namespace

bool BootJudgement::agrees_in(uint8_t pcr) const {
  if (!boot->pcrs()[pcr] || boot->unplaced()[pcr]) return false;
  PcrRule rule = policy->pcrs[pcr].rule;
  if (rule == PcrRule::kValues) return true;  // judge_values() says so if it does not
  if (match == nullptr || rule == PcrRule::kIgnore) return false;
  return std::ranges::none_of(match->differences, [&](const Difference& difference) {
    return difference.pcr == pcr && difference.code != "dbx_grew";
  });
}

std::string_view text_of(const Measurement& measurement, const BootJudgement& boot) {
  if (!measurement.text.empty() || boot.matched == nullptr) return measurement.text;
  for (const BaselineEntry& entry : boot.matched->entries) {
    if (entry.pcr == measurement.pcr && !entry.text.empty() &&
        equal(entry.digest, measurement.digest)) {
      return entry.text;
    }
  }
  return {};
}

void judge_baseline(const AppraisalInput& input, const BootJudgement& boot, Judge& judge) {
  if (boot.match != nullptr) {
    tell_all(boot.match->differences, judge);
    if (boot.match->agrees()) affirm_boot(boot, judge);
    return;
  }
  if (!input.policy->compares_with_baseline() || input.policy->baseline != Need::kRequired) return;
  if (input.baseline != nullptr && !input.baseline->boots.empty()) return;  // told already
  judge
      .unknown(TrustClaim::kExecutables, "no_baseline",
               "there is no baseline to compare this boot with")
      .mend = "if this boot is as it should be, learn it: holdfast attest baseline learn VM";
}

void judge_values(const AppraisalInput& input, const Vouched& vouched, HashAlg bank, Judge& judge) {
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    const PcrPolicy& rule = input.policy->pcrs[pcr];
    if (rule.rule != PcrRule::kValues) continue;
    std::optional<Bytes> value = register_value(input, vouched, bank, pcr);
    TrustClaim claim = claim_of(pcr);
    if (!value) {
      judge.unknown(
          claim, "pcr_value_unknown",
          fmt::format("the policy names values for PCR {}, and the evidence has none", pcr));
      continue;
    }
    bool listed = std::ranges::any_of(rule.values, [&](const PcrDigest& allowed) {
      return allowed.alg == bank && equal(allowed.bytes, *value);
    });
    if (listed) {
      judge.affirm(claim, claim == TrustClaim::kConfiguration ? kConfigurationApproved
                                                              : kExecutablesApprovedBoot);
      continue;
    }
    Reason& reason =
        judge.fail(claim, failed_value(claim), "pcr_value",
                   fmt::format("PCR {} is {}:{}, which is not among the policy's {} values", pcr,
                               name_of(bank), to_hex(*value), rule.values.size()));
    reason.pcr = pcr;
    reason.mend = kAcceptMend;
  }
}

void judge_command_lines(const AppraisalInput& input, const BootJudgement& boot, Judge& judge) {
  const TextRules& rules = input.policy->kernel_command_line;
  if (rules.empty()) return;
  bool any = false;
  const Measurement* unread = nullptr;
  for (const Measurement& m : boot.boot->measurements()) {
    if (m.pcr != 8 && m.pcr != 12) continue;
    std::string_view line = text_of(m, boot);
    bool known = m.kind == MeasurementKind::kSeparator || m.kind == MeasurementKind::kAction;
    if (line.empty() && !known && unread == nullptr) unread = &m;
    bool command_line = m.kind == MeasurementKind::kKernelCommandLine ||
                        (m.pcr == 12 && !line.empty()) || line.starts_with('/') ||
                        line.starts_with('(');
    if (!command_line) continue;
    any = true;
    std::string broken = broken_rule(rules, line);
    if (broken.empty()) continue;
    Reason& reason =
        judge.fail(TrustClaim::kConfiguration, kConfigurationUnsupportable, "command_line_refused",
                   fmt::format("the kernel command line is {}: {}", quoted(line), broken));
    reason.mend = "correct the boot loader's configuration, or the policy";
    reason.pcr = m.pcr;
    reason.nth = m.nth;
    reason.event = m.event;
    reason.extend = m.extend;
  }
  if (any && unread == nullptr) return;
  Reason& reason = judge.unknown(
      TrustClaim::kConfiguration, "command_line_unknown",
      any ? fmt::format("the policy has rules for the kernel command line, and extend {} of PCR {} "
                        "may be another one: its text is not known",
                        unread->nth, unread->pcr)
          : std::string("the policy has rules for the kernel command line, and the evidence does "
                        "not show it"));
  reason.mend = "send the event log with the evidence, or learn a baseline from a boot with one";
  if (unread == nullptr) return;
  reason.pcr = unread->pcr;
  reason.nth = unread->nth;
  reason.event = unread->event;
  reason.extend = unread->extend;
}

namespace {

void judge_marked_role(const AppraisalInput& input, VmRole marked, const Measurement* m,
                       Judge& judge) {
  VmRole presented = input.context.presented_as.value_or(input.context.role);
  if (marked == presented && marked == input.context.role) return;
  Reason& reason =
      judge.fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "role_marked",
                 fmt::format("the vTPM is marked as a {}'s (PCR 6), and this is presented as {}",
                             to_string(marked), to_string(presented)));
  reason.mend = "ask the production VM itself";
  reason.pcr = kMarkedPcr;
  if (m == nullptr) return;
  reason.extend = m->extend;
  reason.event = m->event;
}

// The extend after the role's mark says of which incarnation the vTPM is.
void judge_marked_incarnation(const AppraisalInput& input, const Measurement& m, HashAlg bank,
                              Judge& judge) {
  const IncarnationId& known = input.context.incarnation;
  if (known.is_zero() || equal(m.digest, incarnation_marker(known, bank).bytes())) return;
  Reason& reason =
      judge.fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "incarnation_mismatch",
                 fmt::format("the vTPM is marked (PCR 6) as of another incarnation than {}",
                             short_hex(known.span())));
  reason.mend = "holdfast vm show VM, at each of its sites, says which one runs it";
  reason.pcr = m.pcr;
  reason.extend = m.extend;
  reason.event = m.event;
}

}  // namespace

void judge_role_marks(const AppraisalInput& input, const BootJudgement& boot,
                      const Vouched& vouched, Judge& judge) {
  if (vouched.marked) judge_marked_role(input, *vouched.marked, nullptr, judge);
  HashAlg bank = boot.boot->bank();
  bool marked_first = false;
  for (const Measurement& m : boot.boot->measurements()) {
    if (m.pcr != kMarkedPcr) continue;
    if (m.kind == MeasurementKind::kRoleMarker) {
      bool drill = equal(m.digest, role_marker(VmRole::kDrill, bank).bytes());
      judge_marked_role(input, drill ? VmRole::kDrill : VmRole::kBranch, &m, judge);
      marked_first = marked_first || m.nth == 1;
    } else if (marked_first && m.nth == 2) {
      judge_marked_incarnation(input, m, bank, judge);
    }
  }
}

namespace {

constexpr size_t kUnprovenNamedMax = 4;

// "event 1 (PCR 0) and event 7 (PCR 1)", the first ones.
std::string named(const std::vector<UnprovenEvent>& events) {
  std::string names;
  for (size_t i = 0; i < events.size() && i < kUnprovenNamedMax; ++i) {
    names += fmt::format("{}event {} (PCR {}: {})", i == 0 ? "" : ", ", events[i].event,
                         events[i].pcr, events[i].reason);
  }
  if (events.size() > kUnprovenNamedMax) {
    names += fmt::format(" and {} more", events.size() - kUnprovenNamedMax);
  }
  return names;
}

}  // namespace

// Of PCR 0 to 6 nothing is read but digests, so data there that nothing proves takes nothing away.
void judge_unproven(const EventLog& log, Judge& judge) {
  std::vector<UnprovenEvent> events = unproven_events(log);
  if (events.empty()) return;
  judge
      .note("event_not_proven",
            fmt::format("the event log's words for {} are not proven: nothing is concluded from "
                        "them",
                        named(events)))
      .event = static_cast<uint32_t>(events.front().event);
}

std::string freshness_words(const AppraisalContext& context, const Appraisal& appraisal) {
  auto told = [&](std::string_view prefix) {
    return std::ranges::any_of(appraisal.reasons, [&](const Reason& reason) {
      for (std::string_view code : {"state_rolled_back", "state_forked", "tpm_went_back"}) {
        if (reason.code == std::string(prefix).append(code)) return true;
      }
      return false;
    });
  };
  if (told("")) return "older";
  if (told("declared_")) return "older-declared";
  return context.freshness.durable ? "current" : "unknown";
}

}  // namespace hf::attestation
