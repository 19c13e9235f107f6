// Shared by rollover*.cpp only.
#pragma once

#include "control/attest/attestation.h"
#include "control/secure_boot/rollover.h"

namespace hf::control {

using attestation::KeyPlan;
using attestation::RolloverRecord;

// A guest that has just started has no agent for some seconds yet.
inline constexpr std::chrono::seconds kAgentWithin{30};

// One VM's roll-over, step by step.
class Rollover {
 public:
  Rollover(Services& services, VmRow row, const RolloverRequest& request, Progress& progress)
      : services_(services), row_(std::move(row)), request_(request), progress_(progress) {}

  Result<sys::JsonObject> forward();
  Result<sys::JsonObject> in_guest();
  Result<sys::JsonObject> complete(RolloverRecord record);
  Result<sys::JsonObject> back();
  Result<RolloverRecord> kept();

 private:
  struct Edit {
    enum class Outcome { kChanged, kUnchanged, kUnknown } outcome = Outcome::kChanged;
    Error error;  // unless kChanged
  };

  bool running() const { return services_.units->running(qemu_unit(row_.id)); }
  Status can_start_again();
  Result<KeyPlan> planned();
  Result<RolloverRecord> prepare(const KeyPlan& plan);
  Result<std::string> announce(attestation::PlannedChange change);
  Status reseal(const std::vector<std::string>& values, std::chrono::seconds agent_within);
  Status keep(const RolloverRecord& record);
  Status stop(bool force);
  Edit change_keys(const std::vector<secure_boot::Change>& changes,
                   const attestation::KeyVariables& wanted);
  Error not_edited(Edit edit, const std::string& planned, bool was_running);
  Result<attestation::VerdictRecord> start();
  void drop_planned(const std::string& id);
  Status push(const std::vector<secure_boot::Change>& changes, const KeyPlan& plan);
  Result<sys::JsonObject> as_found(RolloverRecord record, const KeyPlan& plan,
                                   const std::string& planned, const Status& pushed);
  Result<sys::JsonObject> finish(RolloverRecord record,
                                 const Result<attestation::VerdictFacts>& verdict);
  Status as_rolled(const RolloverRecord& record);
  Result<attestation::WayBack> plan_back(RolloverRecord& record);
  Result<sys::JsonObject> finish_back(const RolloverRecord& record,
                                      const Result<attestation::VerdictFacts>& verdict);
  sys::JsonObject outcome(const RolloverRecord& record, std::string_view verdict) const;

  Services& services_;
  VmRow row_;
  const RolloverRequest& request_;
  Progress& progress_;
};

Error nothing_changed(Error error, std::string mend);
Result<attestation::VerdictFacts> facts_of(Result<attestation::VerdictRecord> verdict);
// SHA-256, hex, as the keeper reads it off the vTPM.
Result<std::string> pcr7_of(const Services& services, VmId vm);

}  // namespace hf::control
