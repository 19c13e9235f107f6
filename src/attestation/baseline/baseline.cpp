#include "attestation/baseline/baseline_inner.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/baseline/entry_words.h"
#include "attestation/boot/boot_facts.h"
#include "attestation/policy/strict_json.h"
#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

Error not_announced(std::string_view id) {
  return Error{.code = ErrorCode::kNotFound,
               .cause = fmt::format("no planned change \"{}\" is announced", id.substr(0, 64))};
}

std::string replaced(std::string text, std::string_view was, std::string_view is) {
  for (size_t at = text.find(was); at != std::string::npos; at = text.find(was, at + is.size())) {
    text.replace(at, was.size(), is);
  }
  return text;
}

// The ways in which boot loaders turn a text into the bytes they hash.
std::vector<Bytes> encodings(std::string_view text) {
  Bytes narrow(as_bytes(text).begin(), as_bytes(text).end());
  Bytes wide;
  for (std::byte byte : narrow) {
    wide.push_back(byte);
    wide.push_back(std::byte{0});
  }
  std::vector<Bytes> all = {narrow, wide};
  narrow.push_back(std::byte{0});
  wide.resize(wide.size() + 2);
  all.push_back(std::move(narrow));
  all.push_back(std::move(wide));
  return all;
}

void drop_expired(Baseline& baseline, Micros now) {
  std::erase_if(baseline.planned,
                [&](const PlannedChange& change) { return change.expires <= now; });
}

std::string fresh_id(const PlannedChange& change) {
  return crypto::sha256(as_bytes(sys::to_text(to_json(change)))).hex().substr(0, 12);
}

auto find_planned(Baseline& baseline, std::string_view id) {
  return std::ranges::find(baseline.planned, id, &PlannedChange::id);
}

Status check_change(const PlannedChange& change, Micros now) {
  if (change.digests.empty() && change.texts.empty() && change.sequences.empty() &&
      change.open_pcrs.empty() && !change.grub_config) {
    return invalid("a planned change that changes nothing");
  }
  if (change.expires <= now) return invalid("a planned change that has expired already");
  for (const PlannedChange::Text& text : change.texts) {
    if (text.was.empty() || text.was == text.is) return invalid("a text that stays as it is");
  }
  for (uint8_t pcr : change.open_pcrs) {
    if (pcr == 0 || pcr == 7) {
      return invalid(
          fmt::format("PCR {} cannot be left open: it says whose firmware and keys "
                      "these are",
                      pcr));
    }
  }
  return {};
}

}  // namespace

void retext(BaselineEntry& entry, HashAlg bank, const PlannedChange::Text& change) {
  if (entry.text.find(change.was) == std::string::npos) return;
  std::string text = replaced(entry.text, change.was, change.is);
  if (text.size() > kBaselineTextMax) return;
  std::vector<Bytes> before = encodings(entry.text);
  std::vector<Bytes> after = encodings(text);
  for (size_t i = 0; i < before.size(); ++i) {
    if (!equal(hash(bank, before[i]).bytes(), entry.digest)) continue;
    HashValue digest = hash(bank, after[i]);
    entry.digest.assign(digest.bytes().begin(), digest.bytes().end());
    entry.text = std::move(text);
    return;
  }
}

const FileExplanation* Explanations::find(ByteSpan digest) const {
  auto found = std::ranges::find_if(
      files, [&](const FileExplanation& file) { return equal(file.digest, digest); });
  return found == files.end() ? nullptr : &*found;
}

Result<BaselineBoot> learn(const MeasuredBoot& boot, const Explanations& explanations,
                           std::string boot_id, Micros now) {
  if (!boot.exited_boot_services()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "this boot did not come to the start of an operating system",
                 .effect = "there is nothing to learn from it",
                 .mend = "let the VM start, then learn again"};
  }
  if (boot.measurements().size() > kBaselineEntriesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("the boot has {} measurements, a baseline takes {}",
                                      boot.measurements().size(), kBaselineEntriesMax)};
  }
  BaselineBoot learned{.boot_id = std::move(boot_id), .learned = now, .bank = boot.bank()};
  for (const Measurement& m : boot.measurements()) {
    learned.entries.push_back(entry_of(m, explanations));
  }
  for (const auto& [name, content] : read_facts(boot).variables) {
    learned.variables[name] = {content.begin(), content.end()};
  }
  return learned;
}

void accept(Baseline& baseline, BaselineBoot boot, AcceptMode mode) {
  if (mode == AcceptMode::kReplace) baseline.boots.clear();
  if (baseline.boots.size() == kBaselineBootsMax) baseline.boots.erase(baseline.boots.begin());
  baseline.boots.push_back(std::move(boot));
}

Result<std::string> announce(Baseline& baseline, PlannedChange change, Micros now) {
  drop_expired(baseline, now);
  TRY(check_change(change, now));
  change.announced = now;
  if (change.id.empty()) change.id = fresh_id(change);
  if (auto same = find_planned(baseline, change.id); same != baseline.planned.end()) {
    *same = std::move(change);
    return same->id;
  }
  if (baseline.planned.size() == kPlannedChangesMax) {
    return Error{
        .code = ErrorCode::kLimit,
        .cause = fmt::format("{} planned changes are announced already", kPlannedChangesMax),
        .mend = "withdraw one"};
  }
  baseline.planned.push_back(std::move(change));
  return baseline.planned.back().id;
}

Status withdraw(Baseline& baseline, std::string_view planned_id) {
  auto found = find_planned(baseline, planned_id);
  if (found == baseline.planned.end()) return not_announced(planned_id);
  baseline.planned.erase(found);
  return {};
}

Status consume(Baseline& baseline, const BaselineMatch& match, BaselineBoot boot) {
  if (match.boot >= baseline.boots.size()) return invalid("the baseline has no such boot");
  for (const std::string& id : match.planned) {
    auto found = find_planned(baseline, id);
    if (found == baseline.planned.end()) return not_announced(id);
    for (BaselineBoot& other : baseline.boots) other = expected_after(other, *found);
    baseline.planned.erase(found);
  }
  baseline.boots[match.boot] = std::move(boot);
  return {};
}

BaselineBoot expected_after(const BaselineBoot& boot, const PlannedChange& change) {
  BaselineBoot expected = boot;
  for (BaselineEntry& entry : expected.entries) {
    for (const PlannedChange::Text& text : change.texts) retext(entry, boot.bank, text);
    for (const PlannedChange::Digests& digests : change.digests) {
      if (entry.pcr != digests.pcr || entry.digest != digests.was) continue;
      entry.digest = digests.is;
      entry.signers.clear();
      entry.what = digests.what;
      break;
    }
  }
  for (const PlannedChange::Sequence& sequence : change.sequences) {
    std::erase_if(expected.entries,
                  [&](const BaselineEntry& entry) { return entry.pcr == sequence.pcr; });
    expected.entries.insert(expected.entries.end(), sequence.entries.begin(),
                            sequence.entries.end());
  }
  for (const auto& [name, content] : change.variables) expected.variables[name] = content;
  return expected;
}

}  // namespace hf::attestation
