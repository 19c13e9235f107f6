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
  if (const auto known = known_.find(vm); known != known_.end()) return known->second;
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

void VerdictBook::forget(VmId vm) {
  std::lock_guard lock(mutex_);
  known_.erase(vm);
}

}  // namespace hf::control
