// For tests: a store that remembers, and a guest that talks raw TPM commands to an engine.
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "vtpm/engine.h"

namespace hf::vtpm {

class MemoryStateStore final : public StateStore {
 public:
  Status commit(ByteSpan state_blob) override {
    if (fail) return Error{.code = ErrorCode::kNoSpace, .cause = "test: no space"};
    last.assign(state_blob.begin(), state_blob.end());
    ++commits;
    return {};
  }
  Bytes last;
  uint64_t commits = 0;
  std::atomic<bool> fail = false;  // set from the test's thread, read on the committing one
};

// Every helper asserts that the TPM answered at all; `code` is the TPM_RC.
class GuestTpm {
 public:
  explicit GuestTpm(Engine& engine) : engine_(engine) {}

  struct Answer {
    uint32_t code = ~0U;
    Bytes body;  // after the header
  };
  // Sends again on TPM_RC_RETRY, as drivers do: libtpms answers so after noting in NV that a
  // protected object is about to be used.
  Answer send(const Bytes& command) {
    for (int attempt = 0;; ++attempt) {
      Result<Bytes> response = engine_.process(command);
      EXPECT_TRUE(response.ok());
      if (!response.ok()) return {};
      Result<ResponseHeader> header = parse_response_header(*response);
      EXPECT_TRUE(header.ok());
      if (header->code == 0x922 && attempt < 3) continue;
      return {.code = header->code,
              .body = Bytes(response->begin() + kTpmHeaderSize, response->end())};
    }
  }

  uint32_t startup() { return send(startup_command(StartupType::kClear)).code; }
  uint32_t shutdown() { return send(shutdown_command(StartupType::kClear)).code; }

  // ECC P-256 storage key in the owner hierarchy: the same key each time.
  uint32_t create_primary() {
    Bytes area = CommandBuilder(0, 0)
                     .u16(kAlgEcc)
                     .u16(kAlgSha256)
                     .u32(0x00030472)
                     .u16(0)
                     .u16(kAlgAes)
                     .u16(128)
                     .u16(kAlgCfb)
                     .u16(kAlgNull)
                     .u16(0x0003)
                     .u16(kAlgNull)
                     .u16(0)
                     .u16(0)
                     .finish();
    Answer answer = send(CommandBuilder(kTagSessions, kCcCreatePrimary)
                             .u32(kHandleOwner)
                             .password()
                             .u16(4)
                             .u16(0)
                             .u16(0)
                             .sized(ByteSpan(area).subspan(kTpmHeaderSize))
                             .u16(0)
                             .u32(0)
                             .finish());
    EXPECT_EQ(answer.code, kRcSuccess);
    return answer.code == kRcSuccess ? load_be<uint32_t>(answer.body.data()) : 0;
  }

  struct Sealed {
    Bytes private_area;
    Bytes public_area;
  };
  // Dictionary-attack protected (noDA clear), with a password.
  Sealed seal(uint32_t parent, std::string_view password, std::string_view data) {
    const auto sensitive_size = static_cast<uint16_t>(4 + password.size() + data.size());
    Bytes area = CommandBuilder(0, 0)
                     .u16(kAlgKeyedHash)
                     .u16(kAlgSha256)
                     .u32(0x00000052)
                     .u16(0)
                     .u16(kAlgNull)
                     .u16(0)
                     .finish();
    Answer answer = send(CommandBuilder(kTagSessions, kCcCreate)
                             .u32(parent)
                             .password()
                             .u16(sensitive_size)
                             .sized(as_bytes(password))
                             .sized(as_bytes(data))
                             .sized(ByteSpan(area).subspan(kTpmHeaderSize))
                             .u16(0)
                             .u32(0)
                             .finish());
    EXPECT_EQ(answer.code, kRcSuccess);
    if (answer.code != kRcSuccess) return {};
    ResponseReader reader(ByteSpan(answer.body).subspan(4));
    const ByteSpan secret = reader.sized().value();
    const ByteSpan open = reader.sized().value();
    return {.private_area = Bytes(secret.begin(), secret.end()),
            .public_area = Bytes(open.begin(), open.end())};
  }

