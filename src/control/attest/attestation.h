// Attestation of this site's VMs: each boot is watched and appraised, the verdicts are kept, issued
// as tokens, and sent along with the VM's journal.
//
// A few threads watch all running VMs with a vTPM; a boot that does not change wakes none.
// Thread-safe; an appraisal of one VM waits for another of the same.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attestation/appraisal/appraisal.h"
#include "attestation/baseline/disk_knowledge.h"
#include "attestation/rollover/key_plan.h"
#include "attestation/verdict/boot_watch.h"
#include "attestation/verdict/judgement.h"
#include "attestation/verdict/verdict_record.h"
#include "control/attest/attestation_reader.h"
#include "control/attest/attestation_record.h"
#include "control/attest/verdict_book.h"
#include "control/core/watchers.h"
#include "control/services.h"
#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::control {

// What an agent in the guest gave, and the boot that it was asked in.
struct GuestLog {
  std::string boot;
  Bytes bytes;
};

struct CheckRequest {
  attestation::Trigger trigger = attestation::Trigger::kDemand;
  Bytes nonce;                       // of whoever asks; empty: one of ours
  bool ask_guest = false;            // for the event log
  std::optional<GuestLog> log = {};  // it was asked already
  bool need_all = false;             // kUnavailable, not a verdict of less than there may be
  std::string actor;
};

// A step may ask keeper, vault and guest, for seconds each.
inline constexpr size_t kWatcherThreads = 4;

class Attestation {
 public:
  explicit Attestation(Services& services);
  ~Attestation();
  Attestation(const Attestation&) = delete;
  Attestation& operator=(const Attestation&) = delete;

  // Watching. vm_started() and vm_stopped() return at once.
  void vm_started(const VmRow& row);
  void vm_runs_on(const VmRow& row);  // since before this holdfastd
  void vm_stopped(VmId vm);
  void stop();

  // An appraisal of the running VM now; its record, kept. kConflict: it does not run or has no
  // vTPM; kUnavailable: the keeper is away. Neither leaves a verdict. Where only the quote cannot
  // be had, or the vault is away, there is one: "partial", and never Healthy for want of a quote.
  Result<attestation::VerdictRecord> check(const VmRow& row, const CheckRequest& request);
  // What a verifier elsewhere needs: quote over `nonce`, key with certificate, log, record.
  Result<sys::JsonObject> evidence(const VmRow& row, ByteSpan nonce);  // 8 to 64 bytes
  // Of the present boot, or of the last while the VM is off. nullopt: nothing measures its boots.
  Result<std::optional<attestation::Verdict>> verdict_now(const VmRow& row);
  // The newest verdict, since when it is so, and the history. Unknown, and no token, while a boot
  // runs that was not appraised yet.
  Result<sys::JsonObject> show(const VmRow& row);
  // Waits for the verdict of a boot that began after `since`, in this epoch. At the limit: any that
  // was given since, or kTimeout.
  Result<attestation::VerdictRecord> wait_verdict(const VmRow& row, Micros since,
                                                  std::chrono::seconds limit);

  // Policy and baseline as JSON. An empty object as policy: the default again.
  Result<sys::JsonObject> show_policy(const VmRow& row);
  Result<sys::JsonObject> set_policy(const VmRow& row, const sys::JsonObject& policy,
                                     const std::string& actor);
  Result<sys::JsonObject> show_baseline(const VmRow& row);
  // The present boot against the baseline, in words.
  Result<sys::JsonObject> diff_baseline(const VmRow& row);
  // The present boot becomes the baseline, alone or beside the others. Of a stopped VM: what there
  // is is forgotten, so that the next boot is learned (kReplace only).
  Result<sys::JsonObject> accept_boot(const VmRow& row, attestation::AcceptMode mode,
                                      const std::string& actor);
  Result<sys::JsonObject> announce(const VmRow& row, attestation::PlannedChange change,
                                   const std::string& actor);
  Status withdraw(const VmRow& row, const std::string& change, const std::string& actor);

  // kExists: the changes change nothing; kConflict: a program would not start then; kNotFound: it
  // cannot be said which certificate would vouch for the VM's boot loader.
  Result<attestation::KeyPlan> plan_keys(const VmRow& row,
                                         const std::vector<secure_boot::Change>& changes);
  // The same of changes that were made already, since the boot that `measured` them.
  Result<attestation::KeyPlan> plan_found(const VmRow& row,
                                          const secure_boot::SecureBootVariables& measured);
  Result<secure_boot::SecureBootVariables> variables_now(const VmRow& row);  // of a running VM

