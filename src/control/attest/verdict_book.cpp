#include "control/attest/verdict_book.h"

#include <algorithm>

#include "control/core/log.h"

namespace hf::control {

using attestation::VerdictFacts;
using attestation::VerdictRecord;

namespace {

VerdictFacts facts_of(VmId vm, const VerdictRow& row) {
  Result<VerdictRecord> record = attestation::parse_verdict_record(row.record);
  VerdictFacts facts;
  if (record.ok()) {
    facts = std::move(record->of);
  } else {
    log_error("a verdict of VM " + vm.hex() + " cannot be read: " + record.error().describe());
    facts.summary = "Unknown: the record of this verdict cannot be read";
  }
  facts.id = row.id;
  facts.time = row.time;
  return facts;
}

}  // namespace

Result<VerdictBook::History> VerdictBook::load(VmId vm) {
  // No id is given twice: what was replaced, or of a VM that is gone, has another one in front.
  const std::vector<VerdictRow> kept = TRY(catalog_.verdicts(vm, 1));
  const uint64_t newest = kept.empty() ? 0 : kept.front().id;
  if (const auto known = known_.find(vm); known != known_.end()) {
    const std::vector<VerdictFacts>& facts = *known->second;
    if (newest == (facts.empty() ? 0 : facts.front().id.value_or(0))) return known->second;
    known_.erase(known);
  }
  std::vector<VerdictFacts> facts;
  for (const VerdictRow& row : TRY(catalog_.verdicts(vm))) facts.push_back(facts_of(vm, row));
  auto history = std::make_shared<const std::vector<VerdictFacts>>(std::move(facts));
  known_[vm] = history;
  return History(std::move(history));
}

Result<VerdictBook::History> VerdictBook::history(VmId vm) {
  std::lock_guard lock(mutex_);
  return load(vm);
}

Result<VerdictRecord> VerdictBook::record(VmId vm, uint64_t id) {
  const std::vector<VerdictRow> rows = TRY(catalog_.verdicts(vm));
  const auto row = std::ranges::find(rows, id, &VerdictRow::id);
  if (row == rows.end()) {
    return Error{.code = ErrorCode::kNotFound, .cause = "the verdict gave way to newer ones"};
  }
  VerdictRecord record =
      TRY_CONTEXT(attestation::parse_verdict_record(row->record), "a verdict that was kept");
  record.of.id = id;
  return record;
}

Result<uint64_t> VerdictBook::add(VmId vm, const VerdictRecord& record) {
  std::lock_guard lock(mutex_);
  const History before = TRY(load(vm));
  VerdictRecord kept = record;
  kept.of.id.reset();
  const uint64_t id =
      TRY(catalog_.add_verdict(vm, {.time = record.of.time,
                                    .verdict = std::string(attestation::name_of(record.of.verdict)),
                                    .record = sys::to_text(attestation::to_json(kept))}));
  std::vector<VerdictFacts> facts{record.of};
  facts.front().id = id;
  const size_t older = std::min(before->size(), kVerdictsMax - 1);
  facts.insert(facts.end(), before->begin(), before->begin() + static_cast<std::ptrdiff_t>(older));
  known_[vm] = std::make_shared<const std::vector<VerdictFacts>>(std::move(facts));
  return id;
}

std::string kept_from_before(const VmRow& row) {
  if (row.role == VmRole::kStandby) {
    return "this site has a replica of the VM: its boots are judged at the site that runs it "
           "(holdfast protection show " +
           row.name + "), and what is kept here is of boots that it had here before";
  }
  if (row.role == VmRole::kSuperseded) {
    return "another site runs the VM by now, and judges its boots: what is kept here is of boots "
           "that it had here before";
  }
  if (row.adopt_pending) {
    return "the VM was taken over, and what attestation knew of it was not taken out of its "
           "journal yet: what is kept here is of boots before that";
  }
  return {};
}

void VerdictBook::forget(VmId vm) {
  std::lock_guard lock(mutex_);
  known_.erase(vm);
}

}  // namespace hf::control
