// What a change of Secure Boot's variables will do to the VM's next boot.
#include <fcntl.h>

#include "control/attest/attestation_inner.h"
#include "control/host/boot_files.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "control/store/catalog_inner.h"
#include "vm/definition.h"

namespace hf::control {

using namespace std::chrono_literals;

using attestation::KeyPlan;

namespace {

constexpr auto kDiskLimit = 60s;
// What new VMs of this kind start with.
Result<secure_boot::VariableStore> template_of(const vm::Definition& definition) {
  sys::UniqueFd file(::open(definition.firmware.vars_template.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error(errno, "open " + definition.firmware.vars_template);
  return secure_boot::VariableStore::parse(TRY(sys::read_all(file.get(), size_t{16} << 20)));
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
  return variables_of(
      TRY(keeper_protocol::Client(watched->control).ask(keeper_protocol::SecureBoot{}, 3s)));
}

Result<KeyPlan> Attestation::plan_keys(const VmRow& row,
                                       const std::vector<secure_boot::Change>& changes) {
  Gathered all = TRY(gather_for_plan(row));
  secure_boot::SecureBootVariables before = TRY(variables_now(row));
  secure_boot::SecureBootVariables after =
      TRY(secure_boot::variables_after(TRY(template_of(TRY(vm::parse_definition(row.definition)))),
                                       before, changes, secure_boot::EfiTime::from(catalog_now())));
  return plan(all, std::move(before), std::move(after), secure_boot::describe(changes));
}

Result<KeyPlan> Attestation::plan_found(const VmRow& row,
                                        const secure_boot::SecureBootVariables& measured) {
  Gathered all = TRY(gather_for_plan(row));
  all.keeper.variables = attestation::key_variables(measured);
  secure_boot::SecureBootVariables now = TRY(variables_now(row));
  return plan(all, measured, std::move(now), "as the guest's firmware has changed them");
}

Result<KeyPlan> Attestation::plan(const Gathered& all, secure_boot::SecureBootVariables before,
                                  secure_boot::SecureBootVariables after,
                                  const std::string& words) {
  const attestation::MeasuredBoot boot = TRY(all.measured());
  const attestation::BaselineBoot learned = TRY(all.learned());
  const Bytes* now = all.quote->find(attestation::HashAlg::kSha256, 7);
  if (now == nullptr) return Error{.code = ErrorCode::kInternal, .cause = "PCR 7 was not quoted"};
  Result<KeyPlan> plan = attestation::plan_key_change({.boot = &boot,
                                                       .learned = &learned,
                                                       .pcr7 = *now,
                                                       .programs = &all.programs,
                                                       .words = words,
                                                       .now = catalog_now()},
                                                      std::move(before), std::move(after));
  if (plan.ok() || plan.error().code != ErrorCode::kExists) return plan;
  return std::move(plan).error().with_mend("holdfast secure-boot show " + all.row.name);
}

}  // namespace hf::control