  // The enrolled key is forgotten, here and in the vault: the VM's TPM was exchanged on purpose.
  // The next appraisal enrols the one that is there. kNotFound: none was enrolled.
  Status forget_key(const VmRow& row, const std::string& actor);

  // After a replica was taken over: what came with its journal counts from now on. Not to be passed
  // over when it fails: the next boot would be learned, whatever it is.
  Status adopt_from_journal(const VmRow& row);

  // The keys that relying parties check tokens with (RFC 7517).
  Result<sys::JsonObject> keys();
  // Evidence from anywhere, appraised here: verdict, reasons, token.
  Result<sys::JsonObject> appraise_foreign(const sys::JsonObject& request);

 private:
  struct Watched;
  struct Gathered;

  std::shared_ptr<Watched> find(VmId vm);
  Status show_verdicts(const VmRow& row, const std::vector<attestation::VerdictFacts>& verdicts,
                       sys::JsonObject& view);
  struct Known;  // of a VM's boots, as its watch begins
  void watch(const VmRow& row, const Known& known);
  Watchers::Next step(Watched& watched);
  Result<attestation::BootHead> ask_head(Watched& watched);
  void take_head(Watched& watched, const attestation::BootHead& head);
  Watchers::Next ask_for_change(Watched& watched);
  bool act(Watched& watched, attestation::BootWatch::Act act, const attestation::BootWatch& watch);
  void follow_disk(Watched& watched, const attestation::BootHead& head);

  Result<std::shared_ptr<Watched>> running(const VmRow& row);
  // The guest's answer into the request, if it is to be asked and answers.
  CheckRequest asked_guest(Watched& watched, CheckRequest request);
  static void take_log(Watched& watched, const CheckRequest& request, Gathered& all);
  // Under the VM's turn; best with a guest that was asked before.
  Result<Gathered> gather(Watched& watched, const CheckRequest& wanted);
  Result<Gathered> gather_for_plan(const VmRow& row);
  static Result<attestation::KeyPlan> plan(const Gathered& all,
                                           secure_boot::SecureBootVariables before,
                                           secure_boot::SecureBootVariables after,
                                           const std::string& words);
  Result<attestation::VerdictRecord> appraise_and_keep(Watched& watched, Gathered& gathered,
                                                       const CheckRequest& request);
  Result<bool> keep_disk_knowledge(VmId vm, const attestation::DiskKnowledge& found);
  attestation::VerdictFacts facts_of(const Gathered& gathered, const CheckRequest& request) const;
  Result<std::string> token_of(const attestation::Appraisal& appraisal, const Gathered& gathered,
                               const Bytes& asked_nonce);
  void learn_if_first(Watched& watched, Gathered& gathered, attestation::Appraisal& appraisal);
  Status carry_out_planned(Gathered& gathered);
  bool learn(Gathered& gathered, attestation::Learning learning);
  void note_change(const VmRow& row, const attestation::VerdictFacts& verdict);
  Result<std::string> sign(const attestation::Ear& ear);

  // The key pinned in the vault; enrols the vTPM's at first use.
  Result<vault::AttestationPin> pinned(const VmRow& row, const std::string& control_socket);
  void remember_identity(const VmRow& row, const vault::AttestationPin& pin, const Gathered& seen);

  Result<attestation::Baseline> stored_baseline(VmId vm);
  // Read, changed and stored as one: who announces a change and a check that learns a boot lose
  // nothing of each other's. What it is then. An error of `change` leaves it as it was.
  using BaselineChange = std::function<Status(attestation::Baseline& baseline)>;
  Result<attestation::Baseline> change_baseline(VmId vm, const BaselineChange& change);
  struct Locks;  // of one VM
  Locks& locks(VmId vm);
  Result<attestation::Policy> stored_policy(VmId vm);
  // Into the journal, if the VM's keeper runs; if it cannot be had now, soon.
  void travel(const VmRow& row);
  Status put_in_journal(const VmRow& row);
  Status refuse_while_pending(VmId vm);
  void event(const VmRow& row, Severity severity, std::string kind, std::string text);

  Services& services_;
  VerdictBook verdicts_;
  std::mutex mutex_;
  std::condition_variable verdict_kept_;
  bool stopping_ = false;
  std::map<VmId, std::shared_ptr<Watched>> watched_;
  std::map<VmId, std::unique_ptr<Locks>> locks_;
  Watchers watchers_{kWatcherThreads};  // last: its steps use the others
};

}  // namespace hf::control
