#include "vtpm/engine.h"

#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

constexpr uint32_t kRcLockout = 0x921;

std::unique_ptr<Engine> make_engine(StateStore& store) {
  Result<std::unique_ptr<Engine>> engine = Engine::create({.store = &store});
  EXPECT_TRUE(engine.ok()) << engine.error().describe();
  return std::move(*engine);
}

std::unique_ptr<Engine> recover_engine(StateStore& store, ByteSpan blob) {
  const Bytes copy(blob.begin(), blob.end());
  Result<std::unique_ptr<Engine>> engine = Engine::recover({.store = &store}, copy);
  EXPECT_TRUE(engine.ok()) << engine.error().describe();
  return engine.ok() ? std::move(*engine) : nullptr;
}

void power_on(Engine& engine) {
  const Status done = engine.init();
  ASSERT_TRUE(done.ok()) << done.error().describe();
}

// What a start from permanent state alone would find.
Bytes without_volatile(ByteSpan blob) {
  StateBlob state = std::move(decode_state_blob(blob)).value();
  state.volatile_state.clear();
  return encode_state_blob(state).value();
}

TEST(Engine, answers_as_swtpm_does_before_it_is_powered_on) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  Result<Bytes> answer = engine->process(CommandBuilder(kTagNoSessions, 0x181).finish());
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(to_hex(*answer), "80010000000a00000101");
}

TEST(Engine, never_manufactures_over_missing_state) {
  MemoryStateStore store;
  auto engine = std::move(Engine::await_incoming({.store = &store})).value();
  const Status done = engine->init();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, ErrorCode::kConflict);
  EXPECT_EQ(store.commits, 0U);
}

TEST(Engine, commits_once_for_each_command_that_changes_nv_and_never_for_others) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  const auto commits_of = [&](auto act) {
    const uint64_t before = store.commits;
    EXPECT_EQ(act(), kRcSuccess);
    return store.commits - before;
  };
  EXPECT_EQ(commits_of([&] { return guest.define_nv(kCounterIndex, kCounterAttributes, 8); }), 1U);
  EXPECT_EQ(commits_of([&] { return guest.increment_nv(kCounterIndex); }), 1U);
  EXPECT_EQ(commits_of([&] { return guest.increment_nv(kCounterIndex); }), 1U);
  EXPECT_EQ(commits_of([&] { return guest.extend_pcr(10, std::byte{1}); }), 0U);
  EXPECT_EQ(commits_of([&] {
              guest.create_primary();
              return kRcSuccess;
            }),
            0U);
  EXPECT_EQ(commits_of([&] { return guest.shutdown(); }), 1U);
}

TEST(Engine, keeps_what_it_answered_across_a_kill) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm first(*engine);
  ASSERT_EQ(first.startup(), kRcSuccess);
  ASSERT_EQ(first.define_nv(kCounterIndex, kCounterAttributes, 8), kRcSuccess);
  uint64_t counter = 0;
  for (int round = 0; round < 5; ++round) {
    GuestTpm guest(*engine);
    ASSERT_EQ(guest.increment_nv(kCounterIndex), kRcSuccess);
    counter = guest.read_counter(kCounterIndex);
    engine.reset();
    engine = recover_engine(store, store.last);
    power_on(*engine);
    GuestTpm next(*engine);
    ASSERT_EQ(next.startup(), kRcSuccess);
    EXPECT_EQ(next.read_counter(kCounterIndex), counter);
  }
}

TEST(Engine, starts_with_fresh_pcrs_after_a_kill) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  const Bytes zero = guest.read_pcr(10);
  ASSERT_EQ(guest.extend_pcr(10, std::byte{1}), kRcSuccess);
  ASSERT_NE(guest.read_pcr(10), zero);
  ASSERT_EQ(guest.define_nv(kCounterIndex, kCounterAttributes, 8), kRcSuccess);  // commits PCRs too
  engine.reset();
  engine = recover_engine(store, store.last);
  power_on(*engine);
  GuestTpm next(*engine);
  ASSERT_EQ(next.startup(), kRcSuccess);
  EXPECT_EQ(next.read_pcr(10), zero);
}

// One VM life: 20 boots, each of which uses a protected object and is then killed.
struct DictionaryAttack {
  int unlocked = 0;
  uint32_t last_code = 0;
};
enum class AfterKill { kAsCommitted, kPermanentOnly };

