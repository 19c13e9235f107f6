// The record, replayed, is what the TPM says: against libtpms itself, in every bank.

#include "vtpm/extend_recorder.h"

#include <openssl/evp.h>

#include <thread>

#include "crypto/crypto.h"
#include "vtpm/attestation_key.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

class TestClock final : public Clock {
 public:
  Micros wall_time() override { return Micros(1'000'000 + ++ticks_); }
  Micros monotonic() override { return Micros(++ticks_); }

 private:
  std::atomic<uint64_t> ticks_ = 0;
};

const EVP_MD* digest_of(uint16_t bank) {
  switch (bank) {
    case kAlgSha1:
      return EVP_sha1();
    case kAlgSha256:
      return EVP_sha256();
    case kAlgSha384:
      return EVP_sha384();
    default:
      return EVP_sha512();
  }
}
constexpr uint16_t kBanks[] = {kAlgSha1, kAlgSha256, kAlgSha384, kAlgSha512};

Bytes hash(uint16_t bank, ByteSpan first, ByteSpan second = {}) {
  Bytes input(first.begin(), first.end());
  input.insert(input.end(), second.begin(), second.end());
  Bytes out(static_cast<size_t>(EVP_MD_get_size(digest_of(bank))));
  EVP_Digest(input.data(), input.size(), reinterpret_cast<unsigned char*>(out.data()), nullptr,
             digest_of(bank), nullptr);
  return out;
}

// What the table at the top of extend_recorder.h says, and nothing else.
std::map<uint8_t, Bytes> replay(const ExtendRecorder::View& view, uint16_t bank) {
  const size_t size = hash(bank, {}).size();
  std::map<uint8_t, Bytes> pcrs;
  for (uint8_t pcr = 0; pcr < kPcrsMax; ++pcr) {
    pcrs[pcr] = Bytes(size, pcr >= 17 && pcr <= 22 ? std::byte{0xFF} : std::byte{0});
  }
  pcrs[0].back() = static_cast<std::byte>(view.boot.startup_locality);
  for (const PcrChangeRecord& change : view.changes) {
    Bytes& pcr = pcrs[change.pcr];
    if (change.kind != PcrChangeKind::kExtend) pcr.assign(size, std::byte{0});
    if (change.kind == PcrChangeKind::kHcrtm) pcr.back() = std::byte{4};
    if (change.kind == PcrChangeKind::kDrtm) {
      for (uint8_t other = 17; other <= 22; ++other) pcrs[other].assign(size, std::byte{0});
    }
    for (const BankDigest& digest : change.digests) {
      if (digest.algorithm == bank) pcr = hash(bank, pcr, digest.digest);
    }
  }
  return pcrs;
}

class Recorded : public ::testing::Test {
 protected:
  void make(std::vector<uint16_t> banks, size_t max = kExtendsMax) {
    recorder = std::make_unique<ExtendRecorder>(clock, rng, max);
    engine = Engine::create({.store = &store, .observer = recorder.get()}).value();
    ASSERT_TRUE(manufacture(*engine, {.pcr_banks = std::move(banks)}).ok());
    recorder->forget();
    ASSERT_TRUE(engine->init().ok());
    guest = std::make_unique<GuestTpm>(*engine);
  }
  void restart_from_stored() {
    const Bytes stored = store.last;
    engine.reset();
    engine = Engine::recover({.store = &store, .observer = recorder.get()}, stored).value();
    guest = std::make_unique<GuestTpm>(*engine);
  }
  ExtendRecorder::View view() { return recorder->read(0, kExtendsMax); }

  void expect_replay_is_the_tpms() {
    PcrValues values;
    const Status read = engine->between_guest_commands([&](const SendCommand& send) -> Status {
      values = TRY(read_pcrs(send));
      return {};
    });
    ASSERT_TRUE(read.ok()) << read.error().describe();
    EXPECT_FALSE(values.empty());
    const ExtendRecorder::View now = view();
    EXPECT_TRUE(now.boot.complete);
    for (const auto& [bank, pcrs] : values) {
      ASSERT_EQ(pcrs.size(), 24u);
      EXPECT_EQ(replay(now, bank), pcrs) << bank;
    }
  }

