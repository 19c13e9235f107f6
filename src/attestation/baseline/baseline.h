// What a VM's boots are expected to measure: learned from boots that somebody accepted, and from
// changes announced before they happen. docs/formats/baseline.md.
//
// A baseline holds a few whole boots (two kernels to choose from are two boots). A boot agrees with
// it if it agrees with one of them, or with one as changed by a planned change that has not
// expired. Only the stretch up to the operating system's start counts; what runs later extends as
// it likes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/boot/measured_boot.h"
#include "attestation/policy/policy.h"
#include "base/ids.h"

namespace hf::attestation {

inline constexpr size_t kBaselineJsonMax = size_t{768} << 10;
inline constexpr size_t kBaselineBootsMax = 4;
inline constexpr size_t kBaselineEntriesMax = 8192;  // of one boot
inline constexpr size_t kPlannedChangesMax = 16;
inline constexpr size_t kBaselineTextMax = 4096;

struct BaselineEntry {
  uint8_t pcr = 0;
  Bytes digest;
  MeasurementKind kind = MeasurementKind::kOther;
  std::string what;                  // in words; empty if nobody could say
  std::vector<std::string> signers;  // of a program, where the disk was read
  std::string text;                  // a command or command line
  bool operator==(const BaselineEntry&) const = default;
};

struct BaselineBoot {
  std::string boot_id;  // of the keeper's record; may be empty
  Micros learned;
  HashAlg bank = HashAlg::kSha256;
  std::vector<BaselineEntry> entries;
  KeyVariables variables;  // PK, KEK, db, dbx as measured, where known
  bool operator==(const BaselineBoot&) const = default;
};

// A change that somebody said would come, with what the next boot will then measure.
struct PlannedChange {
  struct Digests {  // this digest becomes that one
    uint8_t pcr = 0;
    Bytes was;
    Bytes is;
    std::string what;
    bool operator==(const Digests&) const = default;
  };
  struct Text {  // in every measured text: "6.1.0-43-amd64" becomes "6.1.0-44-amd64"
    std::string was;
    std::string is;
    bool operator==(const Text&) const = default;
  };
  struct Sequence {  // a whole PCR: PCR 7 as predicted after a change of keys
    uint8_t pcr = 0;
    std::vector<BaselineEntry> entries;
    bool operator==(const Sequence&) const = default;
  };
  std::string id;  // chosen by announce() if empty
  std::string why;
  Micros announced;
  Micros expires;
  std::vector<Digests> digests;
  std::vector<Text> texts;
  std::vector<Sequence> sequences;
  KeyVariables variables;  // what PK, KEK, db, dbx will be; empty if they stay
  // What these PCRs will hold cannot be known before: any change is taken while PCR 7 stays (or
  // becomes what `sequences` says), once.
  std::vector<uint8_t> open_pcrs;
  // GRUB's configuration will be another (update-grub): its commands in PCR 8 and what it reads
  // before it loads a kernel, in PCR 9. Not the kernel, initrd, nor the kernel's command line. As
  // with `open_pcrs`, once and under the same PCR 7.
  bool grub_config = false;
  bool operator==(const PlannedChange&) const = default;
};

struct Baseline {
  std::vector<BaselineBoot> boots;  // oldest first
  std::vector<PlannedChange> planned;
  bool operator==(const Baseline&) const = default;
};

enum class Weight : uint8_t { kNote, kFailure };
struct Difference {
  enum class Kind : uint8_t { kChanged, kAdded, kMissing };
  Kind kind = Kind::kChanged;
  Weight weight = Weight::kFailure;
  uint8_t pcr = 0;
  uint32_t nth = 0;  // in its PCR, from 1: of the boot, or of the baseline for kMissing
  std::optional<uint32_t> event;
  std::optional<uint64_t> extend;
  std::string was;    // in words; empty for kAdded
  std::string is;     // empty for kMissing
  std::string code;   // "program_changed", "command_line_changed", "db_changed", …
  std::string words;  // a sentence
};

struct BaselineMatch {
  size_t boot = 0;                   // index of the accepted boot that is nearest
  std::vector<std::string> planned;  // ids of the planned changes that this boot has carried out
  std::vector<Difference> differences;
  bool agrees() const;  // none of weight kFailure
};

// What to know a measurement by, besides its bytes.
struct Explanations {
  std::span<const FileExplanation> files;
  const FileExplanation* find(ByteSpan digest) const;
};

// kInvalidArgument if the boot did not reach the operating system's start (nothing to learn).
Result<BaselineBoot> learn(const MeasuredBoot& boot, const Explanations& explanations,
                           std::string boot_id, Micros now);
std::vector<Difference> compare(const BaselineBoot& expected, const MeasuredBoot& boot,
                                const Policy& policy, const Explanations& explanations);
// Against every accepted boot, and each as planned changes that have not expired make it: the best.
// Of the planned changes only those count without which more differs. The baseline
// must have a boot. kUnsupported: none of its boots has the boot's bank.
Result<BaselineMatch> best_match(const Baseline& baseline, const MeasuredBoot& boot,
                                 const Policy& policy, const Explanations& explanations,
                                 Micros now);

enum class AcceptMode : uint8_t { kReplace, kAdd };
// kReplace: this boot is the baseline now. kAdd: this one as well; the oldest goes if they are
// many.
void accept(Baseline& baseline, BaselineBoot boot, AcceptMode mode);
// kInvalidArgument, kLimit; expired ones are dropped first. Returns the change's id.
Result<std::string> announce(Baseline& baseline, PlannedChange change, Micros now);
// The planned changes that `match` found carried out came: `boot` is learned in the place of the
// boot it was matched with, and the others are expected as the changes make them. kNotFound.
Status consume(Baseline& baseline, const BaselineMatch& match, BaselineBoot boot);
Status withdraw(Baseline& baseline, std::string_view planned_id);
// The boot as the change will make it.
BaselineBoot expected_after(const BaselineBoot& boot, const PlannedChange& change);

Result<Baseline> parse_baseline(std::string_view json);
Result<Baseline> baseline_from(const sys::JsonObject& object);
sys::JsonObject to_json(const Baseline& baseline);
Result<PlannedChange> planned_change_from(const sys::JsonObject& object);
sys::JsonObject to_json(const PlannedChange& change);

}  // namespace hf::attestation
