#include "launcher/tree/site_registry.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hf::launcher {
namespace {

class SiteRegistryTest : public testing::Test {
 protected:
  SiteRegistryTest() { HF_ASSERT(::mkdtemp(directory_.data()) != nullptr); }
  ~SiteRegistryTest() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  SiteConfig make(const std::string& name, uint32_t uid_base, uint8_t id) const {
    SiteConfig site{.name = name, .listen = "127.0.0.1:7443", .uid_base = uid_base};
    site.site_id.bytes[0] = std::byte{id};
    std::filesystem::create_directories(path(name));
    std::ofstream(path(name) + "/site.json") << to_text(site);
    return site;
  }
  SiteRegistry of_test() const { return SiteRegistry(path("sites")); }
  size_t links() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path("sites")))
      ++count;
    return count;
  }

  std::string directory_ = "/tmp/hf-sites-XXXXXX";
};

TEST_F(SiteRegistryTest, knows_the_sites_that_were_entered_and_their_users) {
  const SiteRegistry registry = of_test();
  EXPECT_TRUE(registry.taken().empty());
  const SiteConfig north = make("north", 2'010'000'000, 1);
  const SiteConfig south = make("south", 2'020'000'000, 2);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(registry.enter(north.site_id, path("north")).ok());
    ASSERT_TRUE(registry.enter(south.site_id, path("south")).ok());
  }
  EXPECT_EQ(links(), 2U);
  EXPECT_EQ(registry.taken().size(), 2U);
  const std::vector<TakenIds> others = registry.taken(south.site_id);
  ASSERT_EQ(others.size(), 1U);
  EXPECT_EQ(others[0].first, 2'010'000'000U);
  EXPECT_EQ(others[0].count, kSiteUsers);
  EXPECT_EQ(others[0].by, "site north (" + path("north") + ")");
}

TEST_F(SiteRegistryTest, forgets_what_has_gone_or_is_another_site_now) {
  const SiteRegistry registry = of_test();
  const SiteConfig north = make("north", 2'010'000'000, 1);
  const SiteConfig south = make("south", 2'020'000'000, 2);
  ASSERT_TRUE(registry.enter(north.site_id, path("north")).ok());
  ASSERT_TRUE(registry.enter(south.site_id, path("south")).ok());
  make("north", 2'030'000'000, 3);  // in its place
  std::filesystem::remove_all(path("south"));
  EXPECT_TRUE(registry.taken().empty());
  const SiteConfig east = make("east", 2'040'000'000, 4);
  ASSERT_TRUE(registry.enter(east.site_id, path("east")).ok());
  EXPECT_EQ(links(), 2U) << "the one whose directory has gone is gone";
  // Moved: the last word counts.
  std::filesystem::rename(path("east"), path("moved"));
  ASSERT_TRUE(registry.enter(east.site_id, path("moved")).ok());
  EXPECT_EQ(registry.taken().at(0).by, "site east (" + path("moved") + ")");
}

TEST_F(SiteRegistryTest, of_no_directory_knows_nobody) {
  const SiteRegistry registry("");
  const SiteConfig north = make("north", 2'010'000'000, 1);
  EXPECT_TRUE(registry.enter(north.site_id, path("north")).ok());
  EXPECT_TRUE(registry.taken().empty());
}

TEST_F(SiteRegistryTest, keeps_a_site_from_starting_with_anothers_users) {
  const SiteRegistry registry = of_test();
  const SiteConfig north = make("north", 2'010'000'000, 1);
  const SiteConfig south = make("south", 2'010'040'000, 2);
  const SiteConfig one_user = make("one", 0, 3);
  if (!taken_ids(UserSource::kFiles).empty() &&
      overlapping(north.uid_base, taken_ids(UserSource::kFiles)) != nullptr) {
    GTEST_SKIP() << "this host has users there, or none";
  }
  ASSERT_TRUE(claim_users(north, path("north"), registry).ok());
  ASSERT_TRUE(claim_users(north, path("north"), registry).ok()) << "again, and again";
  ASSERT_TRUE(claim_users(one_user, path("one"), registry).ok());
  const Status refused = claim_users(south, path("south"), registry);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(refused.error().cause.contains("site north")) << refused.error().cause;
  EXPECT_TRUE(refused.error().mend.contains("--uid-base 2010050000")) << refused.error().mend;
  EXPECT_TRUE(refused.error().effect.contains("does not start"));
}

}  // namespace
}  // namespace hf::launcher
