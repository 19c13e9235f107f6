#include "vtpm/engine.h"

#include <fmt/format.h>
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
#include <libtpms/tpm_tis.h>

#include <algorithm>
#include <cstdlib>

#include "crypto/secret.h"
#include "vtpm/engine_internal.h"

namespace hf::vtpm {
namespace {

using std::chrono::steady_clock;

// libtpms' callbacks carry no context pointer.
std::atomic<Engine*> the_engine = nullptr;

static_assert(kTpmBadParameter == TPM_BAD_PARAMETER && kTpmFail == TPM_FAIL);
static_assert(kTpmBadOrdinal == TPM_BAD_ORDINAL && kTpmSize == TPM_SIZE);
static_assert(kTpmIoError == TPM_IOERROR && kTpmDecryptError == TPM_DECRYPT_ERROR);
static_assert(kTpmBadLocality == TPM_BAD_LOCALITY && kTpmRetry == TPM_RETRY);

}  // namespace

// What libtpms calls back. Always under the engine's mutex: libtpms only runs inside its calls.
struct EngineCallbacks {
  static TPM_RESULT nvram_init() { return TPM_SUCCESS; }

  static TPM_RESULT load(unsigned char** data, uint32_t* length, uint32_t /*tpm_number*/,
                         const char* name) HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) {
    const Engine& engine = *the_engine.load();
    const std::string_view which = name;
    const Bytes* from = nullptr;
    if (which == TPM_PERMANENT_ALL_NAME) {
      if (engine.permanent_.empty()) return engine.manufacturing_ ? TPM_RETRY : TPM_FAIL;
      from = &engine.permanent_;
    } else if (which == TPM_VOLATILESTATE_NAME && !engine.stored_volatile_.empty()) {
      from = &engine.stored_volatile_;
    } else {
      return TPM_RETRY;  // "there is none"
    }
    *data = static_cast<unsigned char*>(std::malloc(from->size()));
    if (*data == nullptr) return TPM_SIZE;
    std::memcpy(*data, from->data(), from->size());
    *length = static_cast<uint32_t>(from->size());
    return TPM_SUCCESS;
  }

  static TPM_RESULT store(const unsigned char* data, uint32_t length, uint32_t /*tpm_number*/,
                          const char* name) HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) {
    // Never fails, or the TPM would be in failure mode for good.
    if (std::string_view(name) == TPM_PERMANENT_ALL_NAME) {
      the_engine.load()->stage_permanent({reinterpret_cast<const std::byte*>(data), length});
    }
    return TPM_SUCCESS;
  }

  static TPM_RESULT remove(uint32_t /*tpm_number*/, const char* name, TPM_BOOL /*must_exist*/)
      HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) {
    Engine& engine = *the_engine.load();
    if (std::string_view(name) == TPM_VOLATILESTATE_NAME)
      replace_secret(engine.stored_volatile_, {});
    return TPM_SUCCESS;
  }

  static TPM_RESULT io_init() { return TPM_SUCCESS; }

  static TPM_RESULT locality(TPM_MODIFIER_INDICATOR* locality, uint32_t /*tpm_number*/)
      HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) {
    *locality = the_engine.load()->locality_;
    return TPM_SUCCESS;
  }

  static TPM_RESULT physical_presence(TPM_BOOL* present, uint32_t /*tpm_number*/) {
    *present = FALSE;
    return TPM_SUCCESS;
  }
};

Engine::Engine(EngineOptions options)
    : options_(std::move(options)), commit_allowed_(options_.commit_allowed) {
  HF_ASSERT(options_.store != nullptr);
  Engine* none = nullptr;
  HF_ASSERT(the_engine.compare_exchange_strong(none, this));
}

Engine::~Engine() {
  {
    // Without TPM2_Shutdown: destruction is not a power-off the guest asked for. recover() copes.
    MutexLock lock(mutex_);
    if (running_.load()) terminate();
    forget_cached_state();
    for (Bytes* secret : {&permanent_, &stored_volatile_, &disorderly_volatile_}) {
      crypto::wipe(*secret);
    }
  }
  the_engine.store(nullptr);
}

