// What a change of Secure Boot's variables will do to the VM's next boot.
#include <fcntl.h>

#include "attestation/baseline/pcr7.h"
#include "daemon/attestation_inner.h"
#include "daemon/boot_files.h"
#include "daemon/catalog_inner.h"
#include "daemon/keeper_client.h"
#include "daemon/secure_boot_vm.h"
#include "daemon/vm_definition.h"
#include "secure_boot/preflight/boot_option.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kDiskLimit = 60s;
constexpr uint64_t kWeekUs = uint64_t{7} * 86400 * 1'000'000;

struct Named {
  std::string_view name;
  std::optional<Bytes> secure_boot::SecureBootVariables::* content;
};
constexpr Named kNamed[] = {{"PK", &secure_boot::SecureBootVariables::pk},
                            {"KEK", &secure_boot::SecureBootVariables::kek},
                            {"db", &secure_boot::SecureBootVariables::db},
                            {"dbx", &secure_boot::SecureBootVariables::dbx},
                            {"MokList", &secure_boot::SecureBootVariables::mok},
                            {"MokListX", &secure_boot::SecureBootVariables::mokx}};

// The changes that lead from one to the other.
std::vector<secure_boot::Change> changes_between(const secure_boot::SecureBootVariables& from,
                                                 const secure_boot::SecureBootVariables& to) {
  std::vector<secure_boot::Change> changes;
  for (const Named& named : kNamed) {
    const std::optional<Bytes>& wanted = to.*named.content;
    if (from.*named.content == wanted) continue;
    changes.push_back(
        {.variable = std::string(named.name),
         .action = wanted ? secure_boot::ChangeAction::kSet : secure_boot::ChangeAction::kDelete,
         .data = wanted.value_or(Bytes())});
  }
  return changes;
}

// The changes carried out on a store like the VM's, beside it.
Result<secure_boot::SecureBootVariables> carried_out(
    const VmDefinition& definition, const secure_boot::SecureBootVariables& before,
    const std::vector<secure_boot::Change>& changes) {
  sys::UniqueFd file(::open(definition.firmware.vars_template.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error(errno, "open " + definition.firmware.vars_template);
  Bytes image = TRY(sys::read_all(file.get(), size_t{16} << 20));
  secure_boot::VariableStore store = TRY(secure_boot::VariableStore::parse(image));
  const auto now = secure_boot::EfiTime::from(catalog_now());
  TRY(secure_boot::apply_changes(
      store, changes_between(secure_boot::secure_boot_variables(store), before), now));
  TRY(secure_boot::apply_changes(store, changes, now));
  return secure_boot::secure_boot_variables(store);
}

std::string in_words(const std::vector<secure_boot::Change>& changes) {
  std::string words;
  for (const secure_boot::Change& change : changes) {
    words += (words.empty() ? "" : "; ") + secure_boot::describe(change);
  }
  return words.substr(0, 500);
}

// The present boot's own PCR 7, as an announcement of going back to it.
attestation::PlannedChange back_to(const attestation::BaselineBoot& boot,
                                   const attestation::KeyVariables& variables) {
  attestation::PlannedChange change{.why = "the roll-over of the Secure Boot keys is taken back",
                                    .variables = variables};
  attestation::PlannedChange::Sequence sequence{.pcr = 7};
  for (const attestation::BaselineEntry& entry : boot.entries) {
    if (entry.pcr == 7) sequence.entries.push_back(entry);
  }
  change.sequences.push_back(std::move(sequence));
  return change;
}

}  // namespace

Result<Attestation::Gathered> Attestation::gather_for_plan(const VmRow& row) {
  std::shared_ptr<Watched> watched = TRY(running(row));
  // Who will vouch for the boot programs follows from those that are on the disk now.
  TRY(keep_disk_knowledge(row.id, TRY(read_boot_files(watched->control, kDiskLimit)).knowledge));
  const CheckRequest request = asked_guest(*watched, {.ask_guest = true});
  auto lock = TRY(watched->turn());
  Gathered all = TRY(gather(*watched, request));
  if (all.quote_error) return Error(*all.quote_error).context("PCR 7 as it is now");
  return all;
}

Result<secure_boot::SecureBootVariables> Attestation::variables_now(const VmRow& row) {
  std::shared_ptr<Watched> watched = TRY(running(row));
  return variables_of(TRY(ask_keeper(watched->control, {{"op", "secure_boot"}}, 3s)));
}

Result<KeyPlan> Attestation::plan_keys(const VmRow& row,
                                       const std::vector<secure_boot::Change>& changes) {
  Gathered all = TRY(gather_for_plan(row));
  secure_boot::SecureBootVariables before = TRY(variables_now(row));
  secure_boot::SecureBootVariables after =
      TRY(carried_out(TRY(parse_definition(row.definition)), before, changes));
  return plan(all, std::move(before), std::move(after), in_words(changes));
}

Result<KeyPlan> Attestation::plan_found(const VmRow& row,
                                        const secure_boot::SecureBootVariables& measured) {
  Gathered all = TRY(gather_for_plan(row));
  all.keeper.variables = key_variables(measured);
  secure_boot::SecureBootVariables now = TRY(variables_now(row));
  return plan(all, measured, std::move(now), "as the guest's firmware has changed them");
}

Result<KeyPlan> Attestation::plan(const Gathered& all, secure_boot::SecureBootVariables before,
                                  secure_boot::SecureBootVariables after,
                                  const std::string& words) {
  KeyPlan plan;
  plan.back = changes_between(after, before);
  if (plan.back.empty()) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "the VM's keys are so already",
                 .effect = "nothing was changed",
                 .mend = "holdfast secure-boot show " + all.row.name};
  }
  attestation::MeasuredBoot boot = TRY(all.measured());
  attestation::Pcr7Input input{.previous = &boot,
                               .before = key_variables(before),
                               .after = key_variables(after),
                               .authorities_before = secure_boot::authorities_of(
                                   all.programs, TRY(secure_boot::secure_boot_state_of(before))),
                               .authorities_after = secure_boot::authorities_of(
                                   all.programs, TRY(secure_boot::secure_boot_state_of(after)))};
  attestation::Pcr7Prediction prediction = TRY(attestation::predict_pcr7(input));
  const Bytes* now = all.quote->find(attestation::HashAlg::kSha256, 7);
  if (now == nullptr) return Error{.code = ErrorCode::kInternal, .cause = "PCR 7 was not quoted"};
  plan.pcr7_now = to_hex(*now);
  plan.pcr7_then = to_hex(prediction.value);
  plan.certain = prediction.certain;
  plan.handed_over = boot.exited_boot_services();
  plan.change = attestation::key_change(prediction, input.after,
                                        "roll-over of the Secure Boot keys: " + words,
                                        Micros(catalog_now().value + kWeekUs));
  plan.way_back = back_to(TRY(all.learned()), input.before);
  plan.before = std::move(before);
  plan.after = std::move(after);
  return plan;
}

}  // namespace hf::daemon
