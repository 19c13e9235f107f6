#include "attestation/verdict/verdict_record.h"

#include <algorithm>

#include "sys/typed_json.h"

namespace hf::attestation {

// ---- The JSON form ----

constexpr auto json_words(sys::JsonOf<Verdict>) {
  return std::array{sys::JsonWord{"Healthy", Verdict::kHealthy},
                    sys::JsonWord{"Unhealthy", Verdict::kUnhealthy},
                    sys::JsonWord{"Unknown", Verdict::kUnknown}};
}

constexpr auto json_words(sys::JsonOf<Trigger>) {
  return std::array{sys::JsonWord{"boot", Trigger::kBoot},
                    sys::JsonWord{"no boot", Trigger::kStuck},
                    sys::JsonWord{"guest's log", Trigger::kGuestLog},
                    sys::JsonWord{"boot files", Trigger::kBootFiles},
                    sys::JsonWord{"on demand", Trigger::kDemand}};
}

constexpr auto json_words(sys::JsonOf<Severity>) {
  return std::array{sys::JsonWord{"failure", Severity::kFailure},
                    sys::JsonWord{"unknown", Severity::kUnknown},
                    sys::JsonWord{"note", Severity::kNote}};
}

constexpr auto json_words(sys::JsonOf<VmRole>) {
  return std::array{sys::JsonWord{"production", VmRole::kProduction},
                    sys::JsonWord{"drill", VmRole::kDrill},
                    sys::JsonWord{"branch", VmRole::kBranch}};
}

namespace {

constexpr size_t kTextMax = 64u << 10;
constexpr size_t kLinesMax = 1024;
// Of the guest's making, and cut to it: a register may be extended as often as a guest likes.
constexpr size_t kNamesMax = 256;
constexpr size_t kNameTextMax = 1024;

constexpr sys::JsonBounds kText{.length_max = kTextMax, .text = sys::JsonText::kAny};
constexpr sys::JsonBounds kLines{
    .length_max = kTextMax, .items_max = kLinesMax, .text = sys::JsonText::kAny};

// One flat object: facts and details stand side by side in it.
struct Flat {
  std::optional<uint64_t> id;
  Micros time;
  Verdict verdict = Verdict::kUnknown;
  Trigger trigger = Trigger::kDemand;
  std::string boot;
  std::optional<bool> partial;
  std::optional<Micros> handed_over;
  std::optional<int64_t> after_hand_over_ms;
  std::string site;
  Epoch epoch;
  std::string summary;
  std::vector<Reason> reasons;
  std::map<std::string, int8_t> trust;
  std::string policy;
  std::vector<std::string> planned_changes;
  std::optional<bool> secure_boot;
  std::string kernel_command_line;
  std::vector<std::string> authorities;
  IncarnationId incarnation;
  Sequence sequence;
  VmRole role = VmRole::kProduction;
  std::string freshness;
  std::vector<std::string> compared;
  std::optional<std::string> token;
};

constexpr auto json_members(sys::JsonOf<Flat>) {
  return std::tuple(
      sys::json_member("id", &Flat::id), sys::json_member("time_us", &Flat::time),
      sys::json_member("verdict", &Flat::verdict), sys::json_member("trigger", &Flat::trigger),
      sys::json_member("boot", &Flat::boot, {.length_max = 64}),
      sys::json_member("partial", &Flat::partial),
      sys::json_member("handed_over_us", &Flat::handed_over),
      sys::json_member("after_hand_over_ms", &Flat::after_hand_over_ms,
                       {.min = -static_cast<int64_t>(sys::kJsonNumberMax)}),
      sys::json_member("site", &Flat::site), sys::json_member("epoch", &Flat::epoch),
      sys::json_member("summary", &Flat::summary, kText),
      sys::json_member("reasons", &Flat::reasons, kLines),
      sys::json_member("trust", &Flat::trust, {.min = -128, .items_max = kTrustClaims}),
      sys::json_member("policy", &Flat::policy),
      sys::json_member("planned_changes", &Flat::planned_changes, kLines),
      sys::json_member("secure_boot", &Flat::secure_boot),
      sys::json_member("kernel_command_line", &Flat::kernel_command_line, kText),
      sys::json_member("authorities", &Flat::authorities, kLines),
      sys::json_member("incarnation", &Flat::incarnation),
      sys::json_member("sequence", &Flat::sequence), sys::json_member("role", &Flat::role),
      sys::json_member("freshness", &Flat::freshness),
      sys::json_member("compared", &Flat::compared, kLines),
      sys::json_member("token", &Flat::token, {.length_max = kTextMax}));
}

// An entry of a history.
struct Entry {
  std::optional<uint64_t> id;
  Micros time;
  Verdict verdict = Verdict::kUnknown;
  Trigger trigger = Trigger::kDemand;
  std::string summary;
  std::string boot;
  Epoch epoch;
  std::string site;
  std::optional<int64_t> after_hand_over_ms;
};

constexpr auto json_members(sys::JsonOf<Entry>) {
  return std::tuple(
      sys::json_member("id", &Entry::id), sys::json_member("time_us", &Entry::time),
      sys::json_member("verdict", &Entry::verdict), sys::json_member("trigger", &Entry::trigger),
      sys::json_member("summary", &Entry::summary), sys::json_member("boot", &Entry::boot),
      sys::json_member("epoch", &Entry::epoch), sys::json_member("site", &Entry::site),
      sys::json_member("after_hand_over_ms", &Entry::after_hand_over_ms));
}

std::vector<std::string> failures_in(const std::vector<Reason>& reasons) {
  std::vector<std::string> codes;
  for (const Reason& reason : reasons) {
    if (reason.severity == Severity::kFailure) codes.push_back(reason.code);
  }
  std::ranges::sort(codes);
  codes.erase(std::ranges::unique(codes).begin(), codes.end());
  return codes;
}

// At a character's border.
void cut(std::string& text, size_t bytes_max) {
  if (text.size() <= bytes_max) return;
  while (bytes_max > 0 && (static_cast<unsigned char>(text[bytes_max]) & 0xc0) == 0x80) --bytes_max;
  text.resize(bytes_max);
}

std::vector<std::string> bounded(const std::vector<std::string>& lines) {
  std::vector<std::string> kept(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                   lines.size(), kNamesMax)));
  for (std::string& line : kept) cut(line, kNameTextMax);
  return kept;
}

