#include "keeper/config.h"

#include <gtest/gtest.h>

namespace hf::keeper {
namespace {

std::string json(std::string_view volumes, std::string_view mode = "serve", int epoch = 1) {
  return R"({"mode":")" + std::string(mode) + R"(","vm":")" + std::string(32, 'a') +
         R"(","site":")" + std::string(32, 'b') + R"(","epoch":)" + std::to_string(epoch) +
         R"(,"journal_dir":"/j","vault_socket":"/v","volumes":)" + std::string(volumes) + "}";
}

TEST(KeeperConfig, reads_what_the_daemon_writes) {
  auto config = parse_config(json(R"([{"id":1,"name":"disk1","size_bytes":1048576}])"));
  ASSERT_TRUE(config.ok()) << config.error().describe();
  EXPECT_EQ(config->mode, Mode::kServe);
  EXPECT_EQ(config->volumes.at(0).name, "disk1");
  EXPECT_TRUE(config->vtpm);
}

TEST(KeeperConfig, refuses_what_cannot_be) {
  EXPECT_FALSE(parse_config(json("[]", "dance")).ok());
  EXPECT_FALSE(parse_config(json("[]", "serve", 0)).ok());
  EXPECT_FALSE(parse_config(json(R"([{"id":0,"name":"x","size_bytes":512}])")).ok());
  EXPECT_FALSE(parse_config(json(R"([{"id":1,"name":"x","size_bytes":513}])")).ok());
  EXPECT_FALSE(
      parse_config(
          json(R"([{"id":1,"name":"x","size_bytes":512},{"id":1,"name":"y","size_bytes":512}])"))
          .ok());
  EXPECT_FALSE(parse_config("{}").ok());
  EXPECT_FALSE(parse_config("[").ok());
}

}  // namespace
}  // namespace hf::keeper
