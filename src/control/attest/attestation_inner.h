// Shared by attestation*.cpp only.
#pragma once

#include "control/attest/attestation.h"
#include "keeper_protocol/client.h"

namespace hf::control {

struct Attestation::Locks {
  std::mutex baseline;
  std::mutex journal;  // an older packet never lands behind a newer one
};

struct Attestation::Watched {
  VmRow row;                   // as it was started
  std::string control;         // the keeper's socket
  std::string agent;           // the guest agent's; empty: the VM has no port for one
  std::string appraised_boot;  // by an earlier holdfastd
  std::chrono::steady_clock::time_point asked_at{};  // for what is other than before

  // The boot that runs now, and since when it is known; under `mutex`. Empty: it has not begun.
  std::string boot;
  Micros boot_seen;
  void saw(const std::string& now_booting, Micros now) {
    std::lock_guard lock(mutex);
    if (now_booting.empty() || now_booting == boot) return;
    boot = now_booting;
    boot_seen = now;
  }
  // Whether a verdict is of a boot before the present one.
  bool is_past(const attestation::VerdictFacts& verdict) {
    std::lock_guard lock(mutex);
    return attestation::is_past(verdict, {.id = boot, .seen = boot_seen, .epoch = row.epoch});
  }

  void end() {
    std::lock_guard lock(mutex);
    stopping = true;
    if (asked != nullptr) asked->cancel();  // whoever ends the watch does not wait for a guest
  }
  // The boot's event log, of an agent in the guest. Takes as long as the guest likes, within
  // limits: never to be asked for under `busy`, if it can be helped. kUnavailable: nobody answers;
  // else the guest has none, or none that is worth waiting for.
  Result<GuestLog> read_log();
  // The turn to appraise the VM. kUnavailable: others take too long.
  Result<std::unique_lock<std::timed_mutex>> turn();

  std::mutex mutex;
  bool stopping = false;
  hypervisor::GuestAgent* asked = nullptr;  // being asked for the log; under `mutex`
  std::timed_mutex asking;                  // the agent's port takes one client at a time

  std::timed_mutex busy;  // held while the VM is appraised
  std::string log_boot;   // the boot that `log` is of; under `busy`
  Bytes log;
  attestation::LearnedBoot learned;  // under `busy`
  std::atomic<bool> travel_due = false;
  // Of the watching steps, of which one runs at a time.
  std::optional<attestation::BootWatch> watch;
  // For the next change of the boot.
  std::optional<keeper_protocol::PendingAnswer<keeper_protocol::Measurements>> question;
  uint64_t extends_seen = 0;
  // The boot for which the disk was asked for, and until it is there.
  std::string disk_boot;
  std::optional<uint64_t> disk_ticket;
  std::string partial_boot;  // the boot that got its verdict without all that belongs to it
  std::string last_refusal;  // why a verdict that is due was not given
  uint64_t watcher = 0;      // in Attestation::watchers_
};

// All that an appraisal looks at.
struct Attestation::Gathered {
  VmRow row;
  KeeperEvidence keeper;
  std::optional<attestation::EventLog> log;
  std::optional<Error> log_error;
  std::optional<attestation::QuotedPcrs> quote;
  std::optional<Error> quote_error;
  std::optional<vault::AttestationPin> pin;
  std::optional<Error> vault_away;  // so that it is not known whether a key is enrolled
  std::vector<attestation::FileExplanation> files;
  std::vector<secure_boot::SignedProgram> programs;
  attestation::Policy policy;
  attestation::Baseline baseline;
  attestation::AppraisalContext context;

  attestation::AppraisalInput input() const {
    attestation::AppraisalInput input;
    input.log = log ? &*log : nullptr;
    input.log_error = log_error;
    input.record = &keeper.record;
    input.quote = quote ? &*quote : nullptr;
    input.quote_error = quote_error;
    input.variables = variables();
    input.files = files;
    input.policy = &policy;
    input.baseline = baseline.boots.empty() ? nullptr : &baseline;
    input.context = context;
    return input;
  }
  const attestation::KeyVariables* variables() const {
    return keeper.no_variables ? nullptr : &keeper.variables;
  }
  // What may be had later, of the same boot; nothing if all is here.
  std::optional<Error> missing() const { return keeper.no_quote ? keeper.no_quote : vault_away; }
  // A view of what was gathered.
  Result<attestation::MeasuredBoot> measured() const {
    return attestation::MeasuredBoot::from(
        {.log = log ? &*log : nullptr, .record = &keeper.record, .variables = variables()},
        attestation::HashAlg::kSha256);
  }
  Result<attestation::BaselineBoot> learned() const {
    return attestation::learn(TRY(measured()), {.files = files}, keeper.record.boot_id,
                              context.now);
  }
  // The baseline must have a boot.
  Result<attestation::BaselineMatch> match() const {
    return attestation::best_match(baseline, TRY(measured()), policy, {.files = files},
                                   context.now);
  }
};

}  // namespace hf::control
