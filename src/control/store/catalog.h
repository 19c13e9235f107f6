// What the daemon remembers: VMs, peers, protections, tokens, jobs, events, audit. No key and no
// guest data.
//
// Thread-safe; every call is one transaction, and durable when it returns unless it says otherwise.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/result.h"
#include "control/core/by.h"
#include "control/core/notice.h"

namespace hf::control {

enum class VmRole {
  kCreating,    // its disks are not whole yet; one that is left so is removed
  kActive,      // this site's to run
  kStandby,     // another site's; a replica journal is here
  kSuperseded,  // was this site's; another one has a higher epoch
};
std::string_view to_string(VmRole role);

struct VmRow {
  VmId id;
  uint32_t number = 0;
  std::string name;
  std::string definition;  // JSON (vm/definition.h)
  Epoch epoch;
  VmRole role = VmRole::kActive;
  bool wanted_running = false;  // was started and not stopped since
  Micros created;
  std::string note;
  // It was taken over, and what attestation knew of it is still in its journal only: nothing here
  // may be learned, or put into the journal, before replace_attestation().
  bool adopt_pending = false;
  // The site whose VM it was, if it was taken over: it may still ask what became of it.
  std::optional<SiteId> taken_from = {};
};

// A VM's number picks the users that its processes run as and its directories belong to.
inline constexpr uint32_t kVmNumberLast = 20'000;
enum class VmRemains { kNone, kSomething };

// Whether a site may place replicas here.
enum class Accept { kYes, kAsk, kNo };  // kAsk: each one when an operator has agreed
std::string_view to_string(Accept accept);
Result<Accept> parse_accept(std::string_view text);

struct PeerRow {
  SiteId site;
  std::string name;  // as this site's operator calls it: no other peer's
  std::string address;
  std::string ca_pem;
  std::string fingerprint;
  std::string recipient_pem;
  std::string signing_key;  // hex
  Micros paired;
  Accept accept = Accept::kYes;
  uint64_t quota_bytes = 0;  // of the disks of all VMs that it may place here; 0: no bound
};

// A VM that a site wants to place here, and whose time has not come.
struct OfferRow {
  VmId vm;
  SiteId peer;
  std::string name;
  uint64_t bytes = 0;
  bool accepted = false;  // it may, when it offers the same again
  Micros offered;
};
inline constexpr size_t kOffersMax = 64;  // of a peer
enum class OfferAsks { kNew, kWaits, kAccepted, kNoRoom };

enum class Direction { kOut, kIn };

// How far an outgoing protection is. What begins or ends it is written down first, then asked of
// the other site: a site never holds a replica that the VM's own knows nothing of.
enum class ProtectionState {
  kOffered,      // it may have been taken; nothing was shipped yet
  kStands,       // an incoming one always
  kWithdrawing,  // until the other site says that its replica is gone, it may take the VM over
};

struct ProtectionRow {
  VmId vm;
  SiteId peer;
  Direction direction = Direction::kOut;
  std::string journal_public_key;  // hex
  SiteId minted_at;
  Micros created;
  ProtectionState state = ProtectionState::kStands;
};

struct JobRow {
  uint64_t id = 0;
  std::string kind;
  std::string subject;
  // running, done, failed, cancelled; interrupted: holdfastd ended before it did
  std::string state;
  std::string detail;  // JSON
  Micros created;
  std::optional<Micros> finished;
  By by;
};
inline constexpr size_t kJobsMax = 2'000;  // newest kept, and those that run

// What attestation knows of a VM besides its verdicts. The texts are JSON or empty; attestation/
// knows what is in them, the catalog does not.
struct AttestationRow {
  std::string policy;        // empty: the default
  std::string baseline;      // empty: none was learned
  std::string identity;      // the attestation key and its certificate
  std::string explanations;  // what the boot files' digests stand for, read from the image
  std::string rollover;      // the way back from the last change of keys; stays at this site
};
enum class AttestationPart { kPolicy, kBaseline, kIdentity, kExplanations, kRollover };

struct VerdictRow {
  uint64_t id = 0;
  Micros time;
  std::string verdict;  // "Healthy", "Unhealthy", "Unknown"
  std::string record;   // JSON
};
inline constexpr size_t kVerdictsMax = 100;  // newest kept, a VM

enum class Severity { kInfo, kWarning, kAlert };
std::string_view to_string(Severity severity);

// What happened that somebody may want to know: `holdfast event list`.
struct EventRow {
  uint64_t id = 0;
  Micros time;
  Severity severity = Severity::kInfo;
  std::string kind;     // "attestation.unhealthy"
  std::string subject;  // a VM's name, or the site's
  std::string text;
  By by;
};
inline constexpr size_t kEventsMax = 10'000;  // newest kept

// What was changed, and on whose word.
struct AuditRow {
  uint64_t id = 0;
  Micros time;
  std::string actor;
  std::string act;
  std::string subject;
  std::string detail;
};
inline constexpr size_t kAuditMax = 50'000;  // newest kept

class Catalog {
 public:
  // Applies the migrations that are missing. kUnsupported: written by a newer holdfastd.
  static Result<std::unique_ptr<Catalog>> open(const std::string& path);
  ~Catalog();
  // Takes the disk space that some thousand more rows need, and keeps it: what is stopped and
  // deleted to free space is written down on a full disk too. Each start does so again; where there
  // is no space it is no harm yet.
  Status keep_room();

