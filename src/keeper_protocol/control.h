// Questions on a keeper's control socket and their answers: one JSON object a line each way, asked
// by holdfastd alone. An answer has "ok": true beside its own members, or is
// {"ok":false,"error":{…}}.
//
// A question is a struct here; its `Reply` is what the answer holds. Where another library says
// what an answer looks like, Reply is the JSON object itself and the comment names the place.
// What a keeper's mode does not have it refuses with kUnsupported.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "crypto/crypto.h"
#include "journal/format/lineage.h"
#include "sys/typed_json.h"

namespace hf::keeper_protocol {

// An attestation record of its full size, in base64, is the longest of both.
inline constexpr size_t kQuestionBytesMax = size_t{1536} << 10;
inline constexpr size_t kAnswerBytesMax = size_t{4} << 20;
inline constexpr size_t kDepthMax = 8;

// ---- Answers ------------------------------------------------------------------------------------

struct Nothing {
  bool operator==(const Nothing&) const = default;
};

// journal::LineEnd. Sequence 0: nothing is there.
struct End {
  IncarnationId incarnation;
  Sequence sequence;
  Digest chain;
  static End of(const journal::LineEnd& end) {
    return {.incarnation = end.position.incarnation,
            .sequence = end.position.sequence,
            .chain = end.chain};
  }
  journal::LineEnd line_end() const {
    return {.position = {.incarnation = incarnation, .sequence = sequence}, .chain = chain};
  }
  bool operator==(const End&) const = default;
};

enum class ShippingState {
  kWaiting,    // no stream to the peer's keeper
  kGreeting,   // there is one; the session begins
  kSeeding,    // base files go first
  kStreaming,  // records
  kHalted,     // trying again cannot help: `error`
};

// Of a keeper that ships: home's, or a caretaker.
struct Shipping {
  ShippingState state = ShippingState::kWaiting;
  SiteId peer_site;
  bool caught_up = false;          // the peer has all that is durable here
  std::optional<uint64_t> rpo_ms;  // left out: the peer has said nothing yet
  std::optional<End> acknowledged;
  Sequence home_durable;
  uint64_t lag_records = 0;
  uint64_t lag_bytes = 0;  // sent and not acknowledged
  // What the peer lacked grew past the limit and is merged away: it will be seeded anew.
  bool let_go = false;
  std::optional<uint64_t> seed_bytes_done;
  std::optional<uint64_t> seed_bytes_total;
  std::optional<Epoch> peer_epoch;  // above ours: the VM was taken over there
  std::optional<Error> error;       // why it does not ship now, or did not before
};

struct ServeStatus {
  static constexpr std::string_view kOp = "serve";
  std::string state;  // "serving", "failed"
  int32_t pid = 0;
  Epoch epoch;
  IncarnationId incarnation;
  Sequence appended;
  Sequence durable;
  IncarnationId durable_incarnation;
  Digest chain;
  uint64_t segments = 0;  // closed
  uint64_t bases = 0;
  std::string vtpm;
  uint64_t connections = 0;  // of QEMU, to volumes
  crypto::PublicKey journal_public_key{};
  std::optional<Shipping> shipping;  // of a protected VM
};

struct ReplicaStatus {
  static constexpr std::string_view kOp = "replica";
  int32_t pid = 0;
  bool connected = false;
  bool sealed = false;
  bool holds_anything = false;  // one record at least
  Epoch epoch;                  // the highest it was told, or has records of
  End durable;
  Micros durable_time_us;  // record time of the newest durable record
  Sequence home_durable;   // as home last said
  uint64_t seed_bytes_done = 0;
  uint64_t seed_bytes_total = 0;  // 0: no seed is under way
  uint64_t stored_bytes = 0;      // of what it has received, while its journal is open
  // How many they may become; none: as many as the disk has room for.
  std::optional<uint64_t> stored_bytes_max;
  std::optional<Error> error;  // that ended the last stream; gone once one works again
};

struct CaretakerStatus {
  static constexpr std::string_view kOp = "caretaker";
  int32_t pid = 0;
  Epoch epoch;
  End durable;
  Shipping shipping;
};

// Told apart by "mode".
using AnyStatus = std::variant<ServeStatus, ReplicaStatus, CaretakerStatus>;

struct Drained {
  bool drained = false;
};
struct Sealed {
  End durable;
  Epoch epoch;
};
// What was shown to the vault.
struct Shown {
  End end;
  bool whole = false;
  bool holds = false;  // the position that was asked about lies on this line
};
struct StoreUse {
  uint64_t stored_bytes = 0;
};
struct Secret {
  Bytes secret;
};
struct Stored {
  std::optional<Bytes> data;
};

// ---- Questions ----------------------------------------------------------------------------------

struct GetStatus {
  static constexpr std::string_view kOp = "status";
  using Reply = AnyStatus;
};
// Answered at once; the keeper then ends in order.
struct Stop {
  static constexpr std::string_view kOp = "stop";
  using Reply = Nothing;
};

// Serve: the VM is protected from now on, and not any more. A successor under the same guest knows.
struct Protect {
  static constexpr std::string_view kOp = "protect";
  using Reply = Nothing;
  SiteId peer_site;
};
struct Unprotect {
  static constexpr std::string_view kOp = "unprotect";
  using Reply = Nothing;
};
// Serve, caretaker: answered when the peer has what is durable here now, or at the limit.
struct Drain {
  static constexpr std::string_view kOp = "drain";
  using Reply = Drained;
  uint64_t limit_ms = 0;
};
// Replica: takes no more from its source. What is told is durable. The keeper forgets it when it
// ends.
struct Seal {
  static constexpr std::string_view kOp = "seal";
  using Reply = Sealed;
};
// Serve, replica: shows the site's vault where the line here ends. Of a replica: what its source
// was told last, and the end of it all once it is sealed; whole unless a seed is under way. Serve
// also: whether `holds`, the peer's position as it has acknowledged it, lies on this line.
struct ShowLine {
  static constexpr std::string_view kOp = "show_line";
  using Reply = Shown;
  std::optional<End> holds;
};
struct Unseal {
  static constexpr std::string_view kOp = "unseal";
  using Reply = Nothing;
};
// Replica: from now on it takes nothing that would have its directory hold more; none: no bound.
// Answered with what it holds under that bound. The keeper forgets it when it ends.
struct LimitStore {
  static constexpr std::string_view kOp = "limit_store";
  using Reply = StoreUse;
  std::optional<uint64_t> bytes_max;
};

// Serve: attestation. {"boot":{"id":hex16,"started_us":t,"powered":bool,"complete":bool,
// "startup_locality":l,"exit_boot_services":n|null,"exit_us":t|null},"total":N,"extends":[{"n",
// "pcr","locality","time_us","digests":{bank:hex}}…]}, at most 256 of them; a change that is no
// extend says so in "kind": "reset", "hcrtm", "drtm" (attestation's extend_record reads it).
// Answered when the boot under way is another than `boot` (empty: none), or its hand-over another
// than `handed_over`; at the latest after `wait_ms`.
struct Measurements {
  static constexpr std::string_view kOp = "measurements";
  using Reply = sys::JsonObject;
  uint64_t from = 0;
  std::string boot;
  bool handed_over = false;
  uint64_t wait_ms = 0;
};
struct Pcrs {  // {"pcrs":{bank:{"0":hex…}}}
  static constexpr std::string_view kOp = "pcrs";
  using Reply = sys::JsonObject;
};
// {"ak_public":b64 TPM2B_PUBLIC,"ak_name":hex,"ek_public":b64 TPM2B_PUBLIC,"ek_certificate":b64
// DER|null}
struct AttestationKey {
  static constexpr std::string_view kOp = "attestation_key";
  using Reply = sys::JsonObject;
};
struct ActivateCredential {
  static constexpr std::string_view kOp = "activate_credential";
  using Reply = Secret;
  Bytes id_object;
  Bytes encrypted_secret;
};
// {"quote":b64 TPMS_ATTEST,"signature":b64 TPMT_SIGNATURE,"pcrs":{bank:{"0":hex…}},"boot_id":
// hex16,"total":N}: values and record as they were at the quote. Banks: "sha1", "sha256" ….
struct Quote {
  static constexpr std::string_view kOp = "quote";
  using Reply = sys::JsonObject;
  Bytes nonce;
  std::map<std::string, std::vector<uint8_t>> selection;
};

// Serve: Secure Boot's variables. {"variables":{…},"saved":[{"name","time_us"}…]}, as
// secure_boot's variables_json writes them.
struct SecureBoot {
  static constexpr std::string_view kOp = "secure_boot";
  using Reply = sys::JsonObject;
};
struct VariableChange {
  std::string variable;
  std::string action;  // secure_boot::ChangeAction's words
  Bytes data;
};
// All or none, durable when answered. {"results":[{"variable","added","removed","changed",
// "words"}…]}. Edits and restores are refused (conflict) while QEMU is connected to the store.
struct SecureBootEdit {
  static constexpr std::string_view kOp = "secure_boot_edit";
  using Reply = sys::JsonObject;
  std::vector<VariableChange> changes;
};
// Copies of the variable store, kept in the journal.
struct SecureBootSave {
  static constexpr std::string_view kOp = "secure_boot_save";
  using Reply = Nothing;
  std::string name;
};
struct SecureBootRestore {
  static constexpr std::string_view kOp = "secure_boot_restore";
  using Reply = Nothing;
  std::string name;
};
struct SecureBootForget {
  static constexpr std::string_view kOp = "secure_boot_forget";
  using Reply = Nothing;
  std::string name;
};
// What the first disk boots: {"ticket":n}, and with that later {"ticket":n,"reading":true}, or with
// "reading":false {"knowledge":text,"report":{…},"text":lines,"bytes":n} or {"error":{…}}.
// kConflict: no such ticket was given, as after a restart of the keeper.
struct BootFiles {
  static constexpr std::string_view kOp = "boot_files";
  using Reply = sys::JsonObject;
  std::optional<uint64_t> ticket;
};
// What travels with every recovery point; durable when answered.
struct AttestationPut {
  static constexpr std::string_view kOp = "attestation_put";
  using Reply = Nothing;
  Bytes data;
};
struct AttestationGet {
  static constexpr std::string_view kOp = "attestation_get";
  using Reply = Stored;
};

using Question = std::variant<GetStatus, Stop, Protect, Unprotect, Drain, Seal, Unseal, LimitStore,
                              ShowLine, Measurements, Pcrs, AttestationKey, ActivateCredential,
                              Quote, SecureBoot, SecureBootEdit, SecureBootSave, SecureBootRestore,
                              SecureBootForget, BootFiles, AttestationPut, AttestationGet>;

// Longest waits that the keeper grants; a client waits a little longer.
inline constexpr uint64_t kDrainMsMax = 600'000;
inline constexpr uint64_t kBootWaitMsMax = 3'600'000;

}  // namespace hf::keeper_protocol

#include "keeper_protocol/control_json.h"  // how they are written
