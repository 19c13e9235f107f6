#include "control/vm/cut_off_jobs.h"

#include "control/test_services.h"

namespace hf::control {
namespace {

FakeLauncher::Answer silent() {
  return [](const launcher::Request&) { return std::optional(launcher::Reply{}); };
}

Became became(TestServices& site, std::string kind, std::string subject) {
  return what_became(*site.services, {.kind = std::move(kind), .subject = std::move(subject)});
}

TEST(CutOffJobs, what_became_of_one_is_what_its_vm_shows_and_the_mend_leads_on_from_there) {
  TestServices site(silent());
  site.add_vm(1);
  site.add_vm(2, VmRole::kStandby);
  const Became start = became(site, "vm-start", "vm1");
  EXPECT_NE(start.effect.find("is now: stopped"), std::string::npos) << start.effect;
  EXPECT_EQ(start.mend, "holdfast vm start vm1");
  EXPECT_EQ(became(site, "vm-stop", "vm1").mend, "holdfast vm show vm1");
  EXPECT_EQ(became(site, "vm-delete", "vm1").mend, "holdfast vm delete vm1");
  // Before the VM was taken over, and after.
  EXPECT_EQ(became(site, "failover", "vm2").mend, "holdfast failover unplanned vm2");
  const Became taken = became(site, "failover", "vm1");
  EXPECT_NE(taken.effect.find("this site's, under epoch 1"), std::string::npos) << taken.effect;
  EXPECT_EQ(taken.mend, "holdfast vm start vm1");
}

TEST(CutOffJobs, of_a_vm_that_is_not_there_the_kind_of_the_job_says_what_that_means) {
  TestServices site(silent());
  EXPECT_NE(became(site, "vm-create", "ghost").effect.find("not created"), std::string::npos);
  EXPECT_NE(became(site, "vm-delete", "ghost").effect.find("is deleted"), std::string::npos);
  EXPECT_EQ(became(site, "vm-start", "ghost").mend, "holdfast vm list");
  EXPECT_EQ(became(site, "site-stop", kTheSite).mend, "holdfast site stop");
}

}  // namespace
}  // namespace hf::control