  // VMs. A row's `number` is chosen here. kExists: the name or id is taken. kLimit: no number is
  // free. One that is refused has spent none.
  Result<VmRow> add_vm(VmRow row);
  // A replica: the VM and its protection together, a crash cannot part them. Its offer waits no
  // more.
  Result<VmRow> add_replica(VmRow row, const ProtectionRow& protection);
  Result<VmRow> vm(VmId id);  // whatever names there are: what a peer or a stored row refers to
  // For an operator's word. kConflict names both if it is one VM's name and another's id.
  Result<VmRow> vm_named(std::string_view name_or_id);
  Result<std::vector<VmRow>> vms();
  // Its number is used again, last of those that are free, if nothing of the VM is left: no
  // directory that the number's users own, and no process.
  Status remove_vm(VmId id, VmRemains remains);
  Status set_wanted(VmId id, bool running);
  // Changes role, epoch and note together, of a VM that still has the role and the epoch of `from`:
  // whoever decided on `from` must decide anew if it has not. kConflict then, or if the epoch would
  // go back.
  Status change_role(const VmRow& from, VmRole role, Epoch epoch, std::string_view note);
  // The same, to kActive, with `adopt_pending` and where it came from; it is wanted, and the
  // replica's protection ends: a crash cannot part them.
  // `next`: the protection that it has from now on.
  Status take_over(const VmRow& from, Epoch epoch, SiteId source, std::string_view note,
                   const std::optional<ProtectionRow>& next = std::nullopt);
  // A superseded VM's directory goes on as the replica that `protection` says: both together.
  Status stand_by(const VmRow& from, const ProtectionRow& protection);
  // There is nothing to adopt, or the operator gave it up.
  Status end_adoption(VmId id);

  // Peers.
  // Replaces name and address, and leaves what it may do here. kConflict: another fingerprint;
  // kExists: the name is another peer's.
  Status put_peer(const PeerRow& row);
  Result<PeerRow> peer(SiteId site);
  Result<PeerRow> peer_named(std::string_view name_or_id);  // as vm_named()
  Result<std::vector<PeerRow>> peers();
  // With what is remembered of it. kConflict: a protection needs it.
  Status remove_peer(SiteId site);
  Status set_peer_policy(SiteId site, Accept accept, uint64_t quota_bytes);

  // Offers that wait. One with another name or size than was agreed to asks anew.
  Result<OfferAsks> add_offer(const OfferRow& row);
  Result<std::vector<OfferRow>> offers();     // the oldest first
  Status accept_offer(VmId vm, SiteId peer);  // kNotFound
  Status remove_offer(VmId vm, SiteId peer);  // kNotFound

  // Protections.
  Status put_protection(const ProtectionRow& row);
  Result<ProtectionRow> protection(VmId vm);
  Result<std::vector<ProtectionRow>> protections();
  Status remove_protection(VmId vm);
  // It was the other end of a protection of that VM once, whatever became of either.
  Result<bool> was_counterpart(VmId vm, SiteId site);

  // Jobs.
  Result<uint64_t> add_job(std::string_view kind, std::string_view subject, Micros now,
                           const By& by = {});
  // What it has done so far, for the next holdfastd: not durable. Nothing of a job that has ended
  // is changed.
  Status note_job(uint64_t id, std::string_view detail);
  Status finish_job(const JobRow& row);
  Result<JobRow> job(uint64_t id);
  Result<std::vector<JobRow>> jobs(size_t newest);
  // Jobs that a previous holdfastd left running are interrupted from now on: those, oldest first.
  Result<std::vector<JobRow>> interrupt_left_over_jobs(Micros now);

  // Attestation. What a VM has none of is empty.
  Result<AttestationRow> attestation(VmId vm);
  Status set_attestation(VmId vm, AttestationPart part, std::string_view json);
  Result<uint64_t> add_verdict(VmId vm, const VerdictRow& row);
  Result<std::vector<VerdictRow>> verdicts(VmId vm, size_t newest = kVerdictsMax);  // newest first
  // All of it at once, as it came with the VM's journal; the VM is `adopt_pending` no more.
  // `verdicts` oldest first.
  Status replace_attestation(VmId vm, const AttestationRow& row,
                             const std::vector<VerdictRow>& verdicts);

  // Events.
  Result<uint64_t> add_event(const EventRow& row);
  struct EventFilter {
    std::string subject;  // empty: all
    uint64_t after = 0;   // ids above it only
    size_t newest = 100;
    Micros since = {};  // not before it
  };
  Result<std::vector<EventRow>> events(const EventFilter& filter);  // oldest first
  std::shared_ptr<Notice> events_changed();                         // tells of each new one

  Status audit(std::string_view actor, std::string_view act, std::string_view subject,
               std::string_view detail);
  Result<std::vector<AuditRow>> audited(const EventFilter& filter);  // oldest first

 private:
  struct Inner;
  explicit Catalog(std::unique_ptr<Inner> inner);
  std::unique_ptr<Inner> inner_;
};

// Adds an event of this moment, its text on one line. What happened has happened: an event that
// cannot be kept is logged.
void tell(Catalog& catalog, EventRow event);

}  // namespace hf::control