  // The data, or the TPM_RC of whichever step failed.
  struct Unsealed {
    uint32_t code;
    std::string data;
  };
  Unsealed unseal(const Sealed& sealed, std::string_view password) {
    const uint32_t parent = create_primary();
    Answer loaded = send(CommandBuilder(kTagSessions, kCcLoad)
                             .u32(parent)
                             .password()
                             .sized(sealed.private_area)
                             .sized(sealed.public_area)
                             .finish());
    flush(parent);
    if (loaded.code != kRcSuccess) return {.code = loaded.code, .data = {}};
    const uint32_t handle = load_be<uint32_t>(loaded.body.data());
    Answer answer = send(
        CommandBuilder(kTagSessions, kCcUnseal).u32(handle).password(as_bytes(password)).finish());
    flush(handle);
    if (answer.code != kRcSuccess) return {.code = answer.code, .data = {}};
    ResponseReader reader(ByteSpan(answer.body).subspan(4));
    return {.code = kRcSuccess, .data = std::string(as_text(reader.sized().value()))};
  }

  uint32_t define_nv(uint32_t index, uint32_t attributes, uint16_t size) {
    Bytes area =
        CommandBuilder(0, 0).u32(index).u16(kAlgSha256).u32(attributes).u16(0).u16(size).finish();
    return send(CommandBuilder(kTagSessions, kCcNvDefineSpace)
                    .u32(kHandleOwner)
                    .password()
                    .u16(0)
                    .sized(ByteSpan(area).subspan(kTpmHeaderSize))
                    .finish())
        .code;
  }
  uint32_t increment_nv(uint32_t index) {
    return send(CommandBuilder(kTagSessions, kCcNvIncrement)
                    .u32(index)
                    .u32(index)
                    .password()
                    .finish())
        .code;
  }
  uint64_t read_counter(uint32_t index) {
    Answer answer = send(CommandBuilder(kTagSessions, kCcNvRead)
                             .u32(index)
                             .u32(index)
                             .password()
                             .u16(8)
                             .u16(0)
                             .finish());
    EXPECT_EQ(answer.code, kRcSuccess);
    return answer.code == kRcSuccess ? load_be<uint64_t>(answer.body.data() + 6) : ~0ULL;
  }
  uint32_t extend_pcr(uint32_t pcr, std::byte fill) {
    return send(CommandBuilder(kTagSessions, kCcPcrExtend)
                    .u32(pcr)
                    .password()
                    .u32(1)
                    .u16(kAlgSha256)
                    .raw(Bytes(32, fill))
                    .finish())
        .code;
  }
  Bytes read_pcr(uint8_t pcr, uint16_t bank = kAlgSha256) {
    const auto bit = [&](int octet) {
      return static_cast<uint8_t>(pcr / 8 == octet ? 1U << (pcr % 8) : 0U);
    };
    Answer answer = send(CommandBuilder(kTagNoSessions, kCcPcrRead)
                             .u32(1)
                             .u16(bank)
                             .u8(3)
                             .u8(bit(0))
                             .u8(bit(1))
                             .u8(bit(2))
                             .finish());
    EXPECT_EQ(answer.code, kRcSuccess);
    // update counter u32, selection (4 + 6), digest count u32, then one TPM2B unless not active
    if (answer.body.size() < 20) return {};
    return Bytes(answer.body.begin() + 20, answer.body.end());
  }

 private:
  void flush(uint32_t handle) {
    send(CommandBuilder(kTagNoSessions, kCcFlushContext).u32(handle).finish());
  }

