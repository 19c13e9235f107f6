// What a crash leaves of NV indices that libtpms keeps in memory until TPM2_Shutdown, and what it
// must not bring back with them.
#include <chrono>
#include <thread>

#include "crypto/crypto.h"
#include "vtpm/tpm_test_clock.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

constexpr uint32_t kNote = 0x01000010;
constexpr uint32_t kBits = 0x01000011;
constexpr uint32_t kLog = 0x01000012;
constexpr uint32_t kPin = 0x01000013;
constexpr uint32_t kRcBadAuth = 0x9A2;
constexpr uint32_t kOrderly = kAttributesAll | kAttributeNoDa | kAttributeOrderly;

Bytes text(std::string_view words) {
  const ByteSpan bytes = as_bytes(words);
  return {bytes.begin(), bytes.end()};
}

class OrderlyCrash : public ::testing::Test {
 protected:
  void SetUp() override { guest_.power_on(); }
  void TearDown() override { wall_clock_step_s = 0; }
  void crash() {
    guest_.recover(Bytes(store_.last));
    guest_.power_on();
  }
  void write_note(std::string_view words) {
    ASSERT_TRUE(guest_.define(kNote, nv_attributes(NvKind::kOrdinary, kOrderly), 5).success());
    ASSERT_TRUE(guest_.write(kNote, text(words), 0).success());
  }
  Bytes value(uint32_t index, uint16_t size) {
    const MortalGuest::Answer answer = guest_.read(index, size);
    EXPECT_EQ(answer.code, kRcSuccess) << std::hex << index;
    if (!answer.success()) return Bytes(size);
    return {answer.body.begin() + 6, answer.body.begin() + 6 + size};
  }

  MemoryStateStore store_;
  MortalGuest guest_{store_};
};

TEST_F(OrderlyCrash, leaves_what_was_written_set_and_extended) {
  write_note("first");
  ASSERT_TRUE(guest_.define(kBits, nv_attributes(NvKind::kBits, kOrderly), 8).success());
  ASSERT_TRUE(guest_.define(kLog, nv_attributes(NvKind::kExtend, kOrderly), 32).success());
  ASSERT_TRUE(guest_.set_bits(kBits, 0x81).success());
  ASSERT_TRUE(guest_.extend(kLog, text("event")).success());
  crash();
  EXPECT_EQ(value(kNote, 5), text("first"));
  EXPECT_EQ(load_be<uint64_t>(value(kBits, 8).data()), 0x81U);
  Bytes extended(32, std::byte{0});
  const Bytes event = text("event");
  extended.insert(extended.end(), event.begin(), event.end());
  const Digest digest = crypto::sha256(extended);
  EXPECT_EQ(value(kLog, 32), Bytes(digest.bytes.begin(), digest.bytes.end()));
  ASSERT_TRUE(guest_.write(kNote, text("again"), 0).success());
  crash();
  EXPECT_EQ(value(kNote, 5), text("again"));
}

TEST_F(OrderlyCrash, is_no_reset_to_them_but_the_guests_own_is) {
  write_note("first");
  const TpmClock before = guest_.clock();
  crash();
  EXPECT_GT(guest_.clock().counts(), before.counts());
  EXPECT_TRUE(guest_.clock().safe);
  ASSERT_TRUE(guest_.shutdown(StartupType::kClear).success());
  crash();
  EXPECT_FALSE(guest_.read(kNote, 5).success()) << "TPM Reset takes it, as on any other TPM";
  EXPECT_GT(guest_.clock().resets, before.resets);
}

TEST_F(OrderlyCrash, forgives_no_wrong_pin) {
  ASSERT_TRUE(
      guest_.define(kPin, nv_attributes(NvKind::kPinFail, kAttributesPin | kAttributeOrderly), 8)
          .success());
  Bytes counts(8);
  store_be(counts.data() + 4, 5U);
  ASSERT_TRUE(guest_.write(kPin, counts, 0).success());
  for (uint32_t wrong = 1; wrong <= 3; ++wrong) {
    ASSERT_EQ(guest_.read_with_wrong_password(kPin).code, kRcBadAuth);
    crash();
    EXPECT_EQ(load_be<uint32_t>(value(kPin, 8).data()), wrong);
  }
}

TEST_F(OrderlyCrash, brings_no_pcr_back) {
  write_note("first");
  ASSERT_TRUE(guest_.extend_pcr().success());
  ASSERT_TRUE(guest_.write(kNote, text("again"), 0).success());
  guest_.recover(Bytes(store_.last));
  ASSERT_TRUE(guest_.engine().init().ok());
  EXPECT_EQ(guest_.send(startup_command(StartupType::kState)).code, kRcValueOfParameter1)
      << "a resumption after a crash would bring its registers back";
  ASSERT_TRUE(guest_.startup().success());
  GuestTpm reader(guest_.engine());
  EXPECT_EQ(reader.read_pcr(10), Bytes(32));
}

