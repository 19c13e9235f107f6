// What a TPM has answered still holds after any crash: counters, NV indices, clock, reset and
// restart counts, failed tries. HOLDFAST_TPM_KILLS makes the random mix longer.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "crypto/crypto.h"
#include "vtpm/tpm_test_clock.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
std::atomic<int64_t> wall_clock_step_s = 0;
std::atomic<int64_t> uptime_step_s = 0;
}  // namespace hf::vtpm

extern "C" int clock_gettime(clockid_t which, struct timespec* now) noexcept {
  const auto result = static_cast<int>(::syscall(SYS_clock_gettime, which, now));
  if (result == 0 && which == CLOCK_REALTIME) now->tv_sec += hf::vtpm::wall_clock_step_s.load();
  if (result == 0 && which == CLOCK_MONOTONIC) now->tv_sec += hf::vtpm::uptime_step_s.load();
  return result;
}

namespace hf::vtpm {
namespace {

constexpr uint32_t kRcAuthFail = 0x98E;
constexpr uint32_t kRcBadAuth = 0x9A2;
constexpr uint32_t kRcNvLocked = 0x148;
constexpr uint32_t kRcNvUninitialized = 0x14A;

TEST(Crash, leaves_an_orderly_counter_where_it_was_answered) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  ASSERT_TRUE(guest.define(kCounterIndex, kOrderlyCounter, 8).success());
  for (int i = 0; i < 21; ++i) ASSERT_TRUE(guest.increment(kCounterIndex).success());
  const uint64_t answered = guest.counter(kCounterIndex);
  guest.recover(Bytes(store.last));
  guest.power_on();
  EXPECT_EQ(guest.counter(kCounterIndex), answered);
}

TEST(Crash, leaves_the_clock_where_it_was_set) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  ASSERT_TRUE(guest.set_clock(1'000'000).success());
  const TpmClock answered = guest.clock();
  guest.recover(Bytes(store.last));
  guest.power_on();
  const TpmClock now = guest.clock();
  EXPECT_GE(now.clock, answered.clock);
  EXPECT_LT(now.clock, answered.clock + 120'000) << "not far ahead either";
  EXPECT_TRUE(now.safe) << "no value of it is told twice";
}

TEST(Crash, does_not_turn_the_clock_back_with_the_hosts) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  ASSERT_TRUE(guest.set_clock(1'000'000).success());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const TpmClock answered = guest.clock();
  guest.kill();
  wall_clock_step_s = -3600;
  guest.recover(Bytes(store.last));
  guest.power_on();
  const TpmClock now = guest.clock();
  wall_clock_step_s = 0;
  EXPECT_GE(now.clock, answered.clock);
}

TEST(Crash, costs_a_commit_only_where_the_clock_is_told_long_after_the_last) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  const uint64_t before = store.commits;
  for (int i = 0; i < 10; ++i) {
    uptime_step_s += 60;
    ASSERT_TRUE(guest.extend_pcr().success());
  }
  EXPECT_EQ(store.commits, before) << "PCR extends are never durable";
  uint64_t told = guest.clock().clock;
  EXPECT_EQ(store.commits, before + 1);
  uptime_step_s += 19;
  EXPECT_GE(guest.clock().clock, told + 19'000);
  told = guest.clock().clock;
  EXPECT_EQ(store.commits, before + 1);
  guest.kill();
  wall_clock_step_s = -3600;
  guest.recover(Bytes(store.last));
  guest.power_on();
  EXPECT_GE(guest.clock().clock, told);
  wall_clock_step_s = 0;
}

