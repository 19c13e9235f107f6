#include "secure_boot/image/sbat.h"

#include <gtest/gtest.h>

namespace hf::secure_boot {
namespace {

TEST(Sbat, rows_end_at_any_line_end_and_text_at_a_nul) {
  const std::string text(
      "\xEF\xBB\xBFsbat,1,SBAT Version,sbat,1,https://x\r\ngrub,5,FSF,grub,2.06,u\n\0junk", 67);
  Result<std::vector<SbatComponent>> components = parse_sbat(as_bytes(text));
  ASSERT_TRUE(components.ok()) << components.error().cause;
  ASSERT_EQ(components->size(), 2U);
  EXPECT_EQ((*components)[1].name, "grub");
  EXPECT_EQ((*components)[1].generation, 5);
  EXPECT_EQ((*components)[1].version, "2.06");
}

TEST(Sbat, a_short_row_is_refused_as_shim_refuses_it) {
  EXPECT_FALSE(parse_sbat(as_bytes("grub,5,FSF\n")).ok());
  EXPECT_FALSE(parse_sbat(as_bytes("grub,5,,grub,2.06,u\n")).ok());
  EXPECT_TRUE(parse_sbat(as_bytes("")).ok());
}

TEST(Sbat, bounds_are_held) {
  EXPECT_EQ(parse_sbat(Bytes(kSbatBytesMax + 1, std::byte{'a'})).error().code, ErrorCode::kLimit);
  std::string rows;
  for (size_t i = 0; i <= kSbatRowsMax; ++i) rows += "a,1,v,p,1,u\n";
  EXPECT_EQ(parse_sbat(as_bytes(rows)).error().code, ErrorCode::kLimit);
}

TEST(SbatLevel, the_published_one_is_one) {
  Result<SbatLevel> level = parse_sbat_level(as_bytes(kSbatLevelPublished));
  ASSERT_TRUE(level.ok());
  EXPECT_EQ(level->date, "2025051000");
  EXPECT_EQ(level->limits.size(), 4U);
}

TEST(SbatLevel, revokes_by_generation_and_by_exact_name) {
  const SbatLevel level =
      parse_sbat_level(as_bytes("sbat,1,2025\ngrub,5\ngrub.debian,4\n")).value();
  auto component = [](const char* name, uint16_t generation) {
    return SbatComponent{.name = name, .generation = generation};
  };
  EXPECT_FALSE(revoked_by(level, {component("sbat", 1), component("grub", 5)}));
  EXPECT_TRUE(revoked_by(level, {component("sbat", 1), component("grub", 4)}));
  EXPECT_TRUE(revoked_by(level, {component("grub", 5), component("grub.debian", 3)}));
  EXPECT_FALSE(revoked_by(level, {component("grub.other", 1), component("Grub", 1)}));
}

TEST(SbatLevel, what_is_no_number_is_generation_zero) {
  const SbatLevel level = parse_sbat_level(as_bytes("sbat,1,2025\ngrub,1\n")).value();
  const auto components = parse_sbat(as_bytes("grub,x,v,p,1,u\n")).value();
  EXPECT_TRUE(revoked_by(level, components));
  EXPECT_FALSE(parse_sbat_level(as_bytes("grub,1\n")).ok());
}

}  // namespace
}  // namespace hf::secure_boot
