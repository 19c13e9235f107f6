#include "vault/core/keeper_table.h"

#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using testing::vm_of;

constexpr uint32_t kOwnUid = 100;
constexpr UidRange kReserved{.first = 600, .last = 699};

TEST(KeeperTable, holds_the_newest_list_and_nothing_of_an_older_one) {
  KeeperTable table(kReserved, kOwnUid);
  EXPECT_EQ(table.uid_of(vm_of(1)), std::nullopt);
  EXPECT_FALSE(table.is_keeper(600));
  ASSERT_TRUE(table.replace({.generation = 2, .keepers = {{vm_of(1), 600}, {vm_of(2), 602}}}).ok());
  EXPECT_EQ(table.uid_of(vm_of(1)), 600u);
  EXPECT_TRUE(table.is_keeper(602));
  // One that was held up on its way, and the same again.
  for (const uint64_t old : {1u, 2u}) {
    EXPECT_EQ(table.replace({.generation = old, .keepers = {}}).error().code, ErrorCode::kConflict);
  }
  EXPECT_EQ(table.uid_of(vm_of(1)), 600u);
  ASSERT_TRUE(table.replace({.generation = 3, .keepers = {{vm_of(2), 602}}}).ok());
  EXPECT_EQ(table.uid_of(vm_of(1)), std::nullopt);
  EXPECT_FALSE(table.is_keeper(600));
  EXPECT_TRUE(table.is_keeper(602));
}

TEST(KeeperTable, takes_only_users_of_the_reserved_range_and_one_for_each_vm) {
  KeeperTable table(kReserved, kOwnUid);
  ASSERT_TRUE(table.replace({.generation = 1, .keepers = {{vm_of(1), 600}}}).ok());
  const auto code = [&](std::vector<KeeperBinding> keepers) {
    return table.replace({.generation = 9, .keepers = std::move(keepers)}).error().code;
  };
  for (const uint32_t uid : {0u, kOwnUid, 599u, 700u, 0xffffffffu}) {
    EXPECT_EQ(code({{vm_of(1), uid}}), ErrorCode::kPermission) << uid;
  }
  EXPECT_EQ(code({{vm_of(1), 600}, {vm_of(2), 600}}), ErrorCode::kConflict);
  EXPECT_EQ(code({{vm_of(1), 600}, {vm_of(1), 602}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{VmId{}, 600}}), ErrorCode::kInvalidArgument);
  // Refused whole: nothing of it is in force, and its number is still free.
  EXPECT_EQ(table.uid_of(vm_of(1)), 600u);
  EXPECT_TRUE(table.replace({.generation = 9, .keepers = {}}).ok());
}

TEST(KeeperTable, of_a_site_with_one_user_takes_that_user_for_every_vm) {
  KeeperTable table(std::nullopt, kOwnUid);
  ASSERT_TRUE(
      table.replace({.generation = 1, .keepers = {{vm_of(1), kOwnUid}, {vm_of(2), kOwnUid}}}).ok());
  EXPECT_EQ(table.uid_of(vm_of(2)), kOwnUid);
  EXPECT_EQ(table.replace({.generation = 2, .keepers = {{vm_of(1), 600}}}).error().code,
            ErrorCode::kPermission);
}

}  // namespace
}  // namespace hf::vault
