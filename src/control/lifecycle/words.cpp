#include "control/lifecycle/words.h"

#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/title/titles.h"

namespace hf::control {

using lifecycle::Refusal;
using lifecycle::SourceAnswer;

std::string_view words(SourceAnswer answer) {
  switch (answer) {
    case SourceAnswer::kHandedOver:
      return "the source stopped and handed the VM over";
    case SourceAnswer::kNoAnswer:
      return "the source does not answer";
    case SourceAnswer::kSilent:
      return "the source was asked and did not say that it stopped";
    case SourceAnswer::kRefused:
      return "the source answers and did not stop";
  }
  return "?";
}

namespace {

Error not_here(const VmRow& row, const std::string& peer, const std::string& here) {
  if (row.role == VmRole::kStandby) {
    return {.code = ErrorCode::kConflict,
            .cause = "this site holds the VM's replica",
            .effect = "the VM does not start here",
            .mend = "at site " + peer + ", whose VM it is: holdfast vm start " + row.name +
                    "; to take it over, at this site: holdfast failover unplanned " + row.name};
  }
  return {.code = ErrorCode::kConflict,
          .cause = "the VM was taken over at the other site under epoch " +
                   std::to_string(row.epoch.value),
          .effect = "it does not start here; what this site wrote is kept as it is",
          .mend = "use the VM at site " + peer + ": holdfast vm show " + row.name +
                  "; if that site is not to be believed any more, here: holdfast failover settle " +
                  row.name + " --keep " + here + " --distrust " + peer};
}

Error standby_silent(const VmRow& row, const std::string& peer) {
  return {.code = ErrorCode::kUnavailable,
          .cause = "the peer site does not answer, so nobody confirms epoch " +
                   std::to_string(row.epoch.value) + " (site " + peer + ")",
          .effect = "the VM does not start: it might have been taken over there",
          .mend = "bring the link to site " + peer +
                  " back (holdfast site peers); or, if the VM was not taken over there: holdfast "
                  "vm start " +
                  row.name + " --without-peer"};
}

Error rival(Services& services, const VmRow& row, const SiteId& site, std::string effect) {
  return refused_by_title(
      services, row,
      {.cause = title::Cause::kRival, .action = title::Action::kSettle, .site = site},
      std::move(effect));
}

}  // namespace

Error refused_start(Services& services, const VmRow& row, Refusal why, const SiteId& site) {
  const std::string peer = services.protections->peer_name(site);
  switch (why) {
    case Refusal::kRunsAlready:
      return {.code = ErrorCode::kConflict,
              .cause = "VM \"" + row.name + "\" runs already",
              .effect = "nothing was started",
              .mend = "holdfast vm list"};
    case Refusal::kNotMade:
      if (Status made = is_made(row); !made.ok()) return std::move(made).error();
      break;
    case Refusal::kRival:
      return rival(services, row, site, "it does not start");
    case Refusal::kStandbySilent:
      return standby_silent(row, peer);
    default:
      break;
  }
  return not_here(row, peer, services.site.name);
}

namespace {

// One that answers is not off, whatever anybody says.
Error source_refuses(const VmRow& row, const std::string& source, const std::string& why,
                     bool said_off) {
  return {.code = ErrorCode::kConflict,
          .cause = "site " + source + " answers and did not hand the VM over" +
                   (why.empty() ? "" : "; it says: " + why) +
                   (said_off ? "; so it is not off, as --source-is-off says" : ""),
          .effect = "the VM may still run at site " + source + "; nothing was changed here",
          .mend = "at site " + source + ": holdfast vm stop " + row.name +
                  " --force; then here: holdfast failover unplanned " + row.name +
                  "; if that does not end it, at site " + source +
                  ": holdfast site stop --force, and then here with --source-is-off"};
}

Error source_may_run(SourceAnswer answer, const std::string& why) {
  Error error{.code = ErrorCode::kConflict};
  if (answer == SourceAnswer::kSilent) {
    error.cause = "the source site was asked to stop the VM and did not say that it did";
    error.effect =
        "nothing was changed here; the source may have stopped the VM, and then does not start it "
        "again";
    error.mend =
        "repeat the command: a source that has stopped says so; if it is off, with "
        "--source-is-off";
  } else {
    error.cause = "the source site does not answer";
    error.effect = "the VM might still run there; nothing was changed";
    error.mend =
        "make sure that it does not run the VM and stays off, then repeat with --source-is-off";
  }
  if (!why.empty()) error.cause += ": " + why;
  return error;
}

}  // namespace

Error refused_take_over(const VmRow& row, const ActOutcome& outcome, const std::string& source,
                        bool said_off) {
  switch (outcome.last.refusal) {
    case Refusal::kEmptyReplica:
      return {.code = ErrorCode::kConflict,
              .cause = "this site's replica of the VM is empty: nothing of it has arrived yet",
              .effect = "the VM was not taken over, and its source was not asked to stop",
              .mend =
                  "start the VM at its source and wait until `holdfast protection show` there "
                  "says streaming; then fail over"};
    case Refusal::kVaultDenies:
      return {.code = ErrorCode::kConflict,
              .cause = "the source says that it handed the VM over, and its vault does not",
              .effect = "the VM was not failed over",
              .mend = "try again; if it stays so: holdfast vm show " + row.name + " at both sites"};
    case Refusal::kSourceRefuses:
      return source_refuses(row, source, outcome.source_says, said_off);
    case Refusal::kSourceSilent:
    case Refusal::kSourceNoAnswer:
      return source_may_run(outcome.source, outcome.source_says);
    case Refusal::kRival:
      return {.code = ErrorCode::kConflict,
              .cause = "two sites were told to run VM \"" + row.name + "\"",
              .effect = "the VM was not failed over",
              .mend = "holdfast failover settle " + row.name +
                      " --keep SITE, which of the two is to have it"};
    default:
      break;
  }
  if (!outcome.failed) {
    return {.code = ErrorCode::kConflict,
            .cause = "VM \"" + row.name + "\" is not a replica here any more",
            .effect = "the VM was not failed over",
            .mend = "holdfast vm show " + row.name};
  }
  Error error = *outcome.failed;
  if (outcome.observed.record.role == lifecycle::Role::kActive) {
    // Whatever an effect's error says of itself: the title is signed, and the record says so.
    error.effect = "the VM is this site's now and does not run";
    error.mend += (error.mend.empty() ? "" : "; then: ") + ("holdfast vm start " + row.name);
    return error;
  }
  if (outcome.observed.title.held_by(outcome.observed.self)) {
    // Whatever a replica's error says of its source is not so.
    error.effect = "this site holds the VM now, and it does not run";
    error.mend = "mend what it names, then give the command again";
    return error;
  }
  return std::move(error).with_effect(
      "the VM was not failed over; the replica takes records again");
}

std::string refused_hand_over(Services& services, const ActOutcome& outcome, const PeerRow& to) {
  const std::string because = outcome.failed ? outcome.failed->cause : "";
  std::string why;
  switch (outcome.last.refusal) {
    case Refusal::kNotHolder:
      why = "site " +
            services.protections->peer_name(outcome.observed.title.head->statement().holder) +
            " holds the VM";
      break;
    case Refusal::kNoStandby:
      why = "site " + to.name + " does not stand by for the VM yet: it has not all of it";
      break;
    case Refusal::kPeerSilent:
      why = "the vault of site " + to.name + " did not answer: " + because;
      break;
    case Refusal::kNotPrepared:
      why = "site " + to.name + " could not run the VM";
      break;
    case Refusal::kTailLate:
      why = "not all of the VM reached site " + to.name + " within " +
            std::to_string(outcome.tail_limit.count() / 1000) + " s";
      if (outcome.tail_lacks)
        why += ": " + std::to_string(*outcome.tail_lacks) + " records are not there";
      why += " (--wait-for-tail gives it longer)";
      break;
    default:
      why = because.empty() ? "the title does not allow it" : because;
      break;
  }
  if (outcome.ran && !outcome.observed.units.guest)
    why += "; its guest was stopped for that, and is started again";
  return why;
}

}  // namespace hf::control