std::vector<std::string> compared_lines(const AppraisalInput& input) {
  std::vector<std::string> lines;
  if (input.record != nullptr) {
    lines.push_back("the keeper's record of " + std::to_string(input.record->extends.size()) +
                    " extends since the TPM was powered on");
  } else {
    lines.emplace_back("no record of the keeper's");
  }
  if (input.log != nullptr) {
    lines.push_back("the guest's event log of " + std::to_string(input.log->events().size()) +
                    " events");
  } else {
    lines.emplace_back("no event log from the guest");
  }
  if (input.quote != nullptr) {
    lines.push_back("a quote of PCR 0-9 and 11-15 (sha256) by the VM's attestation key " +
                    to_hex(input.quote->ak_name).substr(0, 16) + "…");
  } else {
    lines.emplace_back("no quote");
  }
  lines.emplace_back(input.variables != nullptr ? "Secure Boot variables from the VM's store"
                                                : "no Secure Boot variables");
  if (input.baseline != nullptr) {
    lines.push_back("a baseline of " + std::to_string(input.baseline->boots.size()) +
                    " accepted boot(s)");
  } else {
    lines.emplace_back("no baseline");
  }
  lines.push_back("policy " + policy_id(*input.policy));
  return lines;
}

}  // namespace

constexpr auto json_members(sys::JsonOf<Reason>) {
  return std::tuple(
      sys::json_member("severity", &Reason::severity), sys::json_member("code", &Reason::code),
      sys::json_member("words", &Reason::words, kText),
      sys::json_member_or_default("mend", &Reason::mend, kText),
      sys::json_member("event", &Reason::event), sys::json_member("pcr", &Reason::pcr),
      sys::json_member("nth", &Reason::nth), sys::json_member("extend", &Reason::extend));
}

VerdictRecord record_of(const Appraisal& appraisal, const AppraisalInput& input,
                        VerdictFacts facts) {
  facts.verdict = appraisal.verdict;
  facts.summary = appraisal.summary();
  cut(facts.summary, kTextMax);
  facts.epoch = input.context.epoch;
  VerdictRecord record{.of = std::move(facts),
                       .reasons = appraisal.reasons,
                       .policy = appraisal.policy_id,
                       .planned_changes = bounded(appraisal.planned_changes),
                       .secure_boot = appraisal.secure_boot,
                       .kernel_command_line = appraisal.kernel_command_line,
                       .authorities = bounded(appraisal.authorities),
                       .incarnation = input.context.incarnation,
                       .sequence = input.context.sequence,
                       .role = input.context.role,
                       .freshness = freshness_words(input.context, appraisal),
                       .compared = compared_lines(input)};
  for (Reason& reason : record.reasons) {
    cut(reason.words, kTextMax);
    cut(reason.mend, kTextMax);
  }
  cut(record.kernel_command_line, kTextMax);
  for (size_t i = 0; i < kTrustClaims; ++i) {
    const auto claim = static_cast<TrustClaim>(i);
    if (std::optional<int8_t> value = appraisal.trust.get(claim))
      record.trust.emplace(to_string(claim), *value);
  }
  record.of.failures = failures_in(record.reasons);
  return record;
}

