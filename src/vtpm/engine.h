// The TPM itself: libtpms (TPM 2.0) with its state made durable by the owner.
//
// libtpms keeps its state in globals: one Engine at a time per process (asserted), every call under
// one mutex, cancel() excepted. Any thread may call; a call may take as long as a TPM command
// (RSA key generation: seconds at worst) plus one StateStore::commit.
//
// What is durable when: an NV change is only staged by libtpms' callback. After the command the
// engine commits one state blob, permanent and volatile state together, and only then hands out
// the answer. So the newest committed blob always resumes exactly where the last answered NV
// change left the TPM. Some of what outlives a power cycle libtpms stages with TPM2_Shutdown only,
// as hardware that cannot write NV that often would:
//   orderly counters (TPMA_NV_ORDERLY), their locks, TPM2_ClockSet   committed with the command
//   the clock as it runs      committed now and then by what tells it, so that recover() can go
//   the clock as it runs      committed now and then by what tells it, so that recover() can go
//                             past it
//   orderly indices of other kinds   committed with the command; and, while one is written, with
//                             every other command but those that only measure or look
// PCRs, sessions and transient objects end with the power and are by themselves no reason to
// commit.
//
// Why the volatile state is in there: a TPM that lost power without TPM2_Shutdown after a protected
// object was used counts that as a dictionary attack (failedTries + 1; locked out at 3). From
// permanent state alone every crash of a host would count. recover() resumes both, sends
// TPM2_Shutdown as the guest would have, and powers off: what starts next is an orderly TPM.
// TPM2_Shutdown(CLEAR), so that the crash counts as a TPM Reset; but (STATE) where an orderly index
// other than a counter is written, as a TPM Reset would take it: there the crash counts as a TPM
// Restart. A TPM Restart goes on with counters of contexts and ephemeral keys, with the audit
// digest and with PIN counts, none of which may be an older one: hence the many commits while such
// an index is written. Saved sessions are flushed, TPM2_Startup(STATE) is refused. Only the
// shutdown is ever resumed: the guest's PCRs and sessions are not brought back. At the next
// TPM2_Startup, before its answer, the clock is set ahead of anything that can have been told;
// until then nothing is committed. After a guest's own TPM2_Shutdown the blob is without volatile
// state: nothing is left to do.
//
//   start            from                     done by
//   create()         nothing                  libtpms manufactures; only at VM creation
//   recover()        a committed blob         resume, TPM2_Shutdown, power off; init() powers on
//   await_incoming() nothing                  stage_incoming() twice, then init() resumes
//   (migration)
//
// The store must not fail for a passing reason. When it does fail, the change was not made durable:
// the answer is withheld, the engine is fatal for good and says so to its owner. libtpms itself
// never sees the failure (it would enter failure mode, which outlives the cause).
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "base/mutex.h"
#include "base/result.h"
#include "vtpm/state/state_blob.h"
#include "vtpm/tpm_command.h"

