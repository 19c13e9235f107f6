#include "attestation/log/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/boot/event_log_check.h"
#include "attestation/log/event_cover.h"
#include "attestation/log/event_data.h"
#include "attestation/testing/corpus.h"
#include "attestation/testing/log_writer.h"

namespace hf::attestation {
namespace {

using testing::HasSubstr;
using testing::Not;
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
  EXPECT_TRUE(unproven_events(*log).empty());
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

// What cannot be is disproved by PCR 0; what comes too late, or has another form, changes nothing.
TEST(EventLog, an_odd_startup_locality_does_not_hide_the_log) {
  auto start = [](const LogWriter& writer) {
    auto log = EventLog::parse(writer.bytes());
    EXPECT_TRUE(log.ok()) << log.error().describe();
    return log.ok() ? log->startup_locality() : 99;
  };
  EXPECT_EQ(start(LogWriter(kThree).startup_locality(1)), 1);
  EXPECT_EQ(start(LogWriter(kThree).startup_locality(0).startup_locality(3)), 3);
  EXPECT_EQ(start(LogWriter(kThree).separator(0).startup_locality(3)), 0);
  EXPECT_EQ(start(LogWriter(kThree)
                      .startup_locality(3)
                      .add(0, EventType::kEfiHcrtmEvent, as_bytes("HCRTM"))
                      .startup_locality(3)),
            4);
  const std::string_view longer("StartupLocality\0\3\0", 18);
  EXPECT_EQ(start(LogWriter(kThree).add(0, EventType::kNoAction, as_bytes(longer))), 0);
}

// Nothing is extended by these, whatever they say.
TEST(EventLog, no_action_events_extend_nothing_and_are_never_a_reason_to_refuse) {
  Bytes plain = LogWriter(kThree).separator(0).bytes();
  Bytes odd = LogWriter(kThree)
                  .add(0, EventType::kNoAction, as_bytes("with digests"))
                  .add(77, EventType::kNoAction, as_bytes("of no PCR"))
                  .separator(0)
                  .bytes();
  auto log = EventLog::parse(odd);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(*replay(*log, kSha256), *replay(*EventLog::parse(plain), kSha256));
  EXPECT_TRUE(unproven_events(*log).empty());
}

Bytes case_file(const std::string& name) {
  const std::string text = corpus::text_of(corpus::directory().parent_path() / "cases" / name);
  EXPECT_FALSE(text.empty()) << name;
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

// PCR 0 of both banks is what go-eventlog's replay gives (0…04 before an H-CRTM event) and
// tpm2_eventlog 5.8.
TEST(EventLog, an_h_crtm_event_whose_digest_is_not_of_its_word_is_not_proven_and_no_more) {
  auto log = EventLog::parse(case_file("hcrtm.bin"));
  ASSERT_TRUE(log.ok()) << log.error().describe();
  std::vector<UnprovenEvent> unproven = unproven_events(*log);
  ASSERT_EQ(unproven.size(), 1u);
  EXPECT_EQ(unproven[0].event, 1u);
  EXPECT_EQ(unproven[0].pcr, 0u);
  EXPECT_FALSE(unproven[0].disproved);
  EXPECT_EQ(unproven[0].reason, "its data is not what its digest was made of");
  EXPECT_TRUE(is_separator(log->events()[2])) << "the rest is read";
  EXPECT_EQ(log->startup_locality(), 4);
  EXPECT_EQ(to_hex(replay(*log, kSha1)->value(0)), "ca1f47de32d20413263da3259898c8266fd29be0");
  EXPECT_EQ(to_hex(replay(*log, kSha256)->value(0)),
            "28d4249f1a6743dfb6633595d5ef6f5e563f62eee02c8bb19dd98d7a1f7e8405");
}

TEST(EventLog, a_firmware_version_that_is_not_what_was_hashed_is_not_proven_and_no_more) {
  auto log = EventLog::parse(case_file("crtm-version.bin"));
  ASSERT_TRUE(log.ok()) << log.error().describe();
  std::vector<UnprovenEvent> unproven = unproven_events(*log);
  ASSERT_EQ(unproven.size(), 1u);
  EXPECT_EQ(unproven[0].event, 1u);
  EXPECT_EQ(to_hex(replay(*log, kSha1)->value(0)), "d79b50e9c240d7455eada02d2f606903d3cdf0b6");
  EXPECT_EQ(to_hex(replay(*log, kSha256)->value(0)),
            "9334a3af8f8a3775c94aa865e6861482b1d80011d1d73847c30b41c8217c808b");
}

// tpm2_eventlog: a bank that an event has no digest of is not extended by it.
TEST(EventLog, an_event_extends_the_banks_that_it_has_digests_of) {
  const Bytes both = LogWriter({kSha1, kSha256}).separator(0).separator(1).bytes();
  const size_t header = both.size() - 2 * (12 + 2 + 20 + 2 + 32 + 4 + 4);
  Bytes bytes = both;
  store_le(bytes.data() + header + 8, uint32_t{1});  // the first has its SHA-1 digest only
  bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(header + 12 + 22),
              bytes.begin() + static_cast<ptrdiff_t>(header + 12 + 22 + 34));
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(log->banks(), (std::vector{kSha1, kSha256}));
  EXPECT_TRUE(unproven_events(*log).empty());
  EXPECT_EQ(*replay(*log, kSha1), *replay(*EventLog::parse(both), kSha1));
  PcrBank expected(kSha256);
  expected.extend(1, hash(kSha256, Bytes(4)).bytes());
  EXPECT_EQ(*replay(*log, kSha256), expected);
  // An event without any digest extends nothing, and proves nothing.
  bytes = both;
  store_le(bytes.data() + header + 8, uint32_t{0});
  bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(header + 12),
              bytes.begin() + static_cast<ptrdiff_t>(header + 12 + 22 + 34));
  log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  ASSERT_EQ(unproven_events(*log).size(), 1u);
  EXPECT_EQ(unproven_events(*log)[0].reason, "it has no digest");
  EXPECT_EQ(*replay(*log, kSha256), expected);
}

// PFP 1.05 §10.4.1: the value 1 is hashed after an error, and the data may tell of it.
TEST(EventLog, a_separator_of_an_error_is_known_by_its_digest) {
  std::array<std::byte, 4> one = {std::byte{1}};
  auto log = EventLog::parse(
      LogWriter(kThree).add(2, EventType::kSeparator, as_bytes("driver failed"), one).bytes());
  ASSERT_TRUE(log.ok());
  EXPECT_TRUE(unproven_events(*log).empty());
  EXPECT_TRUE(is_error_separator(log->events()[1]));
  EXPECT_FALSE(is_separator(log->events()[1]));
}

TEST(EventLog, what_fills_the_area_behind_a_log_is_no_event) {
  for (std::byte fill : {std::byte{0}, std::byte{0xff}}) {
    Bytes bytes = debian_like_log({kSha1, kSha256}).bytes();
    const auto plain = EventLog::parse(bytes);
    bytes.insert(bytes.end(), 4096, fill);
    auto log = EventLog::parse(bytes);
    ASSERT_TRUE(log.ok()) << log.error().describe();
    EXPECT_EQ(log->events().size(), plain->events().size());
  }
}

TEST(EventLog, what_is_no_tpm_log_is_named_for_what_it_is) {
  Bytes ccel = LogWriter({kSha384}).separator(1).bytes();
  store_le(ccel.data(), uint32_t{1});  // a confidential VM's log counts registers from 1
  auto error = [](ByteSpan bytes) {
    auto log = EventLog::parse(bytes);
    EXPECT_FALSE(log.ok());
    std::string words = log.ok() ? "" : log.error().describe();
    EXPECT_THAT(words, Not(HasSubstr("altered")));
    return words;
  };
  EXPECT_THAT(error(ccel), HasSubstr("confidential VM (CCEL, Intel TDX)"));
  EXPECT_THAT(error(as_bytes("CCEL8 and so on")), HasSubstr("ACPI table CCEL"));
  Bytes ima(28);
  store_le(ima.data(), uint32_t{10});
  store_le(ima.data() + 24, uint32_t{6});
  for (char c : std::string_view("ima-ng")) ima.push_back(static_cast<std::byte>(c));
  EXPECT_THAT(error(ima), HasSubstr("IMA log"));
  EXPECT_THAT(error(as_bytes("---\nversion: 1\nevents:\n- EventNum: 0\n  PCRIndex: 0\n")),
              HasSubstr("text, such as tpm2_eventlog"));
  EXPECT_THAT(error(as_bytes("\x1f\x8b\x08 and so on")), HasSubstr("compressed"));
  EXPECT_THAT(error({}), HasSubstr("an empty file"));
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
  EXPECT_THAT(parse_error(Bytes(20)), HasSubstr("event 0"));
  EXPECT_THAT(edited(28, 0xffffffff), HasSubstr("event 0 (at byte 0): says it has 4294967295"));
  EXPECT_THAT(edited(32 + 24, 0), HasSubstr("declares 0 banks"));
  EXPECT_THAT(edited(32 + 24, 9), HasSubstr("declares 9 banks"));
  EXPECT_THAT(edited(32 + 24, 2), HasSubstr("not that of its banks"));
  EXPECT_THAT(edited(32 + 28, 0x0020000b), HasSubstr("declares algorithm 0x000b twice"));
  EXPECT_THAT(edited(32 + 28, 0x0015'0004), HasSubstr("digests of 21 bytes"));
  EXPECT_THAT(edited(kHeader, 24), HasSubstr("event 1 (at byte 73): names PCR 24"));
  EXPECT_THAT(edited(kHeader, 0xffffffff), HasSubstr("names PCR 4294967295"));
  EXPECT_THAT(edited(kHeader + 8, 9), HasSubstr("has 9 digests where the header declares 3"));
  EXPECT_THAT(edited(kHeader + 12, 0x00007777), HasSubstr("algorithm 0x7777"));
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

TEST(EventLog, two_banks_that_tell_different_stories_prove_nothing) {
  Bytes bytes = LogWriter({kSha256, kSha1}).separator(3).bytes();
  size_t sha1_at = bytes.size() - 4 - 4 - 20;
  bytes[sha1_at] ^= std::byte{1};
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok());
  std::vector<UnprovenEvent> unproven = unproven_events(*log);
  ASSERT_EQ(unproven.size(), 1u);
  EXPECT_EQ(unproven[0].event, 1u);
  EXPECT_EQ(unproven[0].reason,
            "its data is what its digest of sha256 was made of, and not that of sha1");
  EXPECT_FALSE(is_separator(log->events()[1]));
}

TEST(EventLog, an_algorithm_this_code_cannot_hash_does_not_hide_the_others) {
  Bytes bytes = LogWriter({kSha256, kSha1}).separator(3).bytes();
  // SHA-1 becomes an unknown algorithm of 20 bytes in the header and in the event.
  store_le(bytes.data() + 32 + 32, uint16_t{0x7777});
  store_le(bytes.data() + bytes.size() - 4 - 4 - 22, uint16_t{0x7777});
  auto log = EventLog::parse(bytes);
  ASSERT_TRUE(log.ok()) << log.error().describe();
  EXPECT_EQ(log->banks(), std::vector{kSha256});
  EXPECT_TRUE(unproven_events(*log).empty());
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