Status Engine::register_callbacks() {
  libtpms_callbacks callbacks{};
  callbacks.sizeOfStruct = sizeof callbacks;
  callbacks.tpm_nvram_init = EngineCallbacks::nvram_init;
  callbacks.tpm_nvram_loaddata = EngineCallbacks::load;
  callbacks.tpm_nvram_storedata = EngineCallbacks::store;
  callbacks.tpm_nvram_deletename = EngineCallbacks::remove;
  callbacks.tpm_io_init = EngineCallbacks::io_init;
  callbacks.tpm_io_getlocality = EngineCallbacks::locality;
  callbacks.tpm_io_getphysicalpresence = EngineCallbacks::physical_presence;
  if (TPM_RESULT r = TPMLIB_RegisterCallbacks(&callbacks)) return libtpms_error("callbacks", r);
  if (TPM_RESULT r = TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2)) {
    return libtpms_error("choose TPM 2.0", r);
  }
  return {};
}

Result<std::unique_ptr<Engine>> Engine::create(EngineOptions options) {
  std::unique_ptr<Engine> owner(new Engine(std::move(options)));
  Engine& engine = *owner;
  MutexLock lock(engine.mutex_);
  TRY(engine.register_callbacks());
  engine.manufacturing_ = true;
  // Twice, and the first one thrown away: libtpms 0.9 keeps a shadow of the PCR allocation of the
  // last state it parsed and applies it to the next TPM that powers on, even to a new one.
  for (int attempt = 0; attempt < 2; ++attempt) {
    replace_secret(engine.permanent_, {});
    TRY(engine.main_init());
    engine.terminate();
  }
  engine.manufacturing_ = false;
  TRY(engine.settle());
  return owner;
}

Result<std::unique_ptr<Engine>> Engine::recover(EngineOptions options, ByteSpan state_blob) {
  StateBlob state = TRY(decode_state_blob(state_blob));
  std::unique_ptr<Engine> owner(new Engine(std::move(options)));
  Engine& engine = *owner;
  MutexLock lock(engine.mutex_);
  TRY(engine.register_callbacks());
  engine.permanent_ = std::move(state.permanent);
  Result<bool> killed = engine.make_orderly(state.volatile_state);
  crypto::wipe(state.volatile_state);
  engine.clock_behind_ = TRY(std::move(killed));
  TRY(engine.settle());
  return owner;
}

Result<std::unique_ptr<Engine>> Engine::await_incoming(EngineOptions options) {
  std::unique_ptr<Engine> owner(new Engine(std::move(options)));
  Engine& engine = *owner;
  MutexLock lock(engine.mutex_);
  TRY(engine.register_callbacks());
  return owner;
}

uint32_t Engine::libtpms_version() { return TPMLIB_GetVersion(); }

void Engine::stage_permanent(ByteSpan bytes) {
  replace_secret(permanent_, bytes);
  staged_ = true;
}

Status Engine::main_init() {
  HF_ASSERT(!running_.load());
  if (TPM_RESULT r = TPMLIB_MainInit()) {
    TPMLIB_Terminate();
    forget_cached_state();
    Error error = libtpms_error("power on: state refused", r);
    error.code = ErrorCode::kCorrupt;
    return error;
  }
  running_ = true;
  guest_shut_down_ = false;
  volatile_exported_ = false;
  hashing_ = false;
  locality_ = 0;
  return {};
}

void Engine::terminate() {
  TPMLIB_Terminate();
  TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2);  // forgotten by Terminate
  running_ = false;
  shutdown_durable_ = false;
}

Status Engine::set_libtpms_state(StateType type, ByteSpan state) {
  HF_ASSERT(!running_.load());
  const auto which = type == StateType::kPermanent ? TPMLIB_STATE_PERMANENT : TPMLIB_STATE_VOLATILE;
  const TPM_RESULT result =
      TPMLIB_SetState(which, reinterpret_cast<const unsigned char*>(state.data()),
                      static_cast<uint32_t>(state.size()));
  if (result == TPM_SUCCESS) return {};
  Error error = libtpms_error(
      type == StateType::kPermanent ? "permanent state refused" : "volatile state refused", result);
  error.code = ErrorCode::kCorrupt;
  error.mend = "start on a host whose libtpms is at least as new as the one that wrote the state";
  return error;
}