TEST(Crash, takes_nothing_from_a_guest_that_has_shut_the_tpm_down) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  const Bytes note = {std::byte{1}, std::byte{2}};
  ASSERT_TRUE(guest.define(kCounterIndex, kAttributesAll | kAttributeOrderly, 2).success());
  ASSERT_TRUE(guest.write(kCounterIndex, note, 0).success());
  const TpmClock before = guest.clock();
  ASSERT_TRUE(guest.shutdown(StartupType::kState).success());
  guest.recover(Bytes(store.last));
  guest.power_on();
  const TpmClock after = guest.clock();
  EXPECT_EQ(after.counts(), std::pair(before.resets, before.restarts + 1)) << "a TPM Restart";
  const MortalGuest::Answer kept = guest.read(kCounterIndex, 2);
  ASSERT_EQ(kept.code, kRcSuccess) << "TPM Restart keeps orderly indices";
  EXPECT_EQ(Bytes(kept.body.begin() + 6, kept.body.begin() + 8), note);
}

TEST(Crash, counts_commands_after_a_shutdown_too) {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  ASSERT_TRUE(guest.shutdown(StartupType::kClear).success());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const TpmClock answered = guest.clock();
  guest.kill();
  wall_clock_step_s = -3600;
  guest.recover(Bytes(store.last));
  guest.power_on();
  const TpmClock now = guest.clock();
  wall_clock_step_s = 0;
  EXPECT_GE(now.clock, answered.clock);
  EXPECT_GT(now.counts(), answered.counts());
}

// ---- a random mix of everything that a guest may count on

// Dies at its next commit, before or after it is durable.
class DyingStore final : public StateStore {
 public:
  enum class Death { kNever, kBefore, kAfter };
  Status commit(ByteSpan state_blob) override {
    if (death != Death::kBefore) last.assign(state_blob.begin(), state_blob.end());
    if (death == Death::kNever) return {};
    return Error{.code = ErrorCode::kIo, .cause = "test: the host died"};
  }
  Bytes last;
  Death death = Death::kNever;
};

struct IndexSpec {
  uint32_t index;
  NvKind kind;
  uint16_t size;
  uint32_t attributes;
  bool orderly() const { return (attributes & kAttributeOrderly) != 0; }
  bool counter() const { return kind == NvKind::kCounter; }
};

constexpr IndexSpec spec(uint32_t number, NvKind kind, uint16_t size, uint32_t attributes) {
  return {0x01000000 + number, kind, size, nv_attributes(kind, attributes)};
}
constexpr uint32_t kLockable = 9;
constexpr uint32_t kProtected = 12;
constexpr IndexSpec kIndices[] = {
    spec(1, NvKind::kCounter, 8, kAttributesAll | kAttributeNoDa),
    spec(2, NvKind::kCounter, 8, kAttributesAll | kAttributeNoDa | kAttributeOrderly),
    spec(3, NvKind::kBits, 8, kAttributesAll | kAttributeNoDa),
    spec(4, NvKind::kBits, 8, kAttributesAll | kAttributeNoDa | kAttributeOrderly),
    spec(5, NvKind::kExtend, 32, kAttributesAll | kAttributeNoDa),
    spec(6, NvKind::kExtend, 32, kAttributesAll | kAttributeNoDa | kAttributeOrderly),
    spec(7, NvKind::kOrdinary, 16, kAttributesAll | kAttributeNoDa),
    spec(8, NvKind::kOrdinary, 16, kAttributesAll | kAttributeNoDa | kAttributeOrderly),
    spec(kLockable, NvKind::kCounter, 8,
         kAttributesAll | kAttributeNoDa | kAttributeOrderly | kAttributeWriteDefine |
             kAttributeGlobalLock),
    spec(10, NvKind::kPinFail, 8, kAttributesPin),
    spec(11, NvKind::kPinFail, 8, kAttributesPin | kAttributeOrderly),
    spec(kProtected, NvKind::kOrdinary, 16, kAttributesAll),
};

// What the TPM has answered, or would have.
struct Answered {
  std::map<uint32_t, std::optional<Bytes>> values;  // absent: not defined; nullopt: not written
  uint64_t clock = 0;
  std::pair<uint32_t, uint32_t> counts;
  uint32_t failed_tries = 0;
  uint64_t deleted_counter = 0;  // the greatest
  bool locked = false;
  std::optional<StartupType> shut_down;  // the last command
};