TEST_F(OrderlyCrash, refuses_no_resumption_that_the_guest_has_prepared) {
  write_note("first");
  crash();
  ASSERT_TRUE(guest_.extend_pcr().success());
  GuestTpm reader(guest_.engine());
  const Bytes before = reader.read_pcr(10);
  ASSERT_TRUE(guest_.shutdown(StartupType::kState).success());
  ASSERT_TRUE(guest_.engine().init().ok());
  ASSERT_EQ(guest_.send(startup_command(StartupType::kState)).code, kRcSuccess);
  EXPECT_EQ(value(kNote, 5), text("first"));
  EXPECT_EQ(reader.read_pcr(0), Bytes(32));
  EXPECT_EQ(reader.read_pcr(10), before);
}

// A saved session could be loaded once more after each crash, or take a place for good.
TEST_F(OrderlyCrash, leaves_no_session) {
  write_note("first");
  const auto active = [&] {
    const MortalGuest::Answer answer = guest_.send(
        CommandBuilder(kTagNoSessions, kCcGetCapability).u32(1).u32(0x03000000).u32(64).finish());
    EXPECT_TRUE(answer.success());
    return load_be<uint32_t>(answer.body.data() + 5);
  };
  const MortalGuest::Answer session =
      guest_.send(CommandBuilder(kTagNoSessions, kCcStartAuthSession)
                      .u32(kHandleNull)
                      .u32(kHandleNull)
                      .sized(Bytes(16))
                      .u16(0)
                      .u8(1)  // a policy session
                      .u16(kAlgNull)
                      .u16(kAlgSha256)
                      .finish());
  ASSERT_TRUE(session.success());
  const uint32_t handle = load_be<uint32_t>(session.body.data());
  const MortalGuest::Answer context =
      guest_.send(CommandBuilder(kTagNoSessions, kCcContextSave).u32(handle).finish());
  ASSERT_TRUE(context.success());
  ASSERT_EQ(active(), 1U);
  crash();
  EXPECT_EQ(active(), 0U);
  EXPECT_FALSE(
      guest_.send(CommandBuilder(kTagNoSessions, kCcContextLoad).raw(context.body).finish())
          .success());
}

// As what is kept is also what a command changed beside the index: counters of contexts and of
// ephemeral keys would repeat themselves, and with them what they protect.
TEST_F(OrderlyCrash, costs_a_commit_for_what_changes_the_tpm_and_none_for_measuring) {
  uint64_t before = store_.commits;
  const Bytes ephemeral = CommandBuilder(kTagNoSessions, kCcEcEphemeral).u16(kCurveP384).finish();
  ASSERT_EQ(guest_.send(ephemeral).code, kRcSuccess);
  EXPECT_EQ(store_.commits, before) << "no orderly index, and a crash is a TPM Reset";
  write_note("first");
  before = store_.commits;
  ASSERT_EQ(guest_.send(ephemeral).code, kRcSuccess);
  EXPECT_EQ(store_.commits, before + 1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(guest_.extend_pcr().success());
  EXPECT_EQ(store_.commits, before + 1);
  crash();
  before = store_.commits;
  ASSERT_EQ(guest_.send(ephemeral).code, kRcSuccess);
  EXPECT_EQ(store_.commits, before + 1) << "found again after a crash";
}

// The digest of audited commands is never one that lacks some.
TEST_F(OrderlyCrash, costs_a_commit_for_each_measurement_that_is_audited) {
  ASSERT_TRUE(guest_
                  .send(CommandBuilder(kTagSessions, kCcSetCommandCodeAuditStatus)
                            .u32(kHandleOwner)
                            .password()
                            .u16(kAlgNull)
                            .u32(1)
                            .u32(kCcPcrExtend)
                            .u32(0)
                            .finish())
                  .success());
  guest_.kill();
  guest_.recover(Bytes(store_.last));
  guest_.power_on();
  write_note("first");
  const uint64_t before = store_.commits;
  ASSERT_TRUE(guest_.extend_pcr().success());
  EXPECT_EQ(store_.commits, before + 1);
}

TEST_F(OrderlyCrash, heals_no_failed_try_while_the_host_is_down) {
  ASSERT_TRUE(guest_
                  .send(CommandBuilder(kTagSessions, kCcDictionaryAttackParameters)
                            .u32(kHandleLockout)
                            .password()
                            .u32(10)   // tries
                            .u32(600)  // seconds that heal one
                            .u32(600)
                            .finish())
                  .success());
  ASSERT_TRUE(guest_.define(kNote, kAttributesAll, 5).success());
  ASSERT_TRUE(guest_.write(kNote, text("first"), 0).success());
  for (int i = 0; i < 3; ++i) ASSERT_NE(guest_.read_with_wrong_password(kNote).code, kRcSuccess);
  ASSERT_EQ(guest_.failed_tries(), 3U);
  const TpmClock told = guest_.clock();
  guest_.kill();
  wall_clock_step_s = 86'400;
  crash();
  EXPECT_EQ(guest_.failed_tries(), 3U);
  EXPECT_GE(guest_.clock().clock, told.clock);
  EXPECT_LT(guest_.clock().clock, told.clock + 120'000) << "the clock runs under power only";
}

}  // namespace
}  // namespace hf::vtpm