  uint32_t extend(uint32_t pcr, const std::vector<std::pair<uint16_t, Bytes>>& digests) {
    CommandBuilder command(kTagSessions, kCcPcrExtend);
    command.u32(pcr).password().u32(static_cast<uint32_t>(digests.size()));
    for (const auto& [bank, digest] : digests) command.u16(bank).raw(digest);
    return guest->send(command.finish()).code;
  }
  uint32_t extend_text(uint32_t pcr, std::string_view text) {
    std::vector<std::pair<uint16_t, Bytes>> digests;
    for (const uint16_t bank : kBanks) digests.emplace_back(bank, hash(bank, as_bytes(text)));
    return extend(pcr, digests);
  }
  uint32_t event(uint32_t pcr, std::string_view text) {
    return guest
        ->send(CommandBuilder(kTagSessions, kCcPcrEvent)
                   .u32(pcr)
                   .password()
                   .sized(as_bytes(text))
                   .finish())
        .code;
  }
  uint32_t reset(uint32_t pcr) {
    return guest->send(CommandBuilder(kTagSessions, kCcPcrReset).u32(pcr).password().finish()).code;
  }
  // HashSequenceStart with a null hash starts an event sequence.
  uint32_t event_sequence(uint32_t pcr, std::string_view text) {
    const auto started =
        guest->send(CommandBuilder(kTagNoSessions, 0x186).u16(0).u16(kAlgNull).finish());
    EXPECT_EQ(started.code, kRcSuccess);
    CommandBuilder command(kTagSessions, kCcEventSequenceComplete);
    command.u32(pcr).raw(ByteSpan(started.body).first(4)).u32(18);
    for (int i = 0; i < 2; ++i) command.u32(kHandlePassword).u16(0).u8(0).u16(0);
    return guest->send(command.sized(as_bytes(text)).finish()).code;
  }

  TestClock clock;
  crypto::SystemRng rng;
  MemoryStateStore store;
  std::unique_ptr<ExtendRecorder> recorder;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<GuestTpm> guest;
};

TEST_F(Recorded, replays_to_every_bank_after_every_kind_of_change) {
  make({kAlgSha1, kAlgSha256, kAlgSha384, kAlgSha512});
  ASSERT_EQ(guest->startup(), kRcSuccess);
  expect_replay_is_the_tpms();
  EXPECT_EQ(extend_text(0, "firmware"), kRcSuccess);
  EXPECT_EQ(extend(4, {{kAlgSha256, Bytes(32, std::byte{1})}}), kRcSuccess);
  // A bank named twice is extended twice.
  EXPECT_EQ(
      extend(4, {{kAlgSha256, Bytes(32, std::byte{2})}, {kAlgSha256, Bytes(32, std::byte{3})}}),
      kRcSuccess);
  EXPECT_EQ(event(8, "grub_cmd: linux"), kRcSuccess);
  EXPECT_EQ(event_sequence(9, "initrd"), kRcSuccess);
  EXPECT_EQ(event_sequence(kHandleNull, "nowhere"), kRcSuccess);
  EXPECT_EQ(extend_text(16, "debug"), kRcSuccess);
  EXPECT_EQ(extend_text(23, "application"), kRcSuccess);
  expect_replay_is_the_tpms();
  EXPECT_EQ(reset(16), kRcSuccess);
  EXPECT_EQ(reset(23), kRcSuccess);
  EXPECT_EQ(extend_text(23, "again"), kRcSuccess);
  expect_replay_is_the_tpms();

  const ExtendRecorder::View all = view();
  ASSERT_EQ(all.boot.total, 11u);
  EXPECT_EQ(all.changes[4].digests.size(), 4u);  // the TPM's own digests of an event
  EXPECT_EQ(all.changes[8].kind, PcrChangeKind::kReset);
  for (size_t i = 1; i < all.changes.size(); ++i) {
    EXPECT_LT(all.changes[i - 1].time, all.changes[i].time);
  }
}

TEST_F(Recorded, counts_only_what_the_tpm_did) {
  make({kAlgSha256});
  EXPECT_EQ(extend_text(1, "too early"), kRcInitialize);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  EXPECT_NE(guest->startup(), kRcSuccess);
  EXPECT_NE(extend_text(17, "locality 0 may not"), kRcSuccess);
  EXPECT_NE(extend_text(24, "no such PCR"), kRcSuccess);
  EXPECT_NE(reset(0), kRcSuccess);
  EXPECT_NE(extend(1, {{0x0012, Bytes(32)}}), kRcSuccess);  // SM3: not of this TPM
  EXPECT_EQ(extend_text(kHandleNull, "nowhere"), kRcSuccess);
  EXPECT_EQ(extend(2, {}), kRcSuccess);
  EXPECT_EQ(extend(2, {{kAlgSha384, Bytes(48)}, {kAlgSha1, Bytes(20)}}),
            kRcSuccess);  // no such bank
  EXPECT_EQ(view().boot.total, 0u);
  expect_replay_is_the_tpms();
  ASSERT_EQ(engine->set_locality(3), kTpmSuccess);
  EXPECT_EQ(extend_text(18, "locality 3 may"), kRcSuccess);
  ASSERT_EQ(view().boot.total, 1u);
  EXPECT_EQ(view().changes[0].locality, 3);
  expect_replay_is_the_tpms();
}

