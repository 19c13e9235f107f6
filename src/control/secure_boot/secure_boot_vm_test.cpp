#include "control/secure_boot/secure_boot_vm.h"

#include "control/test_services.h"

namespace hf::control {
namespace {

class NoProgress : public Progress {
 public:
  void step(std::string) override {}
};

// Nobody is to fail a VM over in order to see its keys.
TEST(SecureBootVm, of_a_replica_is_asked_at_the_site_that_runs_the_vm) {
  TestServices site([](const launcher::Request&) { return std::nullopt; });
  const VmRow row = site.add_vm(1, VmRole::kStandby);
  site.protect(row.id);
  NoProgress progress;
  const Result<sys::JsonObject> shown = show_secure_boot(*site.services, row.id, progress);
  ASSERT_FALSE(shown.ok());
  EXPECT_EQ(shown.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(shown.error().cause.contains("holds a replica of VM \"vm1\"")) << shown.error().cause;
  EXPECT_EQ(shown.error().effect, "nothing was read or changed");
  EXPECT_EQ(shown.error().mend, "give the command at the site that the VM is run by: b");
}

}  // namespace
}  // namespace hf::control
