// A verdict as it is kept and shown: what an appraisal found, of which boot, and why it was made.
// JSON at the edges only: catalog, API, the VM's journal.
//
// Times in microseconds since the Unix epoch, of the site that gave the verdict.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attestation/appraisal/appraisal.h"
#include "sys/json.h"

namespace hf::attestation {

// Why a verdict was asked for.
enum class Trigger : uint8_t {
  kBoot,       // the firmware handed over
  kStuck,      // it did not, for long: "no boot"
  kGuestLog,   // an agent in the guest gave the boot's event log
  kBootFiles,  // the disk's boot files were read, and are others than were known
  kDemand,     // somebody asked
};

// What decides with: small enough to be kept of many verdicts.
struct VerdictFacts {
  std::optional<uint64_t> id;  // whoever keeps it gives one; higher ones are newer
  Micros time;
  Verdict verdict = Verdict::kUnknown;
  Trigger trigger = Trigger::kDemand;
  std::string boot;      // the keeper's id of it
  bool partial = false;  // something was missing that may still be had: another will follow
  std::optional<Micros> handed_over;          // by the firmware to the operating system
  std::optional<int64_t> after_hand_over_ms;  // when the verdict was there
  std::string site;                           // its name
  Epoch epoch;
  std::string summary;                // one line
  std::vector<std::string> failures;  // codes of the reasons that are failures; sorted, each once
  bool operator==(const VerdictFacts&) const = default;
};

struct VerdictRecord {
  VerdictFacts of;
  std::vector<Reason> reasons;
  std::map<std::string, int8_t> trust;  // by claim
  std::string policy;
  std::vector<std::string> planned_changes;
  std::optional<bool> secure_boot;
  std::string kernel_command_line;
  std::vector<std::string> authorities;
  IncarnationId incarnation;
  Sequence sequence;
  VmRole role = VmRole::kProduction;
  std::string freshness;
  std::vector<std::string> compared;  // what the verdict rests on, a line each
  std::optional<std::string> token;
};
// What whoever gives the verdict knows besides the appraisal: id, summary and failures are of the
// appraisal, the verdict too.
VerdictRecord record_of(const Appraisal& appraisal, const AppraisalInput& input,
                        VerdictFacts facts);

sys::JsonObject to_json(const VerdictRecord& record);
sys::JsonObject to_json(const VerdictFacts& facts);  // an entry of a history
// Bounded; kInvalidArgument, kLimit. What record_of() made is read again, whatever the guest did.
Result<VerdictRecord> parse_verdict_record(std::string_view text);

// Whether it is the verdict that was due for its boot: the firmware had handed over, and nothing
// was missing that may still be had. One on demand may be, one that came too early is not.
bool is_boots_verdict(const VerdictFacts& verdict);
// Whether who started the VM under `epoch` at `since` has the answer with it: the boot's verdict,
// or that it does not come.
bool answers_start(const VerdictFacts& verdict, Micros since, Epoch epoch);
// The one of `newest_first` that does. Not the newest of all: somebody may have asked for one
// before the boot was through. nullptr: none yet.
const VerdictFacts* answer_to_start(std::span<const VerdictFacts> newest_first, Micros since,
                                    Epoch epoch);
// Nothing more is waited for: less than was asked for says more than nothing, unless it is Healthy.
const VerdictFacts* answer_at_limit(std::span<const VerdictFacts> newest_first, Micros since);

// The boot that a VM shows now.
struct PresentBoot {
  std::string id;  // empty: it has not begun
  Micros seen;     // since when it is known
  Epoch epoch;
};
// Whether a verdict is of a boot before the present one: it says nothing any more.
bool is_past(const VerdictFacts& verdict, const PresentBoot& present);

// Since when the newest verdict is what it is. `newest_first` is not empty.
Micros unchanged_since(std::span<const VerdictFacts> newest_first);

// What is to be told of a verdict that follows another.
enum class Alarm : uint8_t { kInfo, kWarning, kAlert };
struct Announcement {
  Alarm alarm = Alarm::kInfo;
  std::string kind;  // "attestation.unhealthy"
  std::string text;
};
// nullopt: nothing new. A boot is appraised as often as there is more to see: one alert for each
// thing that is wrong.
std::optional<Announcement> worth_telling(const VerdictFacts* before, const VerdictFacts& now);

}  // namespace hf::attestation