Status Engine::resume_incoming() {
  incoming_ = false;  // libtpms uses it up
  for (Bytes* old : {&permanent_, &stored_volatile_, &disorderly_volatile_})
    replace_secret(*old, {});
  TRY(main_init());  // stages the permanent state
  HF_ASSERT(!permanent_.empty());
  saved_by_engine_ = false;
  return {};
}

Status Engine::init() {
  MutexLock lock(mutex_);
  if (fatal_.load()) {
    return Error{.code = ErrorCode::kIo, .cause = "vTPM: its state could not be stored earlier"};
  }
  TRY(power_off_locked());
  const bool resumed = incoming_ || !stored_volatile_.empty();
  if (incoming_) {
    TRY(resume_incoming());
  } else {
    if (permanent_.empty()) {
      return Error{.code = ErrorCode::kConflict, .cause = "vTPM: powered on without any state"};
    }
    if (stored_volatile_.empty() && !disorderly_volatile_.empty()) {
      TRY(make_orderly(disorderly_volatile_));
    }
    TRY(main_init());
    replace_secret(stored_volatile_, {});
    replace_secret(disorderly_volatile_, {});
  }
  if (resumed) TRY(look_for_orderly_data());
  if (options_.observer != nullptr) {
    options_.observer->on_power(resumed ? PowerChange::kResumed : PowerChange::kCold);
  }
  return settle();
}

Status Engine::power_off() {
  MutexLock lock(mutex_);
  return power_off_locked();
}

Status Engine::power_off_locked() {
  if (!running_.load()) return {};
  if (volatile_exported_ || !stored_volatile_.empty()) {
    // It lives on elsewhere, or will be resumed from here: shutting it down would change the
    // permanent state under the volatile state. If it starts cold after all, init() makes up for
    // it.
    replace_secret(disorderly_volatile_, volatile_snapshot());
  } else if (!guest_shut_down_) {
    TRY(execute(shutdown_command(StartupType::kClear)));
  }
  terminate();
  if (options_.observer != nullptr) options_.observer->on_power(PowerChange::kOff);
  return settle();
}

Result<Bytes> Engine::submit(ByteSpan command) {
  HF_ASSERT(running_.load());
  clock_since_ = steady_clock::now();
  Bytes request(command.begin(), command.end());  // libtpms takes it non-const
  unsigned char* buffer = nullptr;
  uint32_t size = 0;
  uint32_t capacity = 0;
  const TPM_RESULT result =
      TPMLIB_Process(&buffer, &size, &capacity, reinterpret_cast<unsigned char*>(request.data()),
                     static_cast<uint32_t>(request.size()));
  crypto::wipe(request);  // may carry authorization values
  Bytes response = take_secret(buffer, size);
  if (result != TPM_SUCCESS) return libtpms_error("process a command", result);
  HF_ASSERT(response.size() >= kTpmHeaderSize && response.size() <= kTpmBufferMax);
  return response;
}

Result<Bytes> Engine::execute(ByteSpan command) {
  Bytes response = TRY(submit(command));
  TRY(note_effects(command, response));
  return response;
}

Result<Bytes> Engine::process(ByteSpan command) {
  MutexLock lock(mutex_);
  if (fatal_.load()) {
    return Error{.code = ErrorCode::kIo, .cause = "vTPM: its state could not be stored earlier"};
  }
  if (!running_.load()) return status_response(kRcFailure);
  if (command.size() < kTpmHeaderSize || command.size() > kTpmBufferMax) {
    return status_response(kRcCommandSize);
  }
  if (resumes_what_was_lost(command)) return status_response(kRcValueOfParameter1);
  Bytes response = TRY(execute(command));
  volatile_exported_ = false;
  hashing_ = false;                      // a command ends it
  replace_secret(stored_volatile_, {});  // of an older moment now
  const bool done = load_be<uint32_t>(response.data() + 6) == kRcSuccess;
  guest_shut_down_ = done && command_code(command) == kCcShutdown;
  if (clock_behind_ && done && command_code(command) == kCcStartup) {
    Status ahead = set_clock_ahead();
    if (!ahead.ok()) return give_up(std::move(ahead).error());
    clock_behind_ = false;
  }
  TRY(settle());
  if (options_.observer != nullptr) TRY(tell_observer(command, response));
  return response;
}

