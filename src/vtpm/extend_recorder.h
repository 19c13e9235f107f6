// Writes down every change of a PCR since the TPM's power-on, as the TPM itself took it: boot
// integrity without a word from the guest.
//
// Replayed in order, the record gives what TPM2_PCR_Read answers, in every bank, as long as it is
// complete:
//
//   change   PCR        what the TPM did                                    from
//   extend   0..23      PCR = H(PCR ‖ digest)                               TPM2_PCR_Extend,
//   TPM2_PCR_Event,
//                                                                           TPM2_EventSequenceComplete
//   reset    16..23     PCR = zeroes                                        TPM2_PCR_Reset
//   hcrtm    0          PCR = 0…04, then as extend                          _TPM_Hash_* before
//   TPM2_Startup drtm     17         PCRs 17 to 22 = zeroes, then PCR 17 as extend _TPM_Hash_*
//   after it
//
// Before the first change PCRs are zeroes, 17 to 22 all ones, and the last byte of PCR 0 is the
// locality of TPM2_Startup (startup_locality), unless an hcrtm came first.
//
// Not complete: after a resumption of saved PCRs (TPM2_Startup(STATE), migration), past
// `changes_max`, or for a guest whose TPM ended with an earlier process. Only what changed a PCR
// stands in it: digests of banks that are not allocated are left out, and an extend of none but
// those is no change.
//
// Left out, and only counted: changes after the hand-over of registers that no verdict rests on,
// past a sixteenth of `changes_max`. PCR 10 is the running kernel's (IMA), which extends it with
// every file that is opened, for as long as the guest runs; 16 and 23 are anybody's to reset. The
// record of all others, and of the boot itself, stays complete. Those three do not replay then.
//
// Thread-safe: the engine writes from its threads, any thread reads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "vtpm/engine.h"

struct evp_md_ctx_st;

namespace hf::vtpm {

inline constexpr size_t kExtendsMax = 65'536;
inline constexpr uint8_t kPcrsMax = 24;

enum class PcrChangeKind : uint8_t { kExtend, kReset, kHcrtm, kDrtm };

struct BankDigest {
  uint16_t algorithm = 0;  // TPM_ALG_ID
  Bytes digest;
  bool operator==(const BankDigest&) const = default;
};

struct PcrChangeRecord {
  PcrChangeKind kind = PcrChangeKind::kExtend;
  uint8_t pcr = 0;
  uint8_t locality = 0;
  Micros time;
  std::vector<BankDigest> digests;  // of a reset: none
};

using BootId = StrongBytes<struct BootIdTag, 8>;

// One power-on.
struct BootRecord {
  BootId id;       // zero before the first power-on
  Micros started;  // wall time
  bool powered = false;
  bool complete = true;
  uint8_t startup_locality = 0;
  // The first PCR 5 extend of "Exit Boot Services Invocation" (TCG PC Client Platform Firmware
  // Profile, 3.3.4.5): the firmware has handed over to the operating system.
  std::optional<uint64_t> exit_boot_services;
  std::optional<Micros> exit_time;
  uint64_t total = 0;
  uint64_t left_out = 0;  // changes of PCR 10, 16 or 23, besides `total`
};

class ExtendRecorder final : public CommandObserver {
 public:
  // Both outlive it; used from any thread.
  ExtendRecorder(Clock& clock, Rng& rng, size_t changes_max = kExtendsMax)
      : clock_(clock), rng_(rng), changes_max_(changes_max) {}

  void on_command(uint8_t locality, ByteSpan command, ByteSpan response) override;
  void on_power(PowerChange change) override;
  void on_pcr_banks(ByteSpan response) override;
  void on_hash_start() override;
  void on_hash_data(ByteSpan data) override;
  void on_hash_end() override;

  // Called whenever a boot begins, ends, hands over or is lost, on whatever thread saw it, without
  // the recorder's lock: it may only hand the news on. Empty: nobody is told any more.
  void set_on_boot(std::function<void()> told);

  // Forgets power cycles that were not the guest's.
  void forget();
  // The guest runs on, but its TPM ended with an earlier process: nothing is known of its boot.
  void note_lost();

  struct View {
    BootRecord boot;
    std::vector<PcrChangeRecord> changes;  // from `from` on, at most as many as asked for
  };
  View read(uint64_t from, size_t max) const;

 private:
  void tell_boot();
  void leave_out_missing_banks(PcrChangeRecord& change) const HF_REQUIRES(mutex_);
  void begin(bool complete) HF_REQUIRES(mutex_);
  void add(PcrChangeRecord change) HF_REQUIRES(mutex_);
  // What a command that succeeded changed. kCorrupt: not laid out as the specification has it.
  Status note(uint8_t locality, ByteSpan command, ByteSpan response) HF_REQUIRES(mutex_);
  Status note_startup(uint8_t locality, ByteSpan command) HF_REQUIRES(mutex_);
  Status note_digests(uint8_t locality, uint32_t handle, ResponseReader reader) HF_REQUIRES(mutex_);

  Clock& clock_;
  Rng& rng_;
  const size_t changes_max_;
  mutable Mutex mutex_;
  std::function<void()> on_boot_ HF_GUARDED_BY(mutex_);
  BootRecord boot_ HF_GUARDED_BY(mutex_);
  std::vector<PcrChangeRecord> changes_ HF_GUARDED_BY(mutex_);
  bool started_up_ HF_GUARDED_BY(mutex_) = false;  // TPM2_Startup has succeeded
  // By bank (TPM_ALG_ID), the PCRs that it has, as bits; nothing before TPM2_Startup.
  std::optional<std::map<uint16_t, uint32_t>> banks_ HF_GUARDED_BY(mutex_);
  bool full_ HF_GUARDED_BY(mutex_) = false;
  size_t idle_ HF_GUARDED_BY(mutex_) = 0;  // changes that no verdict rests on, in changes_
  struct HashFree {
    void operator()(evp_md_ctx_st* context) const;
  };
  using Hash = std::unique_ptr<evp_md_ctx_st, HashFree>;
  std::vector<Hash> hashes_ HF_GUARDED_BY(mutex_);  // of the root of trust under way, by bank
};

}  // namespace hf::vtpm
