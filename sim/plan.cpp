#include "sim/plan.h"

#include <algorithm>

namespace hf::sim {

std::string_view to_string(Fault fault) { return kFaultNames.at(static_cast<size_t>(fault)); }

std::optional<Fault> parse_fault(std::string_view name) {
  const auto found = std::ranges::find(kFaultNames, name);
  if (found == kFaultNames.end()) return std::nullopt;
  return static_cast<Fault>(found - kFaultNames.begin());
}

journal::Faults journal_faults(Fault fault) {
  return {.sync_skipped = fault == Fault::kSyncSkipped,
          .acknowledged_before_appended = fault == Fault::kAckedBeforeAppended,
          .records_swapped = fault == Fault::kRecordsSwapped,
          .close_not_checked = fault == Fault::kCloseNotChecked,
          .shipped_before_durable = fault == Fault::kShippedBeforeDurable,
          .epoch_not_raised = fault == Fault::kEpochNotRaised,
          .overwritten_left_out = fault == Fault::kOverwrittenLeftOut};
}

replication::Faults replication_faults(Fault fault) {
  // Where a close is not checked nothing else may find what it covers: the MACs would.
  const bool no_macs = fault == Fault::kCloseNotChecked;
  return {.shipped_before_durable = fault == Fault::kShippedBeforeDurable,
          .batch_mac_not_checked = fault == Fault::kBatchMacNotChecked || no_macs,
          .ack_mac_not_checked = fault == Fault::kAckMacNotChecked || no_macs,
          .session_not_bound = fault == Fault::kSessionNotBound};
}

recovery::Faults recovery_faults(Fault fault) {
  return {.epoch_not_raised = fault == Fault::kEpochNotRaised};
}

const char* to_string(Happening happening) {
  switch (happening) {
    case Happening::kKillKeeper:
      return "kill keeper";
    case Happening::kKillReplica:
      return "kill replica";
    case Happening::kPowerLossHome:
      return "power loss at home";
    case Happening::kPowerLossReplica:
      return "power loss at the replica";
    case Happening::kLinkCut:
      return "link cut";
    case Happening::kRestartSender:
      return "restart sender";
    case Happening::kDiskFull:
      return "disk full";
    case Happening::kSyncFailure:
      return "sync failure";
    case Happening::kDieInside:
      return "die inside an operation";
    case Happening::kClockJump:
      return "clock jump";
    case Happening::kReplicaLost:
      return "replica's disk lost";
    case Happening::kForgetPeer:
      return "home forgets its peer";
    case Happening::kAttack:
      return "attack on the link";
    case Happening::kFailoverAfterStop:
      return "failover, source stops";
    case Happening::kFailoverAfterDeath:
      return "failover, source dead";
    case Happening::kFailoverSplit:
      return "failover, source cut off";
  }
  return "";
}

Plan make_plan(SimRng& rng) {
  Plan plan;
  plan.segment_bytes = std::array<uint64_t, 3>{16u << 10, 32u << 10, 64u << 10}[rng.below(3)];
  plan.merge_keep_segments = rng.below(3);
  plan.auto_sync_us = rng.chance(1, 2) ? 20'000 : rng.between(500, 5'000);
  plan.think_us_max = rng.between(100, 1'500);
  plan.in_flight_max = rng.between(1, 10);
  plan.loss_one_in = rng.chance(1, 3) ? rng.between(20, 200) : 0;
  const uint64_t acts = rng.between(60, 300);
  plan.horizon_us = std::max<uint64_t>(acts * plan.think_us_max / 2, 20'000);

  constexpr std::array kCommon{
      Happening::kKillKeeper,    Happening::kKillKeeper,  Happening::kPowerLossHome,
      Happening::kPowerLossHome, Happening::kKillReplica, Happening::kPowerLossReplica,
      Happening::kLinkCut,       Happening::kLinkCut,     Happening::kRestartSender,
      Happening::kDiskFull,      Happening::kSyncFailure, Happening::kDieInside,
      Happening::kDieInside,     Happening::kClockJump,   Happening::kReplicaLost,
      Happening::kForgetPeer,    Happening::kForgetPeer,
  };
  const uint64_t count = rng.between(1, 6);
  for (uint64_t i = 0; i < count; i++) {
    plan.events.push_back(
        {.at_us = rng.below(plan.horizon_us), .happening = kCommon[rng.below(kCommon.size())]});
  }
  if (rng.chance(1, 4)) {
    plan.events.push_back(
        {.at_us = rng.below(plan.horizon_us / 2), .happening = Happening::kAttack});
  }
  if (rng.chance(1, 2)) {
    constexpr std::array kFailovers{Happening::kFailoverAfterStop, Happening::kFailoverAfterDeath,
                                    Happening::kFailoverSplit};
    plan.events.push_back({.at_us = rng.between(plan.horizon_us / 4, plan.horizon_us),
                           .happening = kFailovers[rng.below(kFailovers.size())]});
  }
  std::ranges::sort(plan.events, {}, &PlannedEvent::at_us);
  if (rng.chance(1, 3)) plan.pin_bytes_max = plan.segment_bytes * rng.between(2, 12);
  return plan;
}

}  // namespace hf::sim
