// Logs of real boots: what the code makes of them is held against what those boots' TPMs held.
#include "attestation/testing/corpus.h"

#include <gtest/gtest.h>

#include <set>

namespace hf::attestation {
namespace {

constexpr size_t kOwnBootsMin = 20;
constexpr uint32_t kImaPcr = 10;  // the kernel's, which the firmware's log does not hold

TEST(Corpus, logs_replay_to_what_the_tpm_held) {
  const std::vector<corpus::Boot> boots = corpus::own_boots();
  ASSERT_GE(boots.size(), kOwnBootsMin) << "in " << corpus::directory();
  for (const corpus::Boot& boot : boots) {
    const auto log = EventLog::parse(boot.log);
    ASSERT_TRUE(log.ok()) << boot.name << ": " << log.error().describe();
    EXPECT_EQ(log->banks().size(), boot.pcrs.size()) << boot.name;
    for (const auto& [alg, values] : boot.pcrs) {
      const auto bank = replay(*log, alg);
      ASSERT_TRUE(bank.ok()) << boot.name << ": " << bank.error().describe();
      ASSERT_EQ(values.size(), kPcrCount) << boot.name;
      for (const auto& [pcr, value] : values) {
        if (pcr == kImaPcr) continue;
        EXPECT_EQ(to_hex(bank->value(pcr)), to_hex(value))
            << boot.name << ": " << name_of(alg) << " PCR " << pcr;
      }
    }
  }
}

TEST(Corpus, every_kind_of_chain_is_there) {
  std::set<size_t> banks;
  std::set<bool> secure_boot;
  for (const corpus::Boot& boot : corpus::own_boots()) {
    banks.insert(boot.pcrs.size());
    secure_boot.insert(boot.secure_boot);
  }
  EXPECT_EQ(banks, (std::set<size_t>{1, 2, 3, 4}));
  EXPECT_EQ(secure_boot, (std::set<bool>{false, true}));
}

}  // namespace
}  // namespace hf::attestation