DictionaryAttack boot_and_kill(int boots, AfterKill after) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm owner(*engine);
  EXPECT_EQ(owner.startup(), kRcSuccess);
  const GuestTpm::Sealed sealed = owner.seal(owner.create_primary(), "pw", "disk key");
  EXPECT_TRUE(engine->power_off().ok());
  engine.reset();

  DictionaryAttack seen;
  for (int boot = 0; boot < boots; ++boot) {
    const Bytes blob = after == AfterKill::kAsCommitted ? store.last : without_volatile(store.last);
    engine = recover_engine(store, blob);
    if (engine == nullptr) break;
    EXPECT_TRUE(engine->init().ok());
    GuestTpm guest(*engine);
    EXPECT_EQ(guest.startup(), kRcSuccess);
    const GuestTpm::Unsealed key = guest.unseal(sealed, "pw");
    seen.last_code = key.code;
    if (key.code != kRcSuccess) break;
    EXPECT_EQ(key.data, "disk key");
    ++seen.unlocked;
    engine.reset();  // no TPM2_Shutdown, nothing more committed
  }
  return seen;
}

TEST(Engine, twenty_kills_after_use_of_a_protected_object_never_lock_it_out) {
  const DictionaryAttack seen = boot_and_kill(20, AfterKill::kAsCommitted);
  EXPECT_EQ(seen.unlocked, 20) << std::hex << seen.last_code;
}

TEST(Engine, without_the_injected_shutdown_the_fourth_boot_is_locked_out) {
  const DictionaryAttack seen = boot_and_kill(20, AfterKill::kPermanentOnly);
  EXPECT_EQ(seen.unlocked, 3);
  EXPECT_EQ(seen.last_code, kRcLockout);
}

TEST(Engine, a_machine_reset_without_guest_shutdown_counts_no_attack) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  const GuestTpm::Sealed sealed = guest.seal(guest.create_primary(), "pw", "disk key");
  for (int reset = 0; reset < 10; ++reset) {
    power_on(*engine);
    ASSERT_EQ(guest.startup(), kRcSuccess);
    ASSERT_EQ(guest.unseal(sealed, "pw").code, kRcSuccess) << "reset " << reset;
  }
}

TEST(Engine, withholds_the_answer_when_the_commit_fails) {
  MemoryStateStore store;
  int fatal_calls = 0;
  auto engine = std::move(Engine::create({.store = &store,
                                          .on_fatal =
                                              [&](const Error& error) {
                                                EXPECT_EQ(error.code, ErrorCode::kNoSpace);
                                                ++fatal_calls;
                                              }}))
                    .value();
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  const Bytes durable = store.last;
  store.fail = true;
  EXPECT_FALSE(engine->process(shutdown_command(StartupType::kClear)).ok());
  EXPECT_TRUE(engine->fatal());
  store.fail = false;
  EXPECT_FALSE(engine->process(shutdown_command(StartupType::kClear)).ok());
  EXPECT_FALSE(engine->init().ok());
  EXPECT_EQ(fatal_calls, 1);
  EXPECT_EQ(store.last, durable);
}

TEST(Engine, holds_commits_back_until_the_owner_allows_them) {
  MemoryStateStore store;
  auto engine = std::move(Engine::create({.store = &store, .commit_allowed = false})).value();
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  ASSERT_EQ(guest.define_nv(kCounterIndex, kCounterAttributes, 8), kRcSuccess);
  EXPECT_EQ(store.commits, 0U);
  ASSERT_TRUE(engine->set_commit_allowed(true).ok());
  EXPECT_EQ(store.commits, 1U);
  ASSERT_EQ(guest.increment_nv(kCounterIndex), kRcSuccess);
  EXPECT_EQ(store.commits, 2U);
}