sys::JsonObject to_json(const VerdictRecord& record) {
  const VerdictFacts& of = record.of;
  sys::JsonObject object =
      sys::encode_json(Flat{.id = of.id,
                            .time = of.time,
                            .verdict = of.verdict,
                            .trigger = of.trigger,
                            .boot = of.boot,
                            .partial = of.partial ? std::optional(true) : std::nullopt,
                            .handed_over = of.handed_over,
                            .after_hand_over_ms = of.after_hand_over_ms,
                            .site = of.site,
                            .epoch = of.epoch,
                            .summary = of.summary,
                            .reasons = record.reasons,
                            .trust = record.trust,
                            .policy = record.policy,
                            .planned_changes = record.planned_changes,
                            .secure_boot = record.secure_boot,
                            .kernel_command_line = record.kernel_command_line,
                            .authorities = record.authorities,
                            .incarnation = record.incarnation,
                            .sequence = record.sequence,
                            .role = record.role,
                            .freshness = record.freshness,
                            .compared = record.compared,
                            .token = record.token});
  return object;
}

sys::JsonObject to_json(const VerdictFacts& facts) {
  return sys::encode_json(Entry{.id = facts.id,
                                .time = facts.time,
                                .verdict = facts.verdict,
                                .trigger = facts.trigger,
                                .summary = facts.summary,
                                .boot = facts.boot,
                                .epoch = facts.epoch,
                                .site = facts.site,
                                .after_hand_over_ms = facts.after_hand_over_ms});
}

Result<VerdictRecord> parse_verdict_record(std::string_view text) {
  Flat flat = TRY(sys::decode_json<Flat>(text));
  VerdictRecord record{.of = {.id = flat.id,
                              .time = flat.time,
                              .verdict = flat.verdict,
                              .trigger = flat.trigger,
                              .boot = std::move(flat.boot),
                              .partial = flat.partial.value_or(false),
                              .handed_over = flat.handed_over,
                              .after_hand_over_ms = flat.after_hand_over_ms,
                              .site = std::move(flat.site),
                              .epoch = flat.epoch,
                              .summary = std::move(flat.summary),
                              .failures = failures_in(flat.reasons)},
                       .reasons = std::move(flat.reasons),
                       .trust = std::move(flat.trust),
                       .policy = std::move(flat.policy),
                       .planned_changes = std::move(flat.planned_changes),
                       .secure_boot = flat.secure_boot,
                       .kernel_command_line = std::move(flat.kernel_command_line),
                       .authorities = std::move(flat.authorities),
                       .incarnation = flat.incarnation,
                       .sequence = flat.sequence,
                       .role = flat.role,
                       .freshness = std::move(flat.freshness),
                       .compared = std::move(flat.compared),
                       .token = std::move(flat.token)};
  return record;
}

// ---- What follows from it ----

bool is_boots_verdict(const VerdictFacts& verdict) {
  return !verdict.boot.empty() && verdict.handed_over && verdict.trigger != Trigger::kStuck &&
         !verdict.partial;
}

bool answers_start(const VerdictFacts& verdict, Micros since, Epoch epoch) {
  if (verdict.time <= since || verdict.epoch != epoch || verdict.partial) return false;
  if (verdict.trigger == Trigger::kStuck) return true;
  // By when it handed over: an appraisal of the boot before may end after the start was asked for.
  return verdict.handed_over && *verdict.handed_over > since;
}

const VerdictFacts* answer_to_start(std::span<const VerdictFacts> newest_first, Micros since,
                                    Epoch epoch) {
  const auto found = std::ranges::find_if(newest_first, [&](const VerdictFacts& verdict) {
    return answers_start(verdict, since, epoch);
  });
  return found == newest_first.end() ? nullptr : &*found;
}

const VerdictFacts* answer_at_limit(std::span<const VerdictFacts> newest_first, Micros since) {
  if (newest_first.empty()) return nullptr;
  const VerdictFacts& newest = newest_first.front();
  return newest.time > since && newest.verdict != Verdict::kHealthy ? &newest : nullptr;
}

bool is_past(const VerdictFacts& verdict, const PresentBoot& present) {
  if (verdict.boot == present.id) return false;
  // Another site's clock says nothing here; another epoch's verdict is of its own boots.
  return verdict.time < present.seen || verdict.epoch != present.epoch;
}

Micros unchanged_since(std::span<const VerdictFacts> newest_first) {
  Micros since = newest_first.front().time;
  for (const VerdictFacts& older : newest_first) {
    if (older.verdict != newest_first.front().verdict) break;
    since = older.time;
  }
  return since;
}

std::optional<Announcement> worth_telling(const VerdictFacts* before, const VerdictFacts& now) {
  if (before != nullptr && before->verdict == now.verdict) {
    if (now.verdict != Verdict::kUnhealthy) return std::nullopt;
    // Of another boot it is told anew.
    const bool told =
        now.failures.empty() ||
        (before->boot == now.boot && std::ranges::includes(before->failures, now.failures));
    if (told) return std::nullopt;
  }
  switch (now.verdict) {
    case Verdict::kHealthy:
      return Announcement{
          .alarm = Alarm::kInfo, .kind = "attestation.healthy", .text = now.summary};
    case Verdict::kUnhealthy:
      return Announcement{
          .alarm = Alarm::kAlert, .kind = "attestation.unhealthy", .text = now.summary};
    case Verdict::kUnknown:
      break;
  }
  return Announcement{.alarm = Alarm::kWarning, .kind = "attestation.unknown", .text = now.summary};
}

}  // namespace hf::attestation