class RandomMix {
 public:
  explicit RandomMix(uint64_t seed) : random_(seed), guest_(store_) {}

  void run(uint64_t kills) {
    guest_.power_on();
    ASSERT_TRUE(guest_.allow_many_tries().success());
    look(/*crashed=*/true);
    for (uint64_t i = 0; i < kills && !::testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("kill " + std::to_string(i));
      live();
      die();
    }
  }

 private:
  using Change = std::function<void(Answered&)>;
  uint64_t below(uint64_t end) {
    return std::uniform_int_distribution<uint64_t>(0, end - 1)(random_);
  }

  // Some commands; a third of the lives end inside a commit.
  void live() {
    killed_in_command_ = false;
    const uint64_t last = below(6);
    for (uint64_t step = 0; step <= last && !killed_in_command_; ++step) {
      if (step == last) {
        const uint64_t how = below(6);
        store_.death = how == 0   ? DyingStore::Death::kBefore
                       : how == 1 ? DyingStore::Death::kAfter
                                  : DyingStore::Death::kNever;
      }
      act();
    }
    store_.death = DyingStore::Death::kNever;
  }

  // `change` is what an answer means; without one it may have happened or not.
  void told(const MortalGuest::Answer& answer, std::initializer_list<uint32_t> codes,
            const Change& change) {
    const Answered before = answered_;
    answered_.shut_down.reset();
    if (answer.came && std::ranges::count(codes, answer.code) == 0) return;
    change(answered_);
    killed_in_command_ = !answer.came;
    otherwise_ = answer.came ? std::nullopt : std::optional(before);
  }

  void act() {
    uptime_step_s += static_cast<int64_t>(below(4) == 0 ? below(40) : 0);
    const uint64_t what = below(20);
    if (what == 0)
      return told(guest_.forgive_tries(), {kRcSuccess},
                  [](Answered& now) { now.failed_tries = 0; });
    if (what == 1) return shut_down();
    if (what == 2) return reset();
    if (what <= 4) return set_clock();
    if (what == 5) return read_clock();
    if (what == 6) return told(guest_.extend_pcr(), {}, [](Answered&) {});
    if (what == 9) {
      const auto steps = static_cast<int8_t>(static_cast<int>(below(7)) - 3);
      return told(guest_.adjust_clock_rate(steps), {}, [](Answered&) {});
    }
    const IndexSpec& on = kIndices[below(std::size(kIndices))];
    if (!answered_.values.contains(on.index)) {
      return told(guest_.define(on.index, on.attributes, on.size), {kRcSuccess},
                  [&](Answered& now) {
                    now.values[on.index] = std::nullopt;
                    if (on.index == kIndices[kLockable - 1].index) now.locked = false;
                  });
    }
    if (what == 7 || (answered_.locked && what == 8)) return undefine(on);
    change(on);
  }

  void shut_down() {
    const StartupType type = below(2) == 0 ? StartupType::kClear : StartupType::kState;
    told(guest_.shutdown(type), {kRcSuccess}, [&](Answered& now) { now.shut_down = type; });
  }

  // A machine reset: by the guest's leave or not.
  void reset() {
    if (guest_.engine().init().ok() && guest_.startup().came) return look(/*crashed=*/false);
    killed_in_command_ = true;
    reset_begun_ = true;
    answered_.shut_down.reset();
  }

  void set_clock() {
    const uint64_t to = answered_.clock + 5'000 + below(1'000'000);
    told(guest_.set_clock(to), {kRcSuccess}, [&](Answered& now) { now.clock = to; });
  }

  void read_clock() {
    const std::optional<TpmClock> now = guest_.try_clock();
    told({.came = now.has_value(), .code = kRcSuccess, .body = {}}, {kRcSuccess},
         [&](Answered& then) {
           if (now) then.clock = now->clock;
         });
  }

