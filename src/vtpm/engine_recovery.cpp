// The engine's side of crashes: what must be durable for one to take nothing back, and how a TPM
// starts after it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "vtpm/engine_internal.h"
#include "vtpm/state/volatile_state.h"

namespace hf::vtpm {
namespace {

using std::chrono::steady_clock;

constexpr uint64_t kClockMax = 0xFFFF000000000000;  // part 3, TPM2_ClockSet
constexpr uint32_t kCapHandles = 1;
constexpr uint32_t kCapAuditCommands = 4;
constexpr uint32_t kNvIndices = 0x01000000;
constexpr uint32_t kSavedSessions = 0x03000000;
constexpr uint32_t kHandlesAtOnce = 64;
constexpr uint32_t kHandlesMax = 4096;  // far more than libtpms has room for

// What outlives a power cycle, but is staged by libtpms no sooner than TPM2_Shutdown.
bool is_staged_late(uint32_t code) {
  return code == kCcNvIncrement || code == kCcNvWriteLock || code == kCcNvGlobalWriteLock ||
         code == kCcClockSet;
}

// Their answers, signed or not, tell the clock; TPM2_PolicyCounterTimer's by yes and no.
bool tells_clock(uint32_t code) {
  constexpr std::array kTelling = {kCcReadClock,
                                   kCcGetTime,
                                   kCcQuote,
                                   kCcCertify,
                                   kCcCertifyCreation,
                                   kCcNvCertify,
                                   kCcGetSessionAuditDigest,
                                   kCcGetCommandAuditDigest,
                                   kCcPolicyCounterTimer};
  return std::ranges::count(kTelling, code) != 0;
}

// Neither changes what a TPM Restart keeps nor can fail an authorization that is counted.
bool leaves_nothing(uint32_t code) {
  constexpr std::array kLooks = {
      kCcPcrExtend, kCcPcrEvent,      kCcPcrReset,      kCcPcrRead,     kCcReadClock,
      kCcGetRandom, kCcHash,          kCcGetCapability, kCcSelfTest,    kCcIncrementalSelfTest,
      kCcTestParms, kCcGetTestResult, kCcReadPublic,    kCcNvReadPublic};
  return std::ranges::count(kLooks, code) != 0;
}

bool writes_nv_data(uint32_t code) {
  return code == kCcNvWrite || code == kCcNvSetBits || code == kCcNvExtend;
}

bool succeeded(ByteSpan response) { return load_be<uint32_t>(response.data() + 6) == kRcSuccess; }

Bytes capability_question(uint32_t capability, uint32_t from, uint32_t count) {
  return CommandBuilder(kTagNoSessions, kCcGetCapability)
      .u32(capability)
      .u32(from)
      .u32(count)
      .finish();
}

struct Handles {
  std::vector<uint32_t> list;
  bool more = false;
};
Result<Handles> parse_handles(ByteSpan response) {
  ResponseReader reader(response.subspan(kTpmHeaderSize));
  Handles handles;
  handles.more = TRY(reader.u8()) != 0;
  TRY(reader.u32());  // capability
  const uint32_t count = TRY(reader.u32());
  for (uint32_t i = 0; i < count; ++i) handles.list.push_back(TRY(reader.u32()));
  return handles;
}

uint64_t wall_clock_ms() {
  using std::chrono::milliseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<milliseconds>(now).count());
}

}  // namespace

Status Engine::note_effects(ByteSpan command, ByteSpan response) {
  const uint32_t code = command_code(command);
  const bool done = succeeded(response);
  if (done && is_staged_late(code)) staged_ = true;
  if (tells_clock(code)) clock_told_ = steady_clock::now();
  // What an index is may be hidden when its hierarchy is switched off.
  if (done && (code == kCcStartup || code == kCcHierarchyControl)) TRY(look_for_orderly_data());
  if (done && code == kCcStartup) saved_by_engine_ = false;
  if (done && code == kCcSetCommandCodeAuditStatus) audits_ = true;
  if (done && writes_nv_data(code) && command.size() >= kTpmHeaderSize + 8) {
    const auto index = load_be<uint32_t>(command.data() + kTpmHeaderSize + 4);
    if (!keeps_orderly_ && TRY(is_orderly_data(index))) TRY(begin_to_keep_orderly());
  }
  if (keeps_orderly_ && (audits_ || !leaves_nothing(code))) staged_ = true;
  return {};
}

Status Engine::look_for_orderly_data() {
  keeps_orderly_ = false;
  return TRY(holds_orderly_data()) ? begin_to_keep_orderly() : Status();
}

Status Engine::begin_to_keep_orderly() {
  keeps_orderly_ = true;
  staged_ = true;
  const Bytes audited = TRY(submit(capability_question(kCapAuditCommands, 0, 2)));
  // TPM2_SetCommandCodeAuditStatus is always.
  audits_ = !succeeded(audited) || TRY(parse_handles(audited)).list.size() > 1;
  return {};
}

