#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/ids.h"

namespace hf {
namespace {

TEST(Bytes, loads_what_it_stored_in_the_named_byte_order) {
  std::array<std::byte, 4> raw{};
  store_le<uint32_t>(raw.data(), 0x01020304);
  EXPECT_EQ(to_hex(raw), "04030201");
  EXPECT_EQ(load_be<uint32_t>(raw.data()), 0x04030201U);
  EXPECT_EQ(load_le<uint32_t>(raw.data()), 0x01020304U);
}

TEST(Bytes, refuses_text_that_is_not_hex) {
  EXPECT_FALSE(from_hex("0").ok());
  EXPECT_FALSE(from_hex("zz").ok());
  EXPECT_EQ(to_hex(*from_hex("00ffA5")), "00ffa5");
}

TEST(Ids, refuses_an_id_of_another_length) {
  EXPECT_FALSE(VmId::parse_hex("00").ok());
  EXPECT_TRUE(VmId::parse_hex(std::string(32, 'a')).ok());
}

TEST(Crc32c, gives_the_check_value_of_rfc_3720) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283U);
  std::array<std::byte, 32> zeros{};
  EXPECT_EQ(crc32c(zeros), 0x8A9136AAU);
}

Result<int> half(int n) {
  if (n % 2 != 0) return Error{.code = ErrorCode::kInvalidArgument, .cause = "odd"};
  return n / 2;
}
Result<int> quarter(int n) {
  int once = TRY(half(n));
  return TRY_CONTEXT(half(once), "second half");
}

TEST(Result, try_returns_the_error_with_its_context) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().cause, "second half: odd");
  EXPECT_EQ(quarter(7).error().cause, "odd");
}

}  // namespace
}  // namespace hf
