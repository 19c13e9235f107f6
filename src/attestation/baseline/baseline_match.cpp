// Which accepted boot a boot is nearest to, and which planned changes it has carried out.
#include <fmt/format.h>

#include <algorithm>

#include "attestation/baseline/baseline_inner.h"

namespace hf::attestation {
namespace {

// Which planned changes a boot has carried out, of those that one accepted boot could have: the
// ones without which more differs. Changes of the same text show only together, so up to three are
// tried at once, and of one text as many as there are.
class PlannedSearch {
 public:
  PlannedSearch(const Baseline& baseline, const MeasuredBoot& boot, const Policy& policy,
                const Explanations& explanations, Micros now)
      : with_{boot, policy, explanations, changes_} {
    for (const PlannedChange& change : baseline.planned) {
      if (change.expires > now) waiting_.push_back(&change);
    }
  }

  PlannedSearch(const PlannedSearch&) = delete;
  PlannedSearch& operator=(const PlannedSearch&) = delete;

  struct State {
    const BaselineBoot* accepted;          // outlives the search
    std::optional<BaselineBoot> foretold;  // what planned changes make of it
    Open open;
    DifferenceCount count;
    std::vector<std::string> carried_out;
    const BaselineBoot& expected() const { return foretold ? *foretold : *accepted; }
  };

  State without_changes(const BaselineBoot& accepted) {
    State state{.accepted = &accepted};
    state.count = count(state);
    return state;
  }

  void apply_changes(State& state) {
    std::vector<const PlannedChange*> waiting = waiting_;
    size_t work =
        std::max<size_t>(1, state.expected().entries.size() + with_.boot.measurements().size());
    trials_ = std::clamp(kWorkMax / work, kTrialsMin, kTrialsMax);
    for (size_t together = 1; together <= kTogetherMax + 1 && state.count.failures > 0;) {
      std::optional<Step> best;
      if (together <= kTogetherMax) {
        try_all(state, waiting, together, 0, {}, best);
      } else {
        try_texts(state, waiting, best);
      }
      if (!best) {
        ++together;
        continue;
      }
      for (const PlannedChange* change : best->changes) {
        state.carried_out.push_back(change->id);
        std::erase(waiting, change);
      }
      state.foretold = std::move(best->state.foretold);
      state.open = best->state.open;
      state.count = best->state.count;
      together = 1;
    }
  }

  // A change that foretold a register's whole sequence has come if that is what was measured, also
  // where nothing failed without it: entries more in dbx are a note.
  void apply_sequences(State& state) {
    for (const PlannedChange* change : waiting_) {
      if (state.count.all == 0) return;
      if (change->sequences.empty() ||
          std::ranges::find(state.carried_out, change->id) != state.carried_out.end()) {
        continue;
      }
      State with{.accepted = state.accepted,
                 .foretold = expected_after(state.expected(), *change),
                 .open = state.open.with(*change),
                 .carried_out = state.carried_out};
      with.count = count(with);
      if (with.count.failures > state.count.failures || with.count.all >= state.count.all) continue;
      with.carried_out.push_back(change->id);
      state = std::move(with);
    }
  }

  std::vector<Difference> differences(const State& state) {
    return differences_of(state.expected(), with_, state.open);
  }

 private:
  static constexpr size_t kTogetherMax = 3;
  static constexpr size_t kTouchingMax = 12;  // changes of one text
  static constexpr size_t kTextTriesMax = size_t{1} << 13;
  static constexpr size_t kTrialsMin = 64;
  static constexpr size_t kTrialsMax = 1024;
  static constexpr size_t kWorkMax = size_t{1} << 21;  // measurements compared

  struct Step {
    State state;
    std::vector<const PlannedChange*> changes;
  };

  DifferenceCount count(const State& state) const {
    return count_differences(state.expected(), with_, state.open);
  }

  void try_all(const State& from, const std::vector<const PlannedChange*>& waiting, size_t together,
               size_t first, const std::vector<const PlannedChange*>& chosen,
               std::optional<Step>& best) {
    for (size_t i = first; i + together <= waiting.size() && trials_ > 0; ++i) {
      State with{.accepted = from.accepted,
                 .foretold = expected_after(from.expected(), *waiting[i]),
                 .open = from.open.with(*waiting[i]),
                 .count = from.count};
      std::vector<const PlannedChange*> more = chosen;
      more.push_back(waiting[i]);
      if (together > 1) {
        try_all(with, waiting, together - 1, i + 1, more, best);
        continue;
      }
      --trials_;
      const size_t least = best ? best->state.count.failures : from.count.failures;
      with.count = count(with);
      if (with.count.failures >= least) continue;
      best = Step{.state = std::move(with), .changes = std::move(more)};
    }
  }