TEST(Engine, migrates_a_running_tpm_with_its_pcrs) {
  MemoryStateStore source_store;
  auto source = make_engine(source_store);
  power_on(*source);
  Bytes permanent;
  Bytes volatile_state;
  Bytes pcr;
  {
    GuestTpm guest(*source);
    ASSERT_EQ(guest.startup(), kRcSuccess);
    ASSERT_EQ(guest.define_nv(kCounterIndex, kCounterAttributes, 8), kRcSuccess);
    ASSERT_EQ(guest.increment_nv(kCounterIndex), kRcSuccess);
    ASSERT_EQ(guest.extend_pcr(10, std::byte{7}), kRcSuccess);
    pcr = guest.read_pcr(10);
    permanent = source->get_state(StateType::kPermanent).value();
    volatile_state = source->get_state(StateType::kVolatile).value();
    EXPECT_EQ(source->get_state(StateType::kSaveState).error().code, ErrorCode::kNotFound);
  }
  const uint64_t commits = source_store.commits;
  ASSERT_TRUE(source->power_off().ok());
  EXPECT_EQ(source_store.commits, commits) << "the source must not change what moved on";
  source.reset();

  MemoryStateStore target_store;
  auto target =
      std::move(Engine::await_incoming({.store = &target_store, .commit_allowed = false})).value();
  EXPECT_FALSE(target->stage_incoming(StateType::kVolatile, volatile_state).ok());
  ASSERT_TRUE(target->stage_incoming(StateType::kPermanent, permanent).ok());
  ASSERT_TRUE(target->stage_incoming(StateType::kVolatile, volatile_state).ok());
  ASSERT_TRUE(target->init().ok());
  GuestTpm guest(*target);
  EXPECT_EQ(guest.startup(), kRcInitialize) << "it is running already";
  EXPECT_EQ(guest.read_pcr(10), pcr);
  EXPECT_EQ(guest.read_counter(kCounterIndex), 1U);
  EXPECT_EQ(target_store.commits, 0U);
  ASSERT_TRUE(target->set_commit_allowed(true).ok());
  EXPECT_EQ(target_store.commits, 1U);
}

TEST(Engine, a_source_that_starts_again_after_its_state_left_counts_no_attack) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  const GuestTpm::Sealed sealed = guest.seal(guest.create_primary(), "pw", "disk key");
  for (int round = 0; round < 6; ++round) {
    power_on(*engine);
    ASSERT_EQ(guest.startup(), kRcSuccess);
    ASSERT_EQ(guest.unseal(sealed, "pw").code, kRcSuccess) << "round " << round;
    ASSERT_TRUE(engine->get_state(StateType::kVolatile).ok());
    ASSERT_TRUE(engine->power_off().ok());
  }
}

TEST(Engine, resumes_volatile_state_that_it_was_asked_to_store) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  ASSERT_EQ(guest.extend_pcr(10, std::byte{7}), kRcSuccess);
  const Bytes pcr = guest.read_pcr(10);
  ASSERT_TRUE(engine->store_volatile().ok());
  ASSERT_TRUE(engine->power_off().ok());
  ASSERT_TRUE(engine->init().ok());
  EXPECT_EQ(guest.read_pcr(10), pcr);
  ASSERT_TRUE(engine->power_off().ok());
  ASSERT_TRUE(engine->init().ok());
  ASSERT_EQ(guest.startup(), kRcSuccess) << "resumed once only";
  EXPECT_NE(guest.read_pcr(10), pcr);
}

TEST(Engine, refuses_state_that_libtpms_cannot_read) {
  MemoryStateStore store;
  make_engine(store);
  StateBlob state = std::move(decode_state_blob(store.last)).value();
  state.permanent.resize(state.permanent.size() - 20);
  MemoryStateStore untouched;
  Result<std::unique_ptr<Engine>> engine =
      Engine::recover({.store = &untouched}, encode_state_blob(state).value());
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(untouched.commits, 0U);
}

class Recorder final : public CommandObserver {
 public:
  void on_command(uint8_t /*locality*/, ByteSpan command, ByteSpan /*response*/) override {
    codes.push_back(command_code(command));
  }
  void on_power(PowerChange change) override { powers.push_back(change != PowerChange::kOff); }
  void on_pcr_banks(ByteSpan /*response*/) override {}
  void on_hash_start() override {}
  void on_hash_data(ByteSpan /*data*/) override {}
  void on_hash_end() override {}
  std::vector<uint32_t> codes;
  std::vector<bool> powers;
};

TEST(Engine, shows_each_guest_command_to_the_observer_and_not_its_own) {
  MemoryStateStore store;
  Recorder recorder;
  auto engine = std::move(Engine::create({.store = &store, .observer = &recorder})).value();
  power_on(*engine);
  GuestTpm guest(*engine);
  ASSERT_EQ(guest.startup(), kRcSuccess);
  ASSERT_EQ(guest.extend_pcr(7, std::byte{1}), kRcSuccess);
  ASSERT_TRUE(engine->power_off().ok());
  EXPECT_EQ(recorder.codes, (std::vector<uint32_t>{kCcStartup, kCcPcrExtend}));
  EXPECT_EQ(recorder.powers, (std::vector<bool>{true, false}));
}

TEST(EngineDeathTest, there_is_only_one_per_process) {
  MemoryStateStore store;
  auto engine = make_engine(store);
  EXPECT_DEATH((void)Engine::await_incoming({.store = &store}), "");
}

}  // namespace
}  // namespace hf::vtpm