  void undefine(const IndexSpec& on) {
    told(guest_.undefine(on.index), {kRcSuccess}, [&](Answered& now) {
      const std::optional<Bytes>& value = now.values[on.index];
      if (on.counter() && value) {
        now.deleted_counter = std::max(now.deleted_counter, load_be<uint64_t>(value->data()));
      }
      now.values.erase(on.index);
    });
  }

  void change(const IndexSpec& on) {
    const std::optional<Bytes> old = answered_.values[on.index];
    // As libtpms leaves the rest at a first write.
    const bool erased = on.kind == NvKind::kOrdinary && !on.orderly();
    Bytes next = old.value_or(Bytes(on.size, std::byte{erased ? uint8_t{0xFF} : uint8_t{0}}));
    const auto becomes = [&](Answered& now) { now.values[on.index] = next; };
    switch (on.kind) {
      case NvKind::kCounter: {
        const bool lockable = on.index == kIndices[kLockable - 1].index;
        if (lockable && answered_.locked) return;
        if (lockable && old && below(3) == 0) {
          return told(below(2) == 0 ? guest_.lock(on.index) : guest_.lock_globally(), {kRcSuccess},
                      [](Answered& now) { now.locked = true; });
        }
        store_be(next.data(),
                 old ? load_be<uint64_t>(old->data()) + 1 : answered_.deleted_counter + 1);
        return told(guest_.increment(on.index), {kRcSuccess}, becomes);
      }
      case NvKind::kBits: {
        const uint64_t bits = uint64_t{1} << below(64);
        store_be(next.data(), load_be<uint64_t>(next.data()) | bits);
        return told(guest_.set_bits(on.index, bits), {kRcSuccess}, becomes);
      }
      case NvKind::kExtend: {
        const Bytes data(1 + below(40), std::byte{0x5A});
        Bytes both = next;
        both.insert(both.end(), data.begin(), data.end());
        const Digest digest = crypto::sha256(both);
        next.assign(digest.bytes.begin(), digest.bytes.end());
        return told(guest_.extend(on.index, data), {kRcSuccess}, becomes);
      }
      case NvKind::kPinFail:
        if (!old) {
          store_be(next.data() + 4, 1'000'000U);
          return told(guest_.write(on.index, next, 0), {kRcSuccess}, becomes);
        }
        store_be(next.data(), load_be<uint32_t>(next.data()) + 1);
        return told(guest_.read_with_wrong_password(on.index), {kRcBadAuth}, becomes);
      case NvKind::kOrdinary: {
        if (on.index == kIndices[kProtected - 1].index && below(2) == 0) {
          return told(guest_.read_with_wrong_password(on.index), {kRcAuthFail},
                      [](Answered& now) { ++now.failed_tries; });
        }
        const uint64_t from = below(on.size);
        const Bytes data(1 + below(on.size - from), static_cast<std::byte>(below(256)));
        std::ranges::copy(data, next.begin() + static_cast<ptrdiff_t>(from));
        return told(guest_.write(on.index, data, static_cast<uint16_t>(from)), {kRcSuccess},
                    becomes);
      }
    }
  }

  void die() {
    const auto wall_clock = below(8);
    guest_.kill();
    wall_clock_step_s = wall_clock == 0 ? -3600 : wall_clock == 1 ? 60 : wall_clock_step_s.load();
    guest_.recover(Bytes(store_.last));
    // Killed again before it was started up.
    for (uint64_t again = below(4); again > 1; --again) {
      ASSERT_TRUE(guest_.engine().init().ok());
      if (again == 2) ASSERT_TRUE(guest_.engine().power_off().ok());
      guest_.kill();
      guest_.recover(Bytes(store_.last));
    }
    guest_.power_on();
    look(/*crashed=*/true);
  }