  Engine& engine_;
};

inline constexpr uint32_t kAttributeWriteDefine = 1U << 13;
inline constexpr uint32_t kAttributeGlobalLock = 1U << 15;
inline constexpr uint32_t kAttributeNoDa = 1U << 25;
inline constexpr uint32_t kAttributeOrderly = 1U << 26;
// OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD.
inline constexpr uint32_t kAttributesAll = 1U << 1 | 1U << 2 | 1U << 17 | 1U << 18;
inline constexpr uint32_t kAttributesPin = 1U << 1 | 1U << 17 | 1U << 18 | kAttributeNoDa;

enum class NvKind : uint32_t { kOrdinary = 0, kCounter = 1, kBits = 2, kExtend = 4, kPinFail = 8 };
constexpr uint32_t nv_attributes(NvKind kind, uint32_t others) {
  return others | static_cast<uint32_t>(kind) << 4;
}
inline constexpr uint32_t kOrderlyCounter =
    nv_attributes(NvKind::kCounter, kAttributesAll | kAttributeNoDa | kAttributeOrderly);

struct TpmClock {
  uint64_t clock = 0;
  uint32_t resets = 0;
  uint32_t restarts = 0;
  bool safe = false;
  auto counts() const { return std::pair(resets, restarts); }
};

// A guest whose TPM may die under any of its commands: no answer is no failure.
class MortalGuest {
 public:
  explicit MortalGuest(StateStore& store) : store_(store) {
    Result<std::unique_ptr<Engine>> engine = Engine::create({.store = &store});
    EXPECT_TRUE(engine.ok());
    engine_ = std::move(*engine);
  }
  Engine& engine() { return *engine_; }
  void kill() { engine_.reset(); }
  void recover(ByteSpan blob) {
    engine_.reset();
    Result<std::unique_ptr<Engine>> engine = Engine::recover({.store = &store_}, blob);
    ASSERT_TRUE(engine.ok()) << engine.error().describe();
    engine_ = std::move(*engine);
  }

  struct Answer {
    bool came = false;
    uint32_t code = ~0U;
    Bytes body;
    bool success() const { return came && code == kRcSuccess; }
  };
  Answer send(const Bytes& command) {
    for (int attempt = 0;; ++attempt) {
      Result<Bytes> response = engine_->process(command);
      if (!response.ok()) return {};
      const ResponseHeader header = parse_response_header(*response).value();
      if (header.code == kRcRetry && attempt < 3) continue;
      return {.came = true,
              .code = header.code,
              .body = Bytes(response->begin() + kTpmHeaderSize, response->end())};
    }
  }
  static CommandBuilder command(uint32_t code) { return {kTagSessions, code}; }