Result<bool> Engine::holds_orderly_data() {
  uint32_t from = kNvIndices;
  for (uint32_t seen = 0; seen < kHandlesMax;) {
    const Bytes answer = TRY(submit(capability_question(kCapHandles, from, kHandlesAtOnce)));
    if (!succeeded(answer)) return false;  // not started up
    const Handles indices = TRY(parse_handles(answer));
    for (const uint32_t index : indices.list) {
      if (TRY(is_orderly_data(index))) return true;
    }
    if (!indices.more || indices.list.empty()) return false;
    seen += static_cast<uint32_t>(indices.list.size());
    from = indices.list.back() + 1;
  }
  return true;
}

Result<bool> Engine::is_orderly_data(uint32_t index) {
  const Bytes answer =
      TRY(submit(CommandBuilder(kTagNoSessions, kCcNvReadPublic).u32(index).finish()));
  if (!succeeded(answer)) return true;  // it may be
  ResponseReader reader(ByteSpan(answer).subspan(kTpmHeaderSize));
  ResponseReader area(TRY(reader.sized()));
  TRY(area.raw(6));  // index, nameAlg
  const uint32_t attributes = TRY(area.u32());
  constexpr uint32_t kOrderly = 1U << 26;
  constexpr uint32_t kWritten = 1U << 29;
  constexpr uint32_t kCounter = 1;
  return (attributes & kOrderly) != 0 && (attributes & kWritten) != 0 &&
         (attributes >> 4 & 0xF) != kCounter;
}

Result<bool> Engine::make_orderly(Bytes& volatile_state) {
  if (volatile_state.empty()) {
    // Powered off or shut down when it was committed: nothing to shut down. What libtpms cannot
    // read is found out now rather than at the reset.
    TRY(main_init());
    terminate();
    return false;
  }
  saved_by_engine_ = false;
  // The time since was not under power: it heals no failed try.
  set_time_of_storing(volatile_state, wall_clock_ms());
  TRY(set_libtpms_state(StateType::kPermanent, permanent_));
  TRY(set_libtpms_state(StateType::kVolatile, volatile_state));
  TRY(main_init());
  const uint32_t code = TRY(shut_down_as_the_guest_would());
  terminate();
  // "Initialize": it had never been started up, so there was nothing to shut down.
  if (code != kRcSuccess && code != kRcInitialize) {
    return Error{
        .code = ErrorCode::kInternal,
        .cause = fmt::format("vTPM: TPM2_Shutdown of the recovered state answered 0x{:x}", code)};
  }
  return code == kRcSuccess;
}

Result<uint32_t> Engine::shut_down_as_the_guest_would() {
  const auto shut_down = [this](StartupType type)
                             HF_THREAD_ATTRIBUTE(no_thread_safety_analysis) -> Result<uint32_t> {
    const Bytes answer = TRY(submit(shutdown_command(type)));
    return TRY(parse_response_header(answer)).code;
  };
  if (TRY(holds_orderly_data())) {
    TRY(flush_saved_sessions());
    const uint32_t code = TRY(shut_down(StartupType::kState));
    saved_by_engine_ = code == kRcSuccess;
    if (saved_by_engine_) return code;
    // Its PCR banks were allocated anew, which takes a TPM Reset.
  }
  return shut_down(StartupType::kClear);
}

Status Engine::flush_saved_sessions() {
  const Bytes answer =
      TRY(submit(capability_question(kCapHandles, kSavedSessions, kHandlesAtOnce)));
  if (!succeeded(answer)) return {};
  for (const uint32_t session : TRY(parse_handles(answer)).list) {
    TRY(submit(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(session).finish()));
  }
  return {};
}

bool Engine::resumes_what_was_lost(ByteSpan command) const {
  return saved_by_engine_ && command_code(command) == kCcStartup &&
         std::ranges::equal(command, startup_command(StartupType::kState));
}

Status Engine::set_clock_ahead() {
  const Bytes read = TRY(execute_surely(CommandBuilder(kTagNoSessions, kCcReadClock).finish(),
                                        "read the recovered clock"));
  ResponseReader reader(ByteSpan(read).subspan(kTpmHeaderSize));
  TRY(reader.raw(8));  // time since power-on
  const uint64_t clock = load_be<uint64_t>(TRY(reader.raw(8)).data());
  const uint64_t ahead = clock + static_cast<uint64_t>(kClockMargin.count());
  if (ahead > kClockMax) return {};
  // TPM2_Startup has emptied the platform's authorization.
  TRY(execute_surely(CommandBuilder(kTagSessions, kCcClockSet)
                         .u32(kHandlePlatform)
                         .password()
                         .u32(static_cast<uint32_t>(ahead >> 32))
                         .u32(static_cast<uint32_t>(ahead))
                         .finish(),
                     "set the recovered clock ahead"));
  return {};
}

Result<Bytes> Engine::execute_surely(ByteSpan command, std::string_view doing) {
  Bytes answer = TRY(execute(command));
  TRY(expect_success(answer, fmt::format("vTPM: {}", doing)));
  return answer;
}

}  // namespace hf::vtpm
