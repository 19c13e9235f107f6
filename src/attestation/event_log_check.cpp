#include "attestation/event_log_check.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::attestation {
namespace {

std::string name(const Event& event) {
  return fmt::format("event {} ({} in PCR {})", event.number, name_of(event.type), event.pcr);
}

// The events of one PCR, and what it would hold if they were others.
class PcrStory {
 public:
  PcrStory(const EventLog& log, const KnownPcr& known) : log_(log), known_(known) {
    for (const Event& event : log.events()) {
      if (event.measured() && event.pcr == known.pcr) events_.push_back(&event);
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
    return {event.number, true, known_.pcr, name(event) + ": " + std::move(reason)};
  }

  LogDifference inexact() const {
    std::string reason = fmt::format("PCR {} of the {} bank is not what the log leads to",
                                     known_.pcr, name_of(known_.alg));
    if (events_.empty()) {
      return {std::nullopt, false, known_.pcr, reason + ", which has no event of it"};
    }
    return {events_.back()->number, false, known_.pcr,
            fmt::format("{}; its last event is {}", reason, events_.back()->number)};
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

std::optional<LogDifference> compare(const Event& event, const Extend& extend) {
  LogDifference difference{event.number, true, event.pcr, name(event) + ": "};
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
  if (compared) return std::nullopt;
  difference.reason += fmt::format("it has no bank in common with extend {}", extend.n);
  return difference;
}

}  // namespace

std::optional<LogDifference> find_difference(const EventLog& log, std::span<const KnownPcr> known) {
  std::optional<PcrBank> bank;
  for (const KnownPcr& pcr : known) {
    if (!bank || bank->alg() != pcr.alg) {
      auto replayed = replay(log, pcr.alg);
      if (!replayed.ok()) return LogDifference{{}, false, pcr.pcr, replayed.error().cause};
      bank = *replayed;
    }
    HF_ASSERT(pcr.pcr < kPcrCount);
    if (!equal(bank->value(pcr.pcr), pcr.value)) return PcrStory(log, pcr).explain();
  }
  return std::nullopt;
}

std::optional<LogDifference> find_difference(const EventLog& log, const ExtendRecord& record) {
  if (!record.whole()) {
    return LogDifference{{}, false, 0, "the record of extends is not whole: it cannot be compared"};
  }
  size_t next = 0;
  for (const Event& event : log.events()) {
    if (!event.measured()) continue;
    if (next == record.extends.size()) {
      return LogDifference{event.number, true, event.pcr,
                           name(event) + ": the TPM has not seen it"};
    }
    if (auto difference = compare(event, record.extends[next])) return difference;
    ++next;
  }
  if (log.startup_locality() != record.startup_locality) {
    return LogDifference{{},
                         true,
                         0,
                         fmt::format("the log says that the TPM was started at locality {}; it was "
                                     "{}",
                                     log.startup_locality(), record.startup_locality)};
  }
  bool os_not_reached = !record.exit_boot_services.has_value();
  size_t firmware =
      os_not_reached ? record.extends.size() : static_cast<size_t>(*record.exit_boot_services) + 1;
  if (next >= firmware) return std::nullopt;
  const Extend& missing = record.extends[next];
  return LogDifference{
      {},
      true,
      missing.pcr,
      fmt::format("the log ends before extend {} of the TPM (in PCR {})", missing.n, missing.pcr)};
}

}  // namespace hf::attestation
