// What the parts of appraise() share; for appraisal*.cpp only.
#pragma once

#include <array>
#include <bitset>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "attestation/appraisal/appraisal.h"

namespace hf::attestation {

// Of each severity. What is wrong thousands of times is understood from the first ones.
inline constexpr size_t kReasonsMax = 256;

// Gathers reasons, and what each means for the claims of the trust vector.
class Judge {
 public:
  // The claim gets `value` if it is worse than what others gave it.
  Reason& fail(TrustClaim claim, int8_t value, std::string code, std::string words);
  // The same, for a reason that was told already.
  void lower(TrustClaim claim, int8_t value);
  // The claim is not made: it could not be judged.
  Reason& unknown(TrustClaim claim, std::string code, std::string words);
  Reason& note(std::string code, std::string words);
  // The claim may be made if nothing else speaks against it; the better of several values.
  void affirm(TrustClaim claim, int8_t value);

  size_t failures() const;
  bool failed() const { return failures() > 0; }
  Verdict verdict() const;
  TrustVector trust() const;
  std::vector<Reason> take_reasons();

 private:
  struct ClaimState {
    std::optional<int8_t> failed;
    std::optional<int8_t> affirmed;
    bool unknown = false;
  };
  Reason& add(Severity severity, std::string code, std::string words);
  std::deque<Reason> reasons_;      // references stay valid
  std::array<size_t, 3> counts_{};  // by severity, those that are not kept as well
  Reason untold_;                   // takes what is said of one that is not kept
  std::map<TrustClaim, ClaimState> claims_;
};

// What the evidence comes down to after its pieces were checked against each other.
struct Vouched {
  const EventLog* log = nullptr;         // null if there is none or it was refused
  const ExtendRecord* record = nullptr;  // null if there is none or it was refused
  std::bitset<kPcrCount> pcrs = std::bitset<kPcrCount>().set();  // whose events count
  bool order = true;                        // of the record's extends, across registers
  std::optional<VmRole> marked;             // by PCR 6 under a quote, where no extend shows it
  std::unique_ptr<const ExtendRecord> cut;  // owns `record` if it is the part that a quote proves
  bool any() const { return log != nullptr || record != nullptr; }
};

inline constexpr uint8_t kMarkedPcr = 6;  // of a drill or branch: role_marker()

// The register's measurements must be the baseline's.
inline bool matters(PcrRule rule) { return rule == PcrRule::kBaseline || rule == PcrRule::kSigned; }

void judge_identity(const AppraisalInput& input, Judge& judge);
void judge_freshness(const AppraisalInput& input, Judge& judge);
Vouched judge_evidence(const AppraisalInput& input, HashAlg bank, Judge& judge);
// The best of the policy's banks that all the evidence has; kSha256 if there is no evidence.
std::optional<HashAlg> choose_bank(const AppraisalInput& input);

struct BootJudgement {
  const MeasuredBoot* boot = nullptr;
  const BootFacts* facts = nullptr;
  const Policy* policy = nullptr;
  const BaselineMatch* match = nullptr;   // null without a baseline
  const BaselineBoot* matched = nullptr;  // the accepted boot it is nearest to
  // The register was compared, and is as the baseline or the policy's values have it; at most
  // revocations were added. Not where differences count for nothing: what cannot be seen may then
  // be anything.
  bool agrees_in(uint8_t pcr) const;
};
void judge_baseline(const AppraisalInput& input, const BootJudgement& boot, Judge& judge);
void judge_values(const AppraisalInput& input, const Vouched& vouched, HashAlg bank, Judge& judge);
void judge_secure_boot(const AppraisalInput& input, const BootJudgement& boot, Judge& judge);
void judge_command_lines(const AppraisalInput& input, const BootJudgement& boot, Judge& judge);
void judge_role_marks(const AppraisalInput& input, const BootJudgement& boot,
                      const Vouched& vouched, Judge& judge);
// Tells what no digest proves although it should.
void judge_unproven(const EventLog& log, Judge& judge);
void judge_variables(const AppraisalInput& input, const BootJudgement& boot, Judge& judge);

// The text of a measured command line: measured data, or what the baseline knows its digest as.
std::string_view text_of(const Measurement& measurement, const BootJudgement& boot);

inline constexpr std::string_view kAcceptMend =
    "if this change was meant, accept it (holdfast attest baseline accept VM) and announce the "
    "next one before the reboot (holdfast attest baseline announce VM); if not, stop the VM "
    "(holdfast vm stop VM --force) and find out what changed its disk";
inline constexpr std::string_view kGrubMend =
    "if this change was meant (update-grub in the guest), accept it (holdfast attest baseline "
    "accept VM) and announce the next one before the reboot (holdfast attest baseline announce VM "
    "--grub-config); if not, find out who changed GRUB's configuration in the guest";

}  // namespace hf::attestation