  Answer startup() { return send(startup_command(StartupType::kClear)); }
  Answer shutdown(StartupType type) { return send(shutdown_command(type)); }
  Answer define(uint32_t index, uint32_t attributes, uint16_t size) {
    Bytes area =
        CommandBuilder(0, 0).u32(index).u16(kAlgSha256).u32(attributes).u16(0).u16(size).finish();
    return send(command(kCcNvDefineSpace)
                    .u32(kHandleOwner)
                    .password()
                    .u16(0)
                    .sized(ByteSpan(area).subspan(kTpmHeaderSize))
                    .finish());
  }
  Answer undefine(uint32_t index) {
    return send(command(kCcNvUndefineSpace).u32(kHandleOwner).u32(index).password().finish());
  }
  Answer read(uint32_t index, uint16_t size) {
    return send(
        command(kCcNvRead).u32(kHandleOwner).u32(index).password().u16(size).u16(0).finish());
  }
  Answer read_with_wrong_password(uint32_t index) {
    return send(command(kCcNvRead)
                    .u32(index)
                    .u32(index)
                    .password(as_bytes("wrong"))
                    .u16(1)
                    .u16(0)
                    .finish());
  }
  Answer write(uint32_t index, ByteSpan data, uint16_t offset) {
    return send(command(kCcNvWrite)
                    .u32(kHandleOwner)
                    .u32(index)
                    .password()
                    .sized(data)
                    .u16(offset)
                    .finish());
  }
  Answer increment(uint32_t index) {
    return send(command(kCcNvIncrement).u32(kHandleOwner).u32(index).password().finish());
  }
  Answer extend(uint32_t index, ByteSpan data) {
    return send(command(kCcNvExtend).u32(kHandleOwner).u32(index).password().sized(data).finish());
  }
  Answer set_bits(uint32_t index, uint64_t bits) {
    return send(command(kCcNvSetBits)
                    .u32(kHandleOwner)
                    .u32(index)
                    .password()
                    .u32(static_cast<uint32_t>(bits >> 32))
                    .u32(static_cast<uint32_t>(bits))
                    .finish());
  }
  Answer lock(uint32_t index) {
    return send(command(kCcNvWriteLock).u32(kHandleOwner).u32(index).password().finish());
  }
  Answer lock_globally() {
    return send(command(kCcNvGlobalWriteLock).u32(kHandleOwner).password().finish());
  }
  // -3 to 3: coarsely slower to coarsely faster.
  Answer adjust_clock_rate(int8_t steps) {
    return send(command(kCcClockRateAdjust)
                    .u32(kHandleOwner)
                    .password()
                    .u8(static_cast<uint8_t>(steps))
                    .finish());
  }
  Answer set_clock(uint64_t to) {
    return send(command(kCcClockSet)
                    .u32(kHandleOwner)
                    .password()
                    .u32(static_cast<uint32_t>(to >> 32))
                    .u32(static_cast<uint32_t>(to))
                    .finish());
  }
  Answer extend_pcr() {
    return send(command(kCcPcrExtend)
                    .u32(10)
                    .password()
                    .u32(1)
                    .u16(kAlgSha256)
                    .raw(Bytes(32, std::byte{7}))
                    .finish());
  }
  // In these tests there is neither a lockout nor time that heals.
  Answer allow_many_tries() {
    return send(command(kCcDictionaryAttackParameters)
                    .u32(kHandleLockout)
                    .password()
                    .u32(1'000'000)
                    .u32(4'000'000'000)
                    .u32(1'000)
                    .finish());
  }
  Answer forgive_tries() {
    return send(command(kCcDictionaryAttackLockReset).u32(kHandleLockout).password().finish());
  }

  std::optional<TpmClock> try_clock() {
    const Answer answer = send(CommandBuilder(kTagNoSessions, kCcReadClock).finish());
    if (!answer.success()) return {};
    const std::byte* at = answer.body.data() + 8;
    return TpmClock{.clock = load_be<uint64_t>(at),
                    .resets = load_be<uint32_t>(at + 8),
                    .restarts = load_be<uint32_t>(at + 12),
                    .safe = at[16] == std::byte{1}};
  }
  TpmClock clock() {
    const std::optional<TpmClock> now = try_clock();
    EXPECT_TRUE(now.has_value());
    return now.value_or(TpmClock{});
  }
  uint32_t failed_tries() {
    constexpr uint32_t kCapProperties = 6;
    constexpr uint32_t kLockoutCounter = 0x20E;
    const Answer answer = send(CommandBuilder(kTagNoSessions, kCcGetCapability)
                                   .u32(kCapProperties)
                                   .u32(kLockoutCounter)
                                   .u32(1)
                                   .finish());
    EXPECT_TRUE(answer.success());
    if (!answer.success()) return ~0U;
    return load_be<uint32_t>(answer.body.data() + 13);
  }
  uint64_t counter(uint32_t index) {
    const Answer answer = read(index, 8);
    EXPECT_EQ(answer.code, kRcSuccess);
    return answer.success() ? load_be<uint64_t>(answer.body.data() + 6) : 0;
  }
  void power_on() {
    ASSERT_TRUE(engine_->init().ok());
    ASSERT_EQ(startup().code, kRcSuccess);
  }

 private:
  StateStore& store_;
  std::unique_ptr<Engine> engine_;
};

// AUTHREAD | AUTHWRITE | NO_DA, counter type.
inline constexpr uint32_t kCounterAttributes = 0x02040014;
inline constexpr uint32_t kCounterIndex = 0x01000001;

}  // namespace hf::vtpm