Status Engine::tell_observer(ByteSpan command, ByteSpan response) {
  options_.observer->on_command(locality_, command, response);
  const bool started =
      command_code(command) == kCcStartup && load_be<uint32_t>(response.data() + 6) == kRcSuccess;
  if (!started) return {};
  constexpr uint32_t kCapPcrs = 5;
  const Bytes question =
      CommandBuilder(kTagNoSessions, kCcGetCapability).u32(kCapPcrs).u32(0).u32(1).finish();
  options_.observer->on_pcr_banks(TRY(execute(question)));
  return {};
}

Status Engine::between_guest_commands(const std::function<Status(const SendCommand&)>& work) {
  MutexLock lock(mutex_);
  const auto unavailable = [](std::string_view why) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = fmt::format("vTPM: {}", why),
                 .effect = "nothing was asked of it",
                 .mend = "try again while the VM runs"};
  };
  if (fatal_.load()) return unavailable("its state could not be stored earlier");
  if (!running_.load()) return unavailable("powered off");
  if (guest_shut_down_) return unavailable("the guest has shut it down");
  if (volatile_exported_ || !stored_volatile_.empty()) return unavailable("it is being moved");
  if (hashing_) return unavailable("a dynamic root of trust is being measured");
  const uint8_t before = std::exchange(locality_, 0);
  Status done = work([this](ByteSpan command) { return execute_own(command); });
  locality_ = before;
  TRY(settle());
  return done;
}

// Only from between_guest_commands(), which holds the mutex.
Result<Bytes> Engine::execute_own(ByteSpan command) HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) {
  HF_ASSERT(command.size() >= kTpmHeaderSize && command.size() <= kTpmBufferMax);
  return execute(command);
}

Bytes Engine::volatile_snapshot() {
  if (!running_.load()) return {};
  unsigned char* buffer = nullptr;
  uint32_t size = 0;
  const TPM_RESULT result = TPMLIB_VolatileAll_Store(&buffer, &size);
  HF_ASSERT(result == TPM_SUCCESS);  // fails only for want of memory
  return take_secret(buffer, size);
}

Status Engine::settle() {
  // Nothing was told yet: what was found is still right, and is recovered another time.
  if (clock_behind_) return {};
  if (running_.load()) {
    // What is durable is too old a clock to tell from, or a shutdown that is over.
    if (clock_told_ - clock_durable_ >= kClockCommitAfter) staged_ = true;
    if (shutdown_durable_ && !guest_shut_down_) staged_ = true;
  }
  if (!staged_ || !commit_allowed_) return {};
  if (fatal_.load()) {
    return Error{.code = ErrorCode::kIo, .cause = "vTPM: its state could not be stored earlier"};
  }
  Status done = commit();
  if (done.ok()) {
    staged_ = false;
    shutdown_durable_ = running_.load() && guest_shut_down_;
    clock_durable_ = clock_since_;
    return {};
  }
  return give_up(std::move(done).error().context("vTPM state not stored"));
}

Error Engine::give_up(Error error) {
  fatal_ = true;
  if (options_.on_fatal) options_.on_fatal(error);
  return error;
}

Status Engine::commit() {
  // What the guest has shut down is as it wants it: resumed, it would be shut down another way.
  StateBlob state{.libtpms_version = libtpms_version(),
                  .permanent = permanent_,
                  .volatile_state = guest_shut_down_ ? Bytes() : volatile_snapshot()};
  Result<Bytes> blob = encode_state_blob(state);
  crypto::wipe(state.permanent);
  crypto::wipe(state.volatile_state);
  if (!blob.ok()) return std::move(blob).error();
  Status stored = options_.store->commit(*blob);
  crypto::wipe(*blob);
  return stored;
}

}  // namespace hf::vtpm
