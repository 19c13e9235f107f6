#include "title/words.h"

#include <gtest/gtest.h>

#include "title/testing/world.h"

namespace hf::title {
namespace {

using testing::kA;
using testing::kB;
using testing::kC;

VmId vm(uint8_t number) {
  VmId id;
  id.bytes[0] = std::byte{number};
  return id;
}
Token token(uint8_t number) {
  Token out;
  out.bytes[0] = std::byte{number};
  return out;
}
Word word(uint8_t of, Act act = Act::kTake, const SiteId& silent = kA) {
  return {.vm = vm(of), .act = act, .kind = WordKind::kSourceIsOff, .silent = {silent}};
}

constexpr Instant kNow{1000 * kSecond};
Instant later(uint64_t seconds) { return Instant(kNow.value + seconds * kSecond); }

TEST(Words, one_is_for_one_vm_and_act_used_once) {
  Words words;
  ASSERT_TRUE(words.give(token(1), {word(1)}, false, kNow).ok());
  EXPECT_EQ(words.find(token(2), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_EQ(words.find(token(1), vm(2), Act::kTake, kNow), nullptr);
  EXPECT_EQ(words.find(token(1), vm(1), Act::kGoOn, kNow), nullptr);
  ASSERT_NE(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_NE(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);  // looking spends nothing
  words.spend(token(1), vm(1), Act::kTake);
  EXPECT_EQ(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_EQ(words.size(), 0U);
}

TEST(Words, one_lasts_a_minute_and_a_list_half_an_hour) {
  Words words;
  ASSERT_TRUE(words.give(token(1), {word(1)}, false, kNow).ok());
  ASSERT_TRUE(words.give(token(2), {word(1), word(2)}, true, kNow).ok());
  EXPECT_NE(words.find(token(1), vm(1), Act::kTake, later(60)), nullptr);
  EXPECT_EQ(words.find(token(1), vm(1), Act::kTake, later(61)), nullptr);
  EXPECT_NE(words.find(token(2), vm(1), Act::kTake, later(1800)), nullptr);
  EXPECT_EQ(words.find(token(2), vm(1), Act::kTake, later(1801)), nullptr);
  // What is too old makes room.
  ASSERT_TRUE(words.give(token(3), {word(3)}, false, later(1801)).ok());
  EXPECT_EQ(words.size(), 1U);
}

TEST(Words, each_entry_of_a_list_is_used_once) {
  Words words;
  ASSERT_TRUE(words.give(token(1), {word(1), word(2)}, true, kNow).ok());
  words.spend(token(1), vm(1), Act::kTake);
  EXPECT_EQ(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_NE(words.find(token(1), vm(2), Act::kTake, kNow), nullptr);
}

TEST(Words, a_sign_of_life_ends_what_names_that_site) {
  Words words;
  ASSERT_TRUE(words.give(token(1), {word(1)}, false, kNow).ok());
  ASSERT_TRUE(words.give(token(2), {word(1), word(2), word(3, Act::kTake, kC)}, true, kNow).ok());
  EXPECT_EQ(words.heard(kB, vm(1)), 0U);
  // Of another VM: the single word stands, the list's entries of that site are gone.
  EXPECT_EQ(words.heard(kA, vm(9)), 2U);
  EXPECT_NE(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_EQ(words.find(token(2), vm(1), Act::kTake, kNow), nullptr);
  EXPECT_NE(words.find(token(2), vm(3), Act::kTake, kNow), nullptr);
  EXPECT_EQ(words.heard(kA, vm(1)), 1U);
  EXPECT_EQ(words.find(token(1), vm(1), Act::kTake, kNow), nullptr);
}

TEST(Words, whom_one_distrusts_may_say_what_it_likes) {
  Words words;
  Word distrust = word(1, Act::kDistrust);
  distrust.kind = WordKind::kDistrusted;
  ASSERT_TRUE(words.give(token(1), {distrust}, false, kNow).ok());
  EXPECT_EQ(words.heard(kA, vm(1)), 0U);
  EXPECT_NE(words.find(token(1), vm(1), Act::kDistrust, kNow), nullptr);
}

TEST(Words, are_bounded_and_whole) {
  Words words;
  EXPECT_FALSE(words.give(token(1), {}, true, kNow).ok());
  EXPECT_FALSE(words.give(token(1), {word(1), word(2)}, false, kNow).ok());
  EXPECT_FALSE(words.give(token(1), {Word{}}, false, kNow).ok());
  Word many = word(1);
  many.silent.resize(kMembersMax + 1);
  EXPECT_FALSE(words.give(token(1), {many}, false, kNow).ok());
  ASSERT_TRUE(words.give(token(1), {word(1)}, false, kNow).ok());
  EXPECT_FALSE(words.give(token(1), {word(2)}, false, kNow).ok());  // a token is one word's
  const std::vector<Word> full(kWordsMax - 1, word(3));
  ASSERT_TRUE(words.give(token(2), full, true, kNow).ok());
  EXPECT_EQ(words.give(token(3), {word(4)}, false, kNow).error().code, ErrorCode::kLimit);
  EXPECT_TRUE(words.give(token(3), {word(4)}, false, later(1801)).ok());
}

}  // namespace
}  // namespace hf::title
