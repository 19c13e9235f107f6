#include "secure_boot/efi/guid.h"

#include <gtest/gtest.h>

namespace hf::secure_boot {
namespace {

TEST(Guid, stands_in_memory_with_its_first_fields_reversed) {
  EXPECT_EQ(to_hex(guids::kGlobalVariable.bytes), "61dfe48bca93d211aa0d00e098032b8c");
  EXPECT_EQ(guids::kGlobalVariable.text(), "8be4df61-93ca-11d2-aa0d-00e098032b8c");
}

TEST(Guid, reads_what_it_writes_in_either_case) {
  auto guid = Guid::parse("8BE4DF61-93CA-11d2-AA0D-00E098032B8C");
  ASSERT_TRUE(guid.ok());
  EXPECT_EQ(*guid, guids::kGlobalVariable);
  EXPECT_EQ(Guid::parse(guids::kX509.text()).value(), guids::kX509);
}

TEST(Guid, refuses_what_is_none) {
  for (const char* text :
       {"", "8be4df61-93ca-11d2-aa0d-00e098032b8", "8be4df6193ca11d2aa0d00e098032b8c0000",
        "8be4df61-93ca-11d2-aa0d-00e098032b8g", "8be4df61-93ca-11d2-aa0d+00e098032b8c",
        "8be4df611-3ca-11d2-aa0d-00e098032b8c"}) {
    EXPECT_FALSE(Guid::parse(text).ok()) << text;
  }
}

TEST(Guid, has_words_for_the_known_ones) {
  EXPECT_EQ(words(guids::kX509), "X509");
  EXPECT_EQ(words(Guid{}), "00000000-0000-0000-0000-000000000000");
}

}  // namespace
}  // namespace hf::secure_boot
