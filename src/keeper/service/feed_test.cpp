#include "keeper/service/feed.h"

#include <gtest/gtest.h>

namespace hf::keeper {
namespace {

TEST(Feed, a_seed_request_comes_back_as_it_was) {
  for (const SeedRequest& request : {SeedRequest{}, SeedRequest{.question = SeedQuestion::kFetch,
                                                                .base = 7,
                                                                .offset = uint64_t{1} << 40,
                                                                .length = journal::kSeedReadMax}}) {
    const Bytes raw = encode_seed_request(request);
    ASSERT_EQ(raw.size(), kFeedRequestSize);
    EXPECT_TRUE(is_seed_request(raw));
    EXPECT_EQ(*decode_seed_request(raw), request);
  }
  EXPECT_FALSE(is_seed_request(
      encode_feed_request({.after = {}, .max_bytes = journal::kRecordSizeMax, .wait_ms = 0})));
}

TEST(Feed, a_seed_request_is_refused_with_any_byte_that_means_nothing) {
  const Bytes good =
      encode_seed_request({.question = SeedQuestion::kFetch, .base = 1, .offset = 2, .length = 3});
  for (size_t at = 0; at < good.size(); ++at) {
    if (at >= 16 && at < 34) continue;  // base, offset and a length within bounds
    Bytes bad = good;
    bad[at] ^= std::byte{0x80};
    EXPECT_FALSE(decode_seed_request(bad).ok()) << at;
  }
  EXPECT_FALSE(decode_seed_request(encode_seed_request({.base = 1})).ok());
  EXPECT_FALSE(decode_seed_request(encode_seed_request({.question = SeedQuestion::kFetch})).ok());
}

}  // namespace
}  // namespace hf::keeper