TEST_F(Recorded, replays_a_dynamic_root_of_trust_before_and_after_startup) {
  make({kAlgSha256, kAlgSha384});
  const auto measure = [&](std::string_view text, bool interrupted) {
    ASSERT_EQ(engine->hash_start(), kTpmSuccess);
    ASSERT_EQ(engine->hash_data(as_bytes(text.substr(0, 3))), kTpmSuccess);
    EXPECT_EQ(
        engine->between_guest_commands([](const SendCommand&) { return Status(); }).error().code,
        ErrorCode::kUnavailable);  // the owner does not interrupt it, a command does
    if (interrupted) EXPECT_EQ(extend_text(1, "in between"), kRcSuccess);
    ASSERT_EQ(engine->hash_data(as_bytes(text.substr(3))), kTpmSuccess);
    ASSERT_EQ(engine->hash_end(), kTpmSuccess);
  };
  measure("h-crtm contents", false);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  ASSERT_EQ(view().boot.total, 1u);
  EXPECT_EQ(view().changes[0].kind, PcrChangeKind::kHcrtm);
  EXPECT_EQ(view().changes[0].digests.size(), 2u);  // of the banks there are
  expect_replay_is_the_tpms();
  ASSERT_EQ(engine->set_locality(4), kTpmSuccess);
  EXPECT_EQ(extend_text(18, "before the launch"), kRcSuccess);
  measure("measured launch", false);
  EXPECT_EQ(extend_text(17, "after it"), kRcSuccess);
  expect_replay_is_the_tpms();
  measure("broken off", true);
  expect_replay_is_the_tpms();
  EXPECT_EQ(engine->hash_end(), kTpmSuccess);
  expect_replay_is_the_tpms();
}

TEST_F(Recorded, notices_a_startup_at_another_locality) {
  make({kAlgSha256});
  ASSERT_EQ(engine->set_locality(3), kTpmSuccess);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  EXPECT_EQ(view().boot.startup_locality, 3);
  expect_replay_is_the_tpms();
}

TEST_F(Recorded, begins_anew_at_each_power_on_and_keeps_the_last_until_then) {
  make({kAlgSha256});
  ASSERT_EQ(guest->startup(), kRcSuccess);
  EXPECT_EQ(extend_text(1, "first"), kRcSuccess);
  const BootRecord first = view().boot;
  EXPECT_TRUE(first.powered);
  ASSERT_TRUE(engine->power_off().ok());
  EXPECT_EQ(view().boot.id, first.id);
  EXPECT_FALSE(view().boot.powered);
  EXPECT_EQ(view().boot.total, 1u);
  ASSERT_TRUE(engine->init().ok());
  EXPECT_NE(view().boot.id, first.id);
  EXPECT_EQ(view().boot.total, 0u);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  expect_replay_is_the_tpms();
}

TEST_F(Recorded, says_when_it_does_not_know_everything) {
  make({kAlgSha256}, 3);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(extend_text(1, "x"), kRcSuccess);
  expect_replay_is_the_tpms();
  EXPECT_EQ(extend_text(1, "one too many"), kRcSuccess);
  EXPECT_FALSE(view().boot.complete);
  EXPECT_EQ(view().boot.total, 3u);

  // PCRs that come back from a saved state were not recorded since power-on.
  const Bytes save = shutdown_command(StartupType::kState);
  ASSERT_EQ(guest->send(save).code, kRcSuccess);
  ASSERT_TRUE(engine->init().ok());
  EXPECT_TRUE(view().boot.complete);
  ASSERT_EQ(guest->send(startup_command(StartupType::kState)).code, kRcSuccess);
  EXPECT_FALSE(view().boot.complete);

  ASSERT_TRUE(engine->store_volatile().ok());
  ASSERT_TRUE(engine->init().ok());
  EXPECT_FALSE(view().boot.complete);  // resumed

  recorder->note_lost();
  EXPECT_FALSE(view().boot.complete);
  EXPECT_TRUE(view().boot.id.is_zero());
  restart_from_stored();
  ASSERT_TRUE(engine->init().ok());
  EXPECT_TRUE(view().boot.complete);
}

