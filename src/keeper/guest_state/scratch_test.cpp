#include "keeper/guest_state/scratch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace hf::keeper {
namespace {

IncarnationId incarnation(uint8_t n) {
  IncarnationId id;
  id.bytes.fill(std::byte{n});
  return id;
}

struct Memory {
  sys::UniqueFd fd{::memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  crypto::Secret key = crypto::Secret::copy_of(Bytes(32, std::byte{5}));
  std::unique_ptr<FlashScratch> open(uint8_t n) {
    return *FlashScratch::open(*fd.duplicate(), key, incarnation(n));
  }
};

Bytes bytes(size_t n, uint8_t fill) { return Bytes(n, std::byte{fill}); }

TEST(Scratch, gives_a_successor_what_was_held_last) {
  Memory memory;
  {
    auto first = memory.open(1);
    first->keep(100, bytes(10, 0xAA));
    first->keep(100, bytes(20, 0xBB));
  }
  auto second = memory.open(2);
  auto held = second->left_by(incarnation(1));
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->offset, 100U);
  EXPECT_EQ(held->bytes, bytes(20, 0xBB));
  EXPECT_FALSE(second->left_by(incarnation(3)).has_value());
  second->keep(7, bytes(1, 1));
  EXPECT_FALSE(second->left_by(incarnation(1)).has_value());
  EXPECT_EQ(memory.open(3)->left_by(incarnation(2))->offset, 7U);
}

TEST(Scratch, keeps_its_size_whoever_else_has_the_file) {
  Memory memory;
  auto first = memory.open(1);
  first->keep(100, bytes(10, 0xAA));
  EXPECT_NE(::ftruncate(memory.fd.get(), 0), 0);
  EXPECT_NE(::ftruncate(memory.fd.get(), 1 << 20), 0);
  EXPECT_TRUE(memory.open(2)->left_by(incarnation(1)).has_value());

  const sys::UniqueFd unsealable(::memfd_create("scratch", MFD_CLOEXEC));
  EXPECT_EQ(FlashScratch::open(*unsealable.duplicate(), memory.key, incarnation(1)).error().code,
            ErrorCode::kPermission);
  const sys::UniqueFd other(::memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(other.get(), 4096), 0);
  ASSERT_EQ(::fcntl(other.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  EXPECT_EQ(FlashScratch::open(*other.duplicate(), memory.key, incarnation(1)).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(Scratch, holds_nothing_after_clear) {
  Memory memory;
  memory.open(1)->keep(0, bytes(5, 1));
  memory.open(1)->clear();
  EXPECT_FALSE(memory.open(2)->left_by(incarnation(1)).has_value());
}

TEST(Scratch, outlives_successors_that_died_while_they_started) {
  const auto entry = [](uint8_t n, uint64_t first) {
    journal::LineageEntry made;
    made.body.salt = incarnation(n);
    made.first = Sequence(first);
    return made;
  };
  Memory memory;
  memory.open(1)->keep(100, bytes(10, 0xAA));
  // 2 and 3 opened an incarnation and died; 4 is the one that asks.
  const journal::Lineage starts{entry(1, 1), entry(2, 50), entry(3, 52), entry(4, 53)};
  auto held = memory.open(4)->left_before(starts);
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->bytes, bytes(10, 0xAA));
  // 2 went on to serve: what 1 left is older than what 2 wrote.
  const journal::Lineage served{entry(1, 1), entry(2, 50), entry(3, 60)};
  EXPECT_FALSE(memory.open(3)->left_before(served).has_value());
  EXPECT_FALSE(memory.open(1)->left_before({entry(1, 1)}).has_value());
}

TEST(Scratch, tells_a_successor_what_the_peer_has) {
  Memory memory;
  EXPECT_FALSE(memory.open(1)->pin().has_value());
  memory.open(1)->note_pin(Sequence(0));
  EXPECT_EQ(memory.open(2)->pin(), Sequence(0));
  memory.open(2)->note_pin(Sequence(77));
  EXPECT_EQ(memory.open(3)->pin(), Sequence(77));
  memory.open(3)->note_pin(std::nullopt);
  EXPECT_FALSE(memory.open(4)->pin().has_value());
}

TEST(Scratch, shows_no_plaintext_and_believes_nothing_altered) {
  Memory memory;
  const std::string secret = "a secret that stands in a variable";
  memory.open(1)->keep(0, as_bytes(secret));
  Bytes raw = *sys::read_all(memory.fd.get(), 1 << 20);
  EXPECT_EQ(as_text(raw).find(secret), std::string_view::npos);
  for (size_t i = 0; i < raw.size(); i += 7) {
    std::byte flipped = raw[i] ^ std::byte{1};
    ASSERT_TRUE(sys::pwrite_all(memory.fd.get(), i, {&flipped, 1}).ok());
    auto held = memory.open(2)->left_by(incarnation(1));
    if (held.has_value()) EXPECT_EQ(as_text(held->bytes), secret);
    ASSERT_TRUE(sys::pwrite_all(memory.fd.get(), i, {&raw[i], 1}).ok());
  }
}

}  // namespace
}  // namespace hf::keeper