  // For each text, which of the changes that touch it make it one that was measured.
  void try_texts(const State& from, const std::vector<const PlannedChange*>& waiting,
                 std::optional<Step>& best) {
    size_t tries = kTextTriesMax;
    for (const BaselineEntry& entry : from.expected().entries) {
      std::vector<const PlannedChange*> touching;
      for (const PlannedChange* change : waiting) {
        if (with_texts(entry, {change}).digest != entry.digest) touching.push_back(change);
      }
      if (touching.size() <= kTogetherMax || touching.size() > kTouchingMax) continue;
      for (uint32_t set = 1; set < (1U << touching.size()) && tries > 0; ++set, --tries) {
        std::vector<const PlannedChange*> chosen;
        for (size_t i = 0; i < touching.size(); ++i) {
          if ((set >> i & 1) != 0) chosen.push_back(touching[i]);
        }
        if (chosen.size() <= kTogetherMax) continue;  // those were tried
        if (!measured(entry.pcr, with_texts(entry, chosen).digest)) continue;
        State with{.accepted = from.accepted, .open = from.open};
        for (const PlannedChange* change : chosen) {
          with.foretold = expected_after(with.foretold ? *with.foretold : from.expected(), *change);
          with.open = with.open.with(*change);
        }
        with.count = count(with);
        if (with.count.failures >= from.count.failures) continue;
        best = Step{.state = std::move(with), .changes = std::move(chosen)};
        return;
      }
    }
  }

  BaselineEntry with_texts(BaselineEntry entry,
                           const std::vector<const PlannedChange*>& changes) const {
    for (const PlannedChange* change : changes) {
      for (const PlannedChange::Text& text : change->texts) {
        retext(entry, with_.boot.bank(), text);
      }
    }
    return entry;
  }

  bool measured(uint8_t pcr, ByteSpan digest) const {
    return std::ranges::any_of(with_.boot.measurements(), [&](const Measurement& m) {
      return m.pcr == pcr && equal(m.digest, digest);
    });
  }

  DatabaseChanges changes_;
  Compared with_;
  std::vector<const PlannedChange*> waiting_;
  size_t trials_ = 0;
};

}  // namespace

bool BaselineMatch::agrees() const { return failures(differences) == 0; }

std::vector<Difference> compare(const BaselineBoot& expected, const MeasuredBoot& boot,
                                const Policy& policy, const Explanations& explanations) {
  HF_ASSERT(expected.bank == boot.bank());
  DatabaseChanges changes;
  return differences_of(expected, {boot, policy, explanations, changes}, {});
}

Result<BaselineMatch> best_match(const Baseline& baseline, const MeasuredBoot& boot,
                                 const Policy& policy, const Explanations& explanations,
                                 Micros now) {
  PlannedSearch search(baseline, boot, policy, explanations, now);
  std::optional<PlannedSearch::State> best;
  BaselineMatch match;
  auto offer = [&](size_t index, PlannedSearch::State state) {
    if (best && best->count.failures <= state.count.failures) return;
    best = std::move(state);
    match.boot = index;
  };
  for (size_t i = 0; i < baseline.boots.size(); ++i) {
    if (baseline.boots[i].bank == boot.bank()) {
      offer(i, search.without_changes(baseline.boots[i]));
    }
  }
  if (!best) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("the baseline has no boot with {} digests", name_of(boot.bank()))};
  }
  for (size_t i = 0; i < baseline.boots.size() && best->count.failures > 0; ++i) {
    if (baseline.boots[i].bank != boot.bank()) continue;
    PlannedSearch::State state = search.without_changes(baseline.boots[i]);
    search.apply_changes(state);
    offer(i, std::move(state));
  }
  if (best->count.failures == 0) search.apply_sequences(*best);
  match.differences = search.differences(*best);
  if (best->count.failures == 0) match.planned = std::move(best->carried_out);
  return match;
}

}  // namespace hf::attestation