  // After a power cycle: compares all there is with what was answered, and goes on from that.
  void look(bool crashed) {
    const TpmClock clock = guest_.clock();
    const uint64_t told_clock =
        otherwise_ ? std::min(answered_.clock, otherwise_->clock) : answered_.clock;
    EXPECT_GE(clock.clock, told_clock) << "the clock went back; safe: " << clock.safe;
    EXPECT_GT(clock.counts(), answered_.counts) << "resets, restarts";
    const uint32_t tries = guest_.failed_tries();
    EXPECT_TRUE(tries == answered_.failed_tries ||
                (otherwise_ && tries == otherwise_->failed_tries))
        << tries << " failed tries, answered " << answered_.failed_tries;
    // Only what the guest or its machine asked for is a TPM Reset; a crash never is.
    const auto cleared = [](const Answered& one) { return one.shut_down == StartupType::kClear; };
    const bool reset =
        crashed ? reset_begun_ || cleared(answered_) || (otherwise_ && cleared(*otherwise_))
                : answered_.shut_down != StartupType::kState;
    reset_begun_ = false;
    Answered seen{.clock = clock.clock, .counts = clock.counts(), .failed_tries = tries};
    for (const IndexSpec& on : kIndices) look_at(on, reset, seen);
    const bool not_done = otherwise_ && seen.values.size() == otherwise_->values.size();
    seen.deleted_counter = (not_done ? *otherwise_ : answered_).deleted_counter;
    const uint32_t lockable = kIndices[kLockable - 1].index;
    if (answered_.locked && seen.values.contains(lockable)) {
      const bool was_certain = !otherwise_ || otherwise_->locked;
      const uint32_t code = was_certain ? guest_.increment(lockable).code : kRcNvLocked;
      EXPECT_EQ(code, kRcNvLocked);
      seen.locked = was_certain;
    }
    answered_ = std::move(seen);
    otherwise_.reset();
  }

  void look_at(const IndexSpec& on, bool reset, Answered& seen) {
    const MortalGuest::Answer answer = guest_.read(on.index, on.size);
    if (answer.code == kRcSuccess) {
      seen.values[on.index] = Bytes(answer.body.begin() + 6, answer.body.begin() + 6 + on.size);
    } else if (answer.code == kRcNvUninitialized) {
      seen.values[on.index] = std::nullopt;
    }
    const auto is = [&](const Answered& one) {
      const auto now = seen.values.find(on.index);
      const auto then = one.values.find(on.index);
      if (now == seen.values.end() || then == one.values.end()) {
        return (now == seen.values.end()) == (then == one.values.end());
      }
      // TPM Reset takes the value of an orderly index that is no counter.
      if (!now->second && on.orderly() && !on.counter() && reset) return true;
      return now->second == then->second;
    };
    EXPECT_TRUE(is(answered_) || (otherwise_ && is(*otherwise_)))
        << std::hex << on.index << " answers 0x" << answer.code << ": "
        << to_hex(seen.values[on.index].value_or(Bytes())) << ", answered "
        << to_hex(answered_.values[on.index].value_or(Bytes()));
  }

  std::mt19937_64 random_;
  DyingStore store_;
  MortalGuest guest_;
  Answered answered_;
  std::optional<Answered> otherwise_;  // if the last command was not answered
  bool killed_in_command_ = false;
  bool reset_begun_ = false;  // by the machine, and not known to be over
};

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* asked = std::getenv(name);
  return asked == nullptr ? otherwise : std::strtoull(asked, nullptr, 10);
}

TEST(Crash, takes_nothing_back_whatever_the_guest_does_and_whenever_it_comes) {
  const uint64_t seed = from_environment("HOLDFAST_TPM_SEED", 1);
  SCOPED_TRACE("HOLDFAST_TPM_SEED=" + std::to_string(seed));
  RandomMix(seed).run(from_environment("HOLDFAST_TPM_KILLS", 10'000));
  wall_clock_step_s = 0;
}

}  // namespace
}  // namespace hf::vtpm
