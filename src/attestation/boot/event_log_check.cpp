#include "attestation/boot/event_log_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/boot/known_measurements.h"

namespace hf::attestation {
namespace {

std::string name(const Event& event) {
  return fmt::format("event {} ({} in PCR {})", event.number, name_of(event.type), event.pcr);
}

// For verdicts: no digest proves the type.
std::string place(const Event& event) {
  return fmt::format("event {} (PCR {})", event.number, event.pcr);
}

// The events of one PCR, and what it would hold if they were others.
class PcrStory {
 public:
  PcrStory(const EventLog& log, const KnownPcr& known) : log_(log), known_(known) {
    for (const Event& event : log.events()) {
      bool extends = event.measured() && !event.digest(known.alg).empty();
      if (extends && event.pcr == known.pcr) events_.push_back(&event);
    }
  }

  LogDifference explain() const {
    if (events_.empty()) return inexact();
    if (events_.size() <= kExplainedEventsMax) {
      if (auto found = locality()) return *found;
      if (auto found = one_too_many()) return *found;
      if (auto found = other_order()) return *found;
    }
    return inexact();
  }

 private:
  using Events = std::vector<const Event*>;

  HashValue start(uint8_t locality) const {
    HashValue value(size_of(known_.alg));
    PcrBank bank(known_.alg, locality);
    if (!events_.empty()) bank.dynamic_launch();
    std::ranges::copy(bank.value(known_.pcr), value.bytes().begin());
    return value;
  }
  HashValue after(HashValue value, std::span<const Event* const> events) const {
    for (const Event* event : events) {
      value = hash(known_.alg, value.bytes(), event->digest(known_.alg));
    }
    return value;
  }
  bool leads_to_it(const HashValue& value) const { return equal(value.bytes(), known_.value); }

  LogDifference exact(const Event& event, std::string reason) const {
    return {.event = event.number,
            .exact = true,
            .pcr = known_.pcr,
            .reason = name(event) + ": " + std::move(reason)};
  }

  LogDifference inexact() const {
    std::string reason = fmt::format("PCR {} of the {} bank is not what the log leads to",
                                     known_.pcr, name_of(known_.alg));
    if (events_.empty()) {
      return {.pcr = known_.pcr, .reason = reason + ", which has no event of it"};
    }
    return {.event = events_.back()->number,
            .pcr = known_.pcr,
            .reason = fmt::format("{}; its last event is {}", reason, events_.back()->number)};
  }

  std::optional<LogDifference> locality() const {
    if (known_.pcr != 0) return std::nullopt;
    for (uint8_t other : {uint8_t{0}, uint8_t{3}, uint8_t{4}}) {
      if (other == log_.startup_locality() || !leads_to_it(after(start(other), events_))) continue;
      LogDifference found = exact(*events_.front(), "");
      found.reason = fmt::format("the log says that the TPM was started at locality {}; it was {}",
                                 log_.startup_locality(), other);
      for (const Event& event : log_.events()) {
        if (!event.measured() && as_text(event.data).starts_with("StartupLocality")) {
          found.event = event.number;
        }
      }
      return found;
    }
    return std::nullopt;
  }

  // All the last ones the TPM never saw, or one in the middle.
  std::optional<LogDifference> one_too_many() const {
    HashValue before = start(log_.startup_locality());
    for (size_t i = 0; i < events_.size(); ++i) {
      if (leads_to_it(before)) {
        return exact(*events_[i], "the TPM has not seen it, nor what follows in this PCR");
      }
      if (leads_to_it(after(before, std::span(events_).subspan(i + 1)))) {
        return exact(*events_[i], "the TPM has not seen it");
      }
      before = after(before, std::span(&events_[i], 1));
    }
    return std::nullopt;
  }

  std::optional<LogDifference> other_order() const {
    HashValue before = start(log_.startup_locality());
    for (size_t i = 0; i + 1 < events_.size(); ++i) {
      Events swapped = {events_[i + 1], events_[i]};
      HashValue value = after(after(before, swapped), std::span(events_).subspan(i + 2));
      if (leads_to_it(value)) {
        return exact(*events_[i],
                     fmt::format("the TPM has seen it after event {}", events_[i + 1]->number));
      }
      before = after(before, std::span(&events_[i], 1));
    }
    return std::nullopt;
  }

