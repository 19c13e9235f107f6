#include "attestation/log/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/boot/event_log_check.h"
#include "attestation/log/event_cover.h"
#include "attestation/log/event_data.h"
#include "attestation/testing/log_writer.h"

namespace hf::attestation {
namespace {

using testing::HasSubstr;
using enum HashAlg;

const std::vector<HashAlg> kThree = {kSha1, kSha256, kSha384};

std::string parse_error(ByteSpan bytes) {
  auto log = EventLog::parse(bytes);
  return log.ok() ? "parsed" : log.error().cause;
}

TEST(EventLog, every_bank_replays_to_the_extends_of_its_digests) {
  Bytes bytes = debian_like_log({kSha1, kSha256, kSha384, kSha512}).bytes();
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(log->format(), LogFormat::kCryptoAgile);
  EXPECT_EQ(log->banks().size(), 4u);
  for (HashAlg alg : kHashAlgs) {
    HashValue pcr(size_of(alg));
    for (std::string_view text : {"the list"}) {
      pcr = hash(alg, pcr.bytes(), hash(alg, as_bytes(text)).bytes());
    }
    auto bank = replay(*log, alg);
    ASSERT_TRUE(bank.ok());
    EXPECT_EQ(to_hex(bank->value(14)), to_hex(pcr.bytes())) << name_of(alg);
    EXPECT_EQ(to_hex(bank->value(16)), to_hex(Bytes(size_of(alg))));
    EXPECT_EQ(to_hex(bank->value(17)), to_hex(Bytes(size_of(alg), std::byte{0xff})));
  }
}

TEST(EventLog, the_older_format_has_one_bank) {
  auto log = EventLog::parse(debian_like_log({}).bytes());
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(log->format(), LogFormat::kSha1);
  EXPECT_TRUE(replay(*log, kSha1).ok());
  EXPECT_EQ(replay(*log, kSha256).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(check_covered(*log).ok());
}

TEST(EventLog, the_startup_locality_is_in_pcr_0_before_anything_else) {
  for (uint8_t locality : {uint8_t{0}, uint8_t{3}, uint8_t{4}}) {
    auto log = EventLog::parse(LogWriter(kThree).startup_locality(locality).separator(1).bytes());
    ASSERT_TRUE(log.ok()) << log.error().describe();
    EXPECT_EQ(replay(*log, kSha256)->value(0).back(), std::byte{locality});
  }
  Bytes hcrtm = LogWriter(kThree).add(0, EventType::kEfiHcrtmEvent, as_bytes("HCRTM")).bytes();
  auto log = EventLog::parse(hcrtm);
  ASSERT_TRUE(log.ok());
  PcrBank expected(kSha256, 4);
  expected.extend(0, hash(kSha256, as_bytes("HCRTM")).bytes());
  EXPECT_EQ(*replay(*log, kSha256), expected);
}

TEST(EventLog, a_startup_locality_that_cannot_be_is_refused_by_number) {
  EXPECT_THAT(parse_error(LogWriter(kThree).startup_locality(1).bytes()), HasSubstr("event 1 "));
  EXPECT_THAT(parse_error(LogWriter(kThree).startup_locality(3).startup_locality(3).bytes()),
              HasSubstr("event 2 "));
  EXPECT_THAT(parse_error(LogWriter(kThree).separator(0).startup_locality(3).bytes()),
              HasSubstr("after PCR 0 was extended"));
}

TEST(EventLog, a_dynamic_launch_starts_its_pcrs_at_zero) {
  auto log = EventLog::parse(LogWriter(kThree).separator(17).bytes());
  PcrBank expected(kSha256);
  expected.dynamic_launch();
  expected.extend(17, hash(kSha256, Bytes(4)).bytes());
  EXPECT_EQ(*replay(*log, kSha256), expected);
}

TEST(EventLog, hostile_logs_are_refused_with_the_event_and_the_reason) {
  Bytes good = LogWriter(kThree).separator(0).separator(1).bytes();
  constexpr size_t kHeader = 32 + 29 + 12;
  auto edited = [&](size_t at, uint32_t value) {
    Bytes bytes = good;
    store_le(bytes.data() + at, value);
    return parse_error(bytes);
  };
  EXPECT_THAT(parse_error({}), HasSubstr("event 0"));
  EXPECT_THAT(edited(28, 0xffffffff), HasSubstr("event 0 (at byte 0): says it has 4294967295"));
  EXPECT_THAT(edited(32 + 24, 0), HasSubstr("declares 0 banks"));
  EXPECT_THAT(edited(32 + 24, 9), HasSubstr("declares 9 banks"));
  EXPECT_THAT(edited(32 + 24, 2), HasSubstr("not that of its banks"));
  EXPECT_THAT(edited(32 + 28, 0x0020000b), HasSubstr("declares algorithm 0x000b twice"));
  EXPECT_THAT(edited(32 + 28, 0x0015'0004), HasSubstr("digests of 21 bytes"));
  EXPECT_THAT(edited(kHeader, 24), HasSubstr("event 1 (at byte 73): names PCR 24"));
  EXPECT_THAT(edited(kHeader, 0xffffffff), HasSubstr("names PCR 4294967295"));
  EXPECT_THAT(edited(kHeader + 4, 3), HasSubstr("has a digest"));
  EXPECT_THAT(edited(kHeader + 8, 2), HasSubstr("has 2 digests where the header declares 3"));
  EXPECT_THAT(edited(kHeader + 12, 0x00000012), HasSubstr("algorithm 0x0012"));
  for (size_t size = 1; size < good.size(); ++size) {
    auto cut = EventLog::parse(ByteSpan(good).first(size));
    size_t second = kHeader + (good.size() - kHeader) / 2;
    EXPECT_EQ(cut.ok(), size == kHeader || size == second) << size;
  }
}

TEST(EventLog, sizes_and_counts_are_bounded) {
  EXPECT_EQ(EventLog::parse(Bytes(kLogSizeMax + 1)).error().code, ErrorCode::kLimit);
  LogWriter many({});
  for (size_t i = 0; i <= kEventsMax; ++i) many.add(1, EventType::kSeparator, {});
  EXPECT_EQ(EventLog::parse(many.bytes()).error().code, ErrorCode::kLimit);
}

TEST(EventLog, two_banks_that_tell_different_stories_are_refused) {
  Bytes bytes = LogWriter({kSha256, kSha1}).separator(3).bytes();
  size_t sha1_at = bytes.size() - 4 - 4 - 20;
  bytes[sha1_at] ^= std::byte{1};
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok());
  EXPECT_THAT(check_covered(*log).error().cause, HasSubstr("event 1 (EV_SEPARATOR in PCR 3)"));
}

TEST(EventLog, an_algorithm_this_code_cannot_hash_does_not_hide_the_others) {
  Bytes bytes = LogWriter({kSha256, kSha1}).separator(3).bytes();
  // SHA-1 becomes an unknown algorithm of 20 bytes in the header and in the event.
  store_le(bytes.data() + 32 + 32, uint16_t{0x7777});
  store_le(bytes.data() + bytes.size() - 4 - 4 - 22, uint16_t{0x7777});
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(log->banks(), std::vector{kSha256});
  EXPECT_TRUE(check_covered(*log).ok());
}

std::string difference(const LogWriter& log, const LogWriter& seen_by_the_tpm) {
  auto read = EventLog::parse(log.bytes());
  auto truth = EventLog::parse(seen_by_the_tpm.bytes());
  PcrBank bank = *replay(*truth, kSha256);
  std::vector<KnownPcr> known;
  for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) known.push_back({kSha256, pcr, bank.value(pcr)});
  auto found = find_difference(*read, known);
  return found ? found->reason : "none";
}

TEST(EventLogCheck, pcr_values_alone_name_the_event_where_one_explains_them) {
  auto actions = [](std::vector<std::string_view> texts) {
    LogWriter log(kThree);
    for (std::string_view text : texts) log.action(4, text);
    return log;
  };
  LogWriter truth = actions({"a", "b", "c"});
  EXPECT_EQ(difference(truth, truth), "none");
  EXPECT_EQ(difference(actions({"a", "x", "b", "c"}), truth),
            "event 2 (EV_EFI_ACTION in PCR 4): the TPM has not seen it");
  EXPECT_EQ(difference(actions({"a", "b", "c", "x", "y"}), truth),
            "event 4 (EV_EFI_ACTION in PCR 4): the TPM has not seen it, nor what follows in this "
            "PCR");
  EXPECT_EQ(difference(actions({"a", "c", "b"}), truth),
            "event 2 (EV_EFI_ACTION in PCR 4): the TPM has seen it after event 3");
  EXPECT_EQ(difference(actions({"a", "b"}), truth),
            "PCR 4 of the sha256 bank is not what the log leads to; its last event is 2");
  EXPECT_EQ(difference(LogWriter(kThree), truth),
            "PCR 4 of the sha256 bank is not what the log leads to, which has no event of it");
  EXPECT_EQ(difference(LogWriter(kThree).startup_locality(3).separator(0),
                       LogWriter(kThree).separator(0)),
            "the log says that the TPM was started at locality 3; it was 0");
}

// PCR 6 is firmware's too: only the keeper's marks at the very start are in no log.
TEST(EventLogCheck, an_event_of_pcr_6_is_missed_and_told_from_the_one_before) {
  LogWriter writer({HashAlg::kSha256});
  writer.separator(0).add(6, EventType::kEventTag, as_bytes("board")).separator(6).separator(7);
  LogWriter without({HashAlg::kSha256});
  without.separator(0).separator(6).separator(7);
  LogWriter changed({HashAlg::kSha256});
  changed.separator(0).add(6, EventType::kEventTag, as_bytes("other")).separator(6).separator(7);
  auto log = EventLog::parse(writer.bytes());
  ExtendRecord record{.boot_id = "0123456789abcdef"};
  for (const Event& event : log->events()) {
    if (!event.measured()) continue;
    ByteSpan digest = event.digest(HashAlg::kSha256);
    record.extends.push_back({.n = record.extends.size(),
                              .pcr = static_cast<uint8_t>(event.pcr),
                              .digests = {{.bytes = Bytes(digest.begin(), digest.end())}}});
  }
  record.total = record.extends.size();
  EXPECT_FALSE(find_difference(*log, record).has_value());
  for (const LogWriter* edited : {&without, &changed}) {
    auto other = EventLog::parse(edited->bytes());
    auto found = find_difference(*other, record);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->event, 2u) << found->reason;
    EXPECT_EQ(found->extend, 1u) << found->reason;
  }
}

TEST(EventLogCheck, a_bank_the_log_lacks_is_a_difference) {
  auto log = EventLog::parse(LogWriter({kSha1}).separator(0).bytes());
  Bytes zero(32);
  KnownPcr known{kSha256, 0, zero};
  EXPECT_EQ(find_difference(*log, {&known, 1})->reason, "the event log has no sha256 bank");
}

TEST(EventLogCheck, the_record_may_go_on_after_the_firmware_and_not_end_before) {
  auto log = EventLog::parse(debian_like_log({kSha256}).bytes());
  ExtendRecord record{.boot_id = "0123456789abcdef"};
  for (const Event& event : log->events()) {
    if (!event.measured()) continue;
    ByteSpan digest = event.digest(kSha256);
    record.extends.push_back({.n = record.extends.size(),
                              .pcr = static_cast<uint8_t>(event.pcr),
                              .digests = {{kSha256, Bytes(digest.begin(), digest.end())}}});
  }
  auto total = [&] { record.total = record.extends.size(); };
  total();
  record.exit_boot_services = record.extends.size() - 2;
  EXPECT_FALSE(find_difference(*log, record).has_value());
  ExtendRecord os = record;
  os.extends.push_back({.n = os.extends.size(), .pcr = 10, .digests = {{kSha256, Bytes(32)}}});
  os.total = os.extends.size();
  EXPECT_FALSE(find_difference(*log, os).has_value());
  os.exit_boot_services = os.extends.size() - 1;
  EXPECT_THAT(find_difference(*log, os)->reason, HasSubstr("the log ends before extend"));
  record.extends.pop_back();
  total();
  EXPECT_THAT(find_difference(*log, record)->reason, HasSubstr("the TPM has not seen it"));
  record.complete = false;
  EXPECT_THAT(find_difference(*log, record)->reason, HasSubstr("is not whole"));
}

}  // namespace
}  // namespace hf::attestation
