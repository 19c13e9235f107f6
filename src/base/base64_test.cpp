#include "base/base64.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(Base64, encodes_the_vectors_of_rfc_4648) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : vectors) {
    EXPECT_EQ(base64_encode(as_bytes(plain)), text);
    Result<Bytes> back = base64_decode(text);
    ASSERT_TRUE(back.ok()) << text;
    EXPECT_EQ(as_text(*back), plain);
    std::string bare = text;
    while (bare.ends_with('=')) bare.pop_back();
    EXPECT_EQ(base64url_encode(as_bytes(plain)), bare);
    Result<Bytes> url = base64url_decode(bare);
    ASSERT_TRUE(url.ok()) << bare;
    EXPECT_EQ(as_text(*url), plain);
  }
}

TEST(Base64, each_alphabet_refuses_the_other) {
  Bytes bytes(3, std::byte{0xff});
  EXPECT_EQ(base64_encode(bytes), "////");
  EXPECT_EQ(base64url_encode(bytes), "____");
  EXPECT_FALSE(base64_decode("____").ok());
  EXPECT_FALSE(base64url_decode("////").ok());
}

TEST(Base64, every_byte_comes_back) {
  Bytes bytes;
  for (int i = 0; i < 256; ++i) {
    bytes.push_back(static_cast<std::byte>(i));
    EXPECT_EQ(*base64_decode(base64_encode(bytes)), bytes);
    EXPECT_EQ(*base64url_decode(base64url_encode(bytes)), bytes);
  }
}

TEST(Base64, one_text_for_each_value) {
  for (std::string_view text : {"Zg", "Zg=", "Zg===", "Z", "Zh==", "Zm9=", "Zm9v\n", " Zm9v",
                                "Zg==Zg==", "=", "====", "Zm=v"}) {
    EXPECT_FALSE(base64_decode(text).ok()) << text;
  }
  for (std::string_view text : {"Z", "Zh", "Zg==", "Zm9", "Zm9v\n"}) {
    EXPECT_FALSE(base64url_decode(text).ok()) << text;
  }
}

}  // namespace
}  // namespace hf