namespace hf::vtpm {

class StateStore {
 public:
  virtual ~StateStore() = default;
  // Returns when the blob is durable and would be found by recover(); it replaces the one before.
  // Called with the engine's mutex held, on whichever thread needs it: must not call the engine.
  virtual Status commit(ByteSpan state_blob) = 0;
};

enum class PowerChange {
  kOff,
  kCold,     // PCRs start anew
  kResumed,  // with the volatile state of another process or an earlier moment
};

// Sees each command of the guest's that was executed and its answer, after the commit and before
// the answer leaves, and each step of a dynamic root of trust that the TPM took. Called with the
// engine's mutex held: must be quick and must not call the engine.
class CommandObserver {
 public:
  virtual ~CommandObserver() = default;
  virtual void on_command(uint8_t locality, ByteSpan command, ByteSpan response) = 0;
  virtual void on_power(PowerChange change) = 0;
  // After a TPM2_Startup that succeeded: the answer to TPM2_GetCapability(TPM_CAP_PCRS), which says
  // what banks there are until the next one.
  virtual void on_pcr_banks(ByteSpan response) = 0;
  virtual void on_hash_start() = 0;
  virtual void on_hash_data(ByteSpan data) = 0;
  virtual void on_hash_end() = 0;
};

// Sends one command and gives the TPM's answer to it.
using SendCommand = std::function<Result<Bytes>(ByteSpan command)>;

struct EngineOptions {
  StateStore* store = nullptr;          // required; outlives the engine
  CommandObserver* observer = nullptr;  // outlives the engine
  // Called once, with the engine's mutex held, when a commit failed or the clock could not be kept.
  std::function<void(const Error&)> on_fatal = {};
  // False at a migration target: state stays in memory until set_commit_allowed(true).
  bool commit_allowed = true;
};

enum class StateType : uint32_t { kPermanent = 1, kVolatile = 2, kSaveState = 3 };

// TPM_RESULT, the result code of libtpms and the control protocol (TPM 1.2 numbering).
using TpmResult = uint32_t;
inline constexpr TpmResult kTpmSuccess = 0;
inline constexpr TpmResult kTpmBadParameter = 0x03;
inline constexpr TpmResult kTpmFail = 0x09;
inline constexpr TpmResult kTpmBadOrdinal = 0x0A;
inline constexpr TpmResult kTpmSize = 0x17;
inline constexpr TpmResult kTpmIoError = 0x1F;
inline constexpr TpmResult kTpmDecryptError = 0x21;
inline constexpr TpmResult kTpmBadLocality = 0x3D;
inline constexpr TpmResult kTpmRetry = 0x800;

struct BufferSizes {
  uint32_t current;
  uint32_t min;
  uint32_t max;
};

class Engine {
 public:
  // Each leaves the TPM powered off; init() powers on.
  static Result<std::unique_ptr<Engine>> create(EngineOptions options);
  static Result<std::unique_ptr<Engine>> recover(EngineOptions options, ByteSpan state_blob);
  static Result<std::unique_ptr<Engine>> await_incoming(EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Machine reset. A running TPM is powered off first. Resumes incoming state, or volatile state
  // that store_volatile() kept, once; starts cold otherwise. kConflict without any state: a TPM is
  // never manufactured over a missing one.
  Status init() HF_EXCLUDES(mutex_);
  // Sends TPM2_Shutdown first if the guest did not. No effect if off.
  Status power_off() HF_EXCLUDES(mutex_);
  bool running() const { return running_.load(); }
  bool fatal() const { return fatal_.load(); }

  // Executes one whole command. An error means: no answer may be sent. When powered off the answer
  // is TPM_RC_FAILURE, as swtpm's.
  Result<Bytes> process(ByteSpan command) HF_EXCLUDES(mutex_);
  // For the owner's own commands, at locality 0: `work` runs with none of the guest's in between,
  // and the observer does not see what it sends. It leaves nothing behind in the TPM: flushes what
  // it loads, and touches no object or session of the guest's. kUnavailable, and nothing sent,
  // while the TPM is off, was shut down by the guest, or is in the middle of being moved or of a
  // dynamic root of trust. Not on a thread that the StateStore waits for.
  Status between_guest_commands(const std::function<Status(const SendCommand&)>& work)
      HF_EXCLUDES(mutex_);
  // Asks the running command to end early; never blocks.
  TpmResult cancel();

  TpmResult set_locality(uint8_t locality) HF_EXCLUDES(mutex_);  // 0..4
  BufferSizes buffer_sizes() HF_EXCLUDES(mutex_);
  TpmResult set_buffer_size(uint32_t size)
      HF_EXCLUDES(mutex_);  // only while off; clamped by libtpms

  // Dynamic root of trust and the TPM_Established flag; kTpmBadOrdinal while off.
  TpmResult hash_start() HF_EXCLUDES(mutex_);
  TpmResult hash_data(ByteSpan data) HF_EXCLUDES(mutex_);
  TpmResult hash_end() HF_EXCLUDES(mutex_);
  struct Established {
    TpmResult result;
    bool bit;
  };
  Established established() HF_EXCLUDES(mutex_);
  TpmResult reset_established(uint8_t locality) HF_EXCLUDES(mutex_);

  // Raw libtpms state, secret. kUnavailable while off; kNotFound for a type TPM 2.0 does not have.
  Result<Bytes> get_state(StateType type) HF_EXCLUDES(mutex_);
  // Takes effect at the next init(); only while off. Permanent first.
  Status stage_incoming(StateType type, ByteSpan state) HF_EXCLUDES(mutex_);
  // Keeps the volatile state for the next init() and commits.
  Status store_volatile() HF_EXCLUDES(mutex_);

  // Turning it on commits what was held back.
  Status set_commit_allowed(bool allowed) HF_EXCLUDES(mutex_);

  // libtpms' JSON (TPMLIB_GetInfo): bits 1 specification, 2 attributes, 4 features.
  std::string info(uint32_t flags) HF_EXCLUDES(mutex_);
  static uint32_t libtpms_version();

 private:
  friend struct EngineCallbacks;
  explicit Engine(EngineOptions options);

  Status register_callbacks() HF_REQUIRES(mutex_);
  Status main_init() HF_REQUIRES(mutex_);
  void terminate() HF_REQUIRES(mutex_);
  Status set_libtpms_state(StateType type, ByteSpan state) HF_REQUIRES(mutex_);
  // Resumes `permanent_` with `volatile_state`, sends TPM2_Shutdown, powers off; nothing committed.
  // Whether there was anything to shut down.
  Result<bool> make_orderly(Bytes& volatile_state) HF_REQUIRES(mutex_);
  Result<uint32_t> shut_down_as_the_guest_would() HF_REQUIRES(mutex_);  // its TPM_RC
  Status flush_saved_sessions() HF_REQUIRES(mutex_);
  // TPM2_Startup(STATE) after a shutdown that was not the guest's.
  bool resumes_what_was_lost(ByteSpan command) const HF_REQUIRES(mutex_);
  Status note_effects(ByteSpan command, ByteSpan response) HF_REQUIRES(mutex_);
  Status look_for_orderly_data() HF_REQUIRES(mutex_);
  Status begin_to_keep_orderly() HF_REQUIRES(mutex_);
  // Whether a TPM Reset would take the value of an index: orderly, written and no counter.
  Result<bool> holds_orderly_data() HF_REQUIRES(mutex_);
  Result<bool> is_orderly_data(uint32_t index) HF_REQUIRES(mutex_);
  // Just after TPM2_Startup; nothing committed.
  Status set_clock_ahead() HF_REQUIRES(mutex_);
  Result<Bytes> execute_surely(ByteSpan command, std::string_view doing) HF_REQUIRES(mutex_);
  Status resume_incoming() HF_REQUIRES(mutex_);
  Status power_off_locked() HF_REQUIRES(mutex_);
  Result<Bytes> submit(ByteSpan command) HF_REQUIRES(mutex_);   // and looks at nothing
  Result<Bytes> execute(ByteSpan command) HF_REQUIRES(mutex_);  // and notes what must be committed
  Result<Bytes> execute_own(ByteSpan command);
  Status tell_observer(ByteSpan command, ByteSpan response) HF_REQUIRES(mutex_);
  Bytes volatile_snapshot() HF_REQUIRES(mutex_);
  Status settle() HF_REQUIRES(mutex_);  // commits if something is staged or the clock leaves
  Status commit() HF_REQUIRES(mutex_);
  Error give_up(Error error) HF_REQUIRES(mutex_);
  TpmResult hash_step(TpmResult result) HF_REQUIRES(mutex_);
  void stage_permanent(ByteSpan bytes) HF_REQUIRES(mutex_);

  Mutex mutex_;
  const EngineOptions options_;
  std::atomic<bool> running_ = false;
  std::atomic<bool> fatal_ = false;
  uint8_t locality_ HF_GUARDED_BY(mutex_) = 0;
  bool commit_allowed_ HF_GUARDED_BY(mutex_) = true;
  bool manufacturing_ HF_GUARDED_BY(mutex_) = false;      // libtpms may make a new TPM
  bool staged_ HF_GUARDED_BY(mutex_) = false;             // permanent_ differs from what is durable
  bool incoming_ HF_GUARDED_BY(mutex_) = false;           // libtpms holds state for the next init()
  bool guest_shut_down_ HF_GUARDED_BY(mutex_) = false;    // TPM2_Shutdown was the last command
  bool volatile_exported_ HF_GUARDED_BY(mutex_) = false;  // and no command since
  bool hashing_ HF_GUARDED_BY(mutex_) = false;            // between hash_start() and hash_end()
  bool shutdown_durable_ HF_GUARDED_BY(mutex_) = false;   // the guest's, and it goes on
  bool clock_behind_ HF_GUARDED_BY(mutex_) = false;       // recovered, and not started up since
  bool saved_by_engine_ HF_GUARDED_BY(mutex_) = false;    // TPM2_Shutdown(STATE), likewise
  bool keeps_orderly_ HF_GUARDED_BY(mutex_) = false;      // holds_orderly_data()
  bool audits_ HF_GUARDED_BY(mutex_) = false;             // commands that only look, or may
  // The TPM's clock stands at its value of this instant or later: each command moves it on.
  std::chrono::steady_clock::time_point clock_since_ HF_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point clock_durable_ HF_GUARDED_BY(mutex_);  // so the durable one
  std::chrono::steady_clock::time_point clock_told_ HF_GUARDED_BY(mutex_);     // last, or earlier
  Bytes permanent_ HF_GUARDED_BY(mutex_);
  Bytes stored_volatile_ HF_GUARDED_BY(mutex_);      // by store_volatile()
  Bytes disorderly_volatile_ HF_GUARDED_BY(mutex_);  // powered off without TPM2_Shutdown from this
};

}  // namespace hf::vtpm