TEST_F(Recorded, a_kernel_that_measures_for_days_does_not_use_up_the_record_of_its_boot) {
  make({kAlgSha256}, 64);
  ASSERT_EQ(guest->startup(), kRcSuccess);
  // Up to the hand-over every register counts, whoever extends it.
  for (int i = 0; i < 10; ++i) EXPECT_EQ(extend_text(10, "early"), kRcSuccess);
  expect_replay_is_the_tpms();
  EXPECT_EQ(extend_text(5, "Exit Boot Services Invocation"), kRcSuccess);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(extend_text(10, "a file"), kRcSuccess);
  expect_replay_is_the_tpms();
  EXPECT_EQ(view().boot.left_out, 0u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(extend_text(10, "a file"), kRcSuccess);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(reset(16), kRcSuccess);
  EXPECT_EQ(extend_text(12, "an extension"), kRcSuccess);
  const ExtendRecorder::View all = view();
  EXPECT_TRUE(all.boot.complete);
  EXPECT_EQ(all.boot.left_out, 200u);
  EXPECT_EQ(all.boot.total, 10u + 1u + 4u + 1u);
  EXPECT_EQ(all.changes.back().pcr, 12);
  // The others replay as before.
  PcrValues values;
  ASSERT_TRUE(engine
                  ->between_guest_commands([&](const SendCommand& send) -> Status {
                    values = TRY(read_pcrs(send));
                    return {};
                  })
                  .ok());
  auto pcrs = replay(all, kAlgSha256);
  for (uint8_t pcr = 0; pcr < 16; ++pcr) {
    EXPECT_EQ(pcrs[pcr] == values[kAlgSha256][pcr], pcr != 10) << int{pcr};
  }
}

TEST_F(Recorded, recognises_the_hand_over_to_the_operating_system) {
  make({kAlgSha256, kAlgSha384});
  ASSERT_EQ(guest->startup(), kRcSuccess);
  EXPECT_EQ(extend_text(5, "Calling EFI Application from Boot Option"), kRcSuccess);
  EXPECT_EQ(extend_text(4, "Exit Boot Services Invocation"), kRcSuccess);
  EXPECT_FALSE(view().boot.exit_boot_services);
  const Bytes right = hash(kAlgSha256, as_bytes("Exit Boot Services Invocation"));
  EXPECT_EQ(extend(5, {{kAlgSha256, right}, {kAlgSha384, Bytes(48)}}), kRcSuccess);
  EXPECT_FALSE(view().boot.exit_boot_services);  // another bank says otherwise
  EXPECT_EQ(extend(5, {{kAlgSha256, right}, {kAlgSha1, Bytes(20)}}), kRcSuccess);
  EXPECT_EQ(extend_text(5, "Exit Boot Services Invocation"), kRcSuccess);
  const ExtendRecorder::View all = view();
  EXPECT_EQ(all.boot.exit_boot_services, 3u);
  EXPECT_EQ(all.boot.exit_time, all.changes[3].time);
  EXPECT_EQ(recorder->read(2, 2).changes.size(), 2u);
  EXPECT_EQ(recorder->read(2, 2).changes[1].time, all.changes[3].time);
  EXPECT_TRUE(recorder->read(5, 9).changes.empty());
  EXPECT_TRUE(recorder->read(~0ULL, 9).changes.empty());
}

TEST_F(Recorded, is_read_while_it_is_written) {
  make({kAlgSha256});
  ASSERT_EQ(guest->startup(), kRcSuccess);
  std::atomic<bool> done = false;
  std::thread reader([&] {
    uint64_t seen = 0;
    while (!done) {
      const ExtendRecorder::View now = recorder->read(0, kExtendsMax);
      EXPECT_GE(now.boot.total, seen);
      EXPECT_EQ(now.changes.size(), now.boot.total);
      seen = now.boot.total;
    }
  });
  for (int i = 0; i < 300; ++i) ASSERT_EQ(extend_text(1, "x"), kRcSuccess);
  done = true;
  reader.join();
  expect_replay_is_the_tpms();
}

}  // namespace
}  // namespace hf::vtpm