  const EventLog& log_;
  const KnownPcr& known_;
  Events events_;
};

// A bank that the event has no digest of is one that it did not extend, says the log; one that the
// log lacks altogether is left out of the comparison, as one that the record lacks.
std::optional<LogDifference> compare(const EventLog& log, const Event& event,
                                     const Extend& extend) {
  LogDifference difference{.event = event.number,
                           .exact = true,
                           .pcr = event.pcr,
                           .extend = extend.n,
                           .reason = place(event) + ": "};
  if (extend.pcr != event.pcr) {
    difference.reason +=
        fmt::format("the TPM extended PCR {} here (extend {})", extend.pcr, extend.n);
    return difference;
  }
  bool compared = false;
  for (const DigestView& digest : event.digests()) {
    const PcrDigest* seen = extend.digest(digest.alg);
    if (seen == nullptr) continue;
    compared = true;
    if (equal(seen->bytes, digest.bytes)) continue;
    difference.reason += fmt::format("its {} digest is not what the TPM extended (extend {})",
                                     name_of(digest.alg), extend.n);
    return difference;
  }
  for (const PcrDigest& seen : extend.digests) {
    if (!log.has_bank(seen.alg) || !event.digest(seen.alg).empty()) continue;
    difference.reason +=
        fmt::format("it has no {} digest, and the TPM extended that bank (extend {})",
                    name_of(seen.alg), extend.n);
    return difference;
  }
  if (compared) return std::nullopt;
  difference.reason += fmt::format("it has no bank in common with extend {}", extend.n);
  return difference;
}

bool says_in_all_banks(const Extend& extend, auto is_it) {
  return !extend.digests.empty() && std::ranges::all_of(extend.digests, [&](const PcrDigest& d) {
    return is_it(known_event_text(d.alg, d.bytes));
  });
}

// The keeper marks a drill's or branch's vTPM before its firmware starts: the role, then the
// incarnation.
size_t marks_at_start(const ExtendRecord& record) {
  auto is_mark = [](const Extend& e) { return e.pcr == 6 && e.kind == PcrChange::kExtend; };
  auto is_role = [](std::string_view text) {
    return text == kDrillMarker || text == kBranchMarker;
  };
  const std::vector<Extend>& extends = record.extends;
  if (extends.empty() || !is_mark(extends[0]) || !says_in_all_banks(extends[0], is_role)) return 0;
  return extends.size() > 1 && is_mark(extends[1]) ? 2 : 1;
}

bool is_farewell(const Extend& extend) {
  return extend.pcr == 5 && says_in_all_banks(extend, [](std::string_view text) {
           return text.starts_with("Exit Boot Services");
         });
}

// The measured events of a log, each with the extend that it is of.
class RecordStory {
 public:
  RecordStory(const EventLog& log, const ExtendRecord& record)
      : log_(log), record_(record), marks_(marks_at_start(record)) {}

  std::optional<LogDifference> explain() {
    for (const Event& event : log_.events()) {
      if (!event.measured()) continue;
      if (auto difference = next(event)) return difference;
    }
    if (auto difference = locality()) return difference;
    return end();
  }

 private:
  bool unlogged(size_t at) const {
    return at < marks_ || record_.extends[at].kind == PcrChange::kReset;
  }

  std::optional<LogDifference> next(const Event& event) {
    while (at_ < record_.extends.size()) {
      auto difference = compare(log_, event, record_.extends[at_]);
      if (difference && !unlogged(at_)) return difference;
      ++at_;
      if (!difference) return std::nullopt;
    }
    return LogDifference{.event = event.number,
                         .exact = true,
                         .pcr = event.pcr,
                         .reason = place(event) + ": the TPM has not seen it"};
  }

  std::optional<LogDifference> locality() const {
    bool hcrtm = !record_.extends.empty() && record_.extends.front().kind == PcrChange::kHcrtm;
    uint8_t started = hcrtm ? 4 : record_.startup_locality;
    if (log_.startup_locality() == started) return std::nullopt;
    return LogDifference{
        .exact = true,
        .reason = fmt::format("the log says that the TPM was started at locality {}; it was {}",
                              log_.startup_locality(), started)};
  }

  // Nothing is missing once the operating system runs: its extends have no place in this log.
  std::optional<LogDifference> end() const {
    size_t end = record_.extends.size();
    if (record_.exit_boot_services) {
      end = std::min(end, static_cast<size_t>(*record_.exit_boot_services) + 1);
    }
    size_t at = at_;
    while (at < end && (unlogged(at) || is_farewell(record_.extends[at]))) ++at;
    if (at >= end) return std::nullopt;
    const Extend& extend = record_.extends[at];
    const std::vector<Event>& events = log_.events();
    return LogDifference{
        .kind = LogDifference::Kind::kTruncated,
        .event = events.empty() ? 0 : events.back().number + 1,
        .exact = true,
        .pcr = extend.pcr,
        .extend = extend.n,
        .missing = end - at,
        .reason = fmt::format("the log ends before extend {} of the TPM (in PCR {}); {} more came "
                              "before the operating system started",
                              extend.n, extend.pcr, end - at - 1)};
  }

  const EventLog& log_;
  const ExtendRecord& record_;
  size_t marks_;
  size_t at_ = 0;
};

}  // namespace

std::optional<LogDifference> find_difference(const EventLog& log, std::span<const KnownPcr> known) {
  std::optional<PcrBank> bank;
  for (const KnownPcr& pcr : known) {
    if (!bank || bank->alg() != pcr.alg) {
      auto replayed = replay(log, pcr.alg);
      if (!replayed.ok()) return LogDifference{.pcr = pcr.pcr, .reason = replayed.error().cause};
      bank = *replayed;
    }
    HF_ASSERT(pcr.pcr < kPcrCount);
    if (!equal(bank->value(pcr.pcr), pcr.value)) return PcrStory(log, pcr).explain();
  }
  return std::nullopt;
}

std::optional<LogDifference> find_difference(const EventLog& log, const ExtendRecord& record) {
  if (!record.whole()) {
    return LogDifference{.reason = "the record of extends is not whole: it cannot be compared"};
  }
  return RecordStory(log, record).explain();
}

}  // namespace hf::attestation
