#include "attestation/log/extend_record.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::attestation {
namespace {

using testing::HasSubstr;

Extend extend_of(uint64_t n, uint8_t pcr, std::string_view text) {
  Extend extend{.n = n, .pcr = pcr, .time = Micros(1'000'000 + n)};
  for (HashAlg alg : {HashAlg::kSha256, HashAlg::kSha384}) {
    HashValue value = hash(alg, as_bytes(text));
    extend.digests.push_back({.alg = alg, .bytes = {value.bytes().begin(), value.bytes().end()}});
  }
  return extend;
}

ExtendRecord sample() {
  ExtendRecord record{.boot_id = "00112233445566ff", .started = Micros(1'000'000)};
  record.extends = {extend_of(0, 0, "firmware"), extend_of(1, 7, "SecureBoot"),
                    extend_of(2, 5, "Exit Boot Services Invocation"),
                    extend_of(3, 5, "Exit Boot Services Returned with Success")};
  record.total = 4;
  record.exit_boot_services = 2;
  record.exited = Micros(1'000'002);
  return record;
}

std::string error_of(std::string_view json) {
  Result<ExtendRecord> parsed = parse_extend_record(json);
  return parsed.ok() ? "" : parsed.error().cause;
}

TEST(ExtendRecord, is_the_same_after_json) {
  ExtendRecord record = sample();
  Result<ExtendRecord> parsed = parse_extend_record(sys::to_text(to_json(record)));
  ASSERT_TRUE(parsed.ok()) << parsed.error().cause;
  EXPECT_EQ(*parsed, record);
  EXPECT_TRUE(parsed->whole());
}

TEST(ExtendRecord, replays_resets_and_roots_of_trust) {
  ExtendRecord record = sample();
  Extend hcrtm = extend_of(0, 0, "firmware");
  hcrtm.kind = PcrChange::kHcrtm;
  Extend drtm = extend_of(4, 17, "launch");
  drtm.kind = PcrChange::kDrtm;
  record.extends[0] = hcrtm;
  record.extends.push_back(drtm);
  record.extends.push_back(extend_of(5, 16, "debug"));
  record.extends.push_back({.n = 6, .kind = PcrChange::kReset, .pcr = 16, .digests = {}});
  record.total = 7;
  Result<ExtendRecord> parsed = parse_extend_record(sys::to_text(to_json(record)));
  ASSERT_TRUE(parsed.ok()) << parsed.error().cause;
  EXPECT_EQ(*parsed, record);
  Result<PcrBank> bank = replay(record, HashAlg::kSha256);
  ASSERT_TRUE(bank.ok());
  Bytes start(32);
  start.back() = std::byte{4};
  EXPECT_TRUE(equal(bank->value(0), hash(HashAlg::kSha256, start, hcrtm.digests[0].bytes).bytes()));
  EXPECT_TRUE(
      equal(bank->value(17), hash(HashAlg::kSha256, Bytes(32), drtm.digests[0].bytes).bytes()));
  EXPECT_TRUE(equal(bank->value(22), Bytes(32)));
  EXPECT_TRUE(equal(bank->value(16), Bytes(32)));

  record.extends[6].digests = hcrtm.digests;
  EXPECT_THAT(error_of(sys::to_text(to_json(record))), HasSubstr("a reset has no digest"));
  std::string text = sys::to_text(to_json(record));
  text.replace(text.find("\"drtm\""), 6, "\"crtm\"");
  EXPECT_THAT(error_of(text), HasSubstr("no change of a PCR"));
}

TEST(ExtendRecord, pages_join_into_the_whole_record) {
  ExtendRecord whole = sample();
  ExtendRecord first = whole;
  first.extends.resize(2);
  ExtendRecord second = whole;
  second.extends.erase(second.extends.begin(), second.extends.begin() + 2);
  EXPECT_FALSE(first.whole());
  EXPECT_FALSE(replay(first, HashAlg::kSha256).ok());
  ExtendRecord joined = first;
  ASSERT_TRUE(append_page(joined, second).ok());
  EXPECT_EQ(joined, whole);

  joined = first;
  EXPECT_EQ(append_page(joined, whole).error().code, ErrorCode::kConflict) << "begins too early";
  second.boot_id = "0000000000000001";
  EXPECT_THAT(append_page(joined, second).error().cause, HasSubstr("reset"));
}

TEST(ExtendRecord, replays_to_the_values_that_the_tpm_has) {
  ExtendRecord record = sample();
  Result<PcrBank> bank = replay(record, HashAlg::kSha256);
  ASSERT_TRUE(bank.ok());
  HashValue digest = hash(HashAlg::kSha256, as_bytes("SecureBoot"));
  HashValue expected = hash(HashAlg::kSha256, Bytes(32), digest.bytes());
  EXPECT_TRUE(equal(bank->value(7), expected.bytes()));
  EXPECT_TRUE(equal(replay(record, HashAlg::kSha256, 1)->value(7), Bytes(32)));
  EXPECT_EQ(replay(record, HashAlg::kSha1).error().code, ErrorCode::kNotFound);
  record.startup_locality = 3;
  EXPECT_FALSE(equal(replay(record, HashAlg::kSha256)->value(0), bank->value(0)));
}

TEST(ExtendRecord, knows_the_extend_by_which_the_operating_system_takes_over) {
  ExtendRecord record = sample();
  EXPECT_TRUE(is_exit_boot_services(5, record.extends[2].digests));
  EXPECT_FALSE(is_exit_boot_services(4, record.extends[2].digests));
  EXPECT_FALSE(is_exit_boot_services(5, record.extends[3].digests));
  record.extends[2].digests[1].bytes[0] ^= std::byte{1};
  EXPECT_FALSE(is_exit_boot_services(5, record.extends[2].digests)) << "one bank says otherwise";
}

TEST(ExtendRecord, refuses_what_is_not_one_and_says_where) {
  std::string good = sys::to_text(to_json(sample()));
  auto with = [&](std::string_view what, std::string_view by) {
    std::string text = good;
    size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return text.replace(at, what.size(), by);
  };
  EXPECT_THAT(error_of("[]"), HasSubstr("not an object"));
  EXPECT_THAT(error_of(with("\"pcr\":7", "\"kind\":\"reset\",\"pcr\":7")),
              HasSubstr("PCR 7 does not change in that way"));
  EXPECT_THAT(error_of(with("\"n\":1", "\"n\":2")), HasSubstr("extend 1"));
  EXPECT_THAT(error_of(with("\"pcr\":7", "\"pcr\":24")), HasSubstr("pcr"));
  EXPECT_THAT(error_of(with("\"sha256\"", "\"md5\"")), HasSubstr("md5"));
  EXPECT_THAT(error_of(with("\"total\":4", "\"total\":3")), HasSubstr("at most"));
  EXPECT_THAT(error_of(with("\"total\":4", "\"total\":100000")), HasSubstr("at most"));
  EXPECT_THAT(error_of(with("00112233445566ff", "00112233445566f")), HasSubstr("id"));
  EXPECT_THAT(error_of(with("\"exit_boot_services\":2", "\"exit_boot_services\":4")),
              HasSubstr("exit_boot_services"));
  EXPECT_THAT(error_of(with("\"sha384\":\"", "\"sha384\":\"00")), HasSubstr("characters"));
}

}  // namespace
}  // namespace hf::attestation
