// A boot as its measurements tell it: one list of extends up to the operating system's start, from
// an event log, from the keeper's record, or from both. Baseline, policy and prediction work on
// this.
//
// What a measurement is said to be comes from bytes that its digest proves, from the digest being
// that of something known (a separator, a firmware action, a variable's content, a file of the
// disk), and from its place. The event's type, and data that no digest covers, are never looked at:
// whoever could write the log could have written them.
#pragma once

#include <bitset>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attestation/log/extend_record.h"
#include "attestation/log/pcr.h"
#include "base/bytes.h"
#include "base/result.h"

namespace hf::attestation {

class EventLog;
class KnownVariables;

enum class MeasurementKind : uint8_t {
  kOther,
  kSeparator,
  kAction,            // a firmware action: "Calling EFI Application from Boot Option"
  kExitBootServices,  // the action by which the operating system takes over
  kKeyVariable,       // SecureBoot, PK, KEK, db, dbx … in PCR 7
  kAuthority,         // what vouched for a program, in PCR 7: an entry of db, MOK, shim's own
  kShimState,         // SbatLevel, MokSBState in PCR 7
  kBootVariable,      // Boot####, BootOrder in PCR 1
  kProgram,           // an image loaded: PCR 2 and 4
  kKernelCommandLine,
  kText,  // a command or a name that firmware or a loader measured
  kFile,  // PCR 9: a file read
  kMok,   // shim's lists in PCR 14
  kRoleMarker,
};
std::string_view name_of(MeasurementKind kind);
std::optional<MeasurementKind> parse_measurement_kind(std::string_view name);

// Views: alive as long as the log, the record and the MeasuredBoot they came from.
struct Measurement {
  uint8_t pcr = 0;
  uint32_t nth = 0;                // in its PCR, from 1
  std::optional<uint32_t> event;   // its number in the log
  std::optional<uint64_t> extend;  // its number in the record
  ByteSpan digest;                 // in the boot's bank
  ByteSpan covered;                // the data its digest proves, if there is any
  MeasurementKind kind = MeasurementKind::kOther;
  std::string name;  // of a variable or action, as ASCII
  ByteSpan content;  // of a variable
  std::string text;  // a command line or command, in UTF-8
  // False: it stands behind the operating system's start, where such registers are the system's;
  // but nothing vouches for that order, so it may be of the boot.
  bool placed = true;
};

// A file of the guest's disk, as the preflight read it: explains the digest it would be measured
// as.
struct FileExplanation {
  Bytes digest;                      // Authenticode digest of a program, or of the file's bytes
  std::string what;                  // "GRUB 2.06", "Linux 6.1.0-44-amd64"
  std::string path;                  // "EFI/debian/grubx64.efi"
  std::vector<std::string> signers;  // common names, first signature first
};

// Secure Boot variables by name ("PK", "KEK", "db", "dbx", "MokList" …): content, without
// attributes.
using KeyVariables = std::map<std::string, Bytes, std::less<>>;

inline constexpr size_t kMeasurementsMax = kExtendsMax;

class MeasuredBoot {
 public:
  struct Source {
    const EventLog* log = nullptr;
    const ExtendRecord* record = nullptr;
    const KeyVariables* variables = nullptr;  // to recognise digests by, where there is no log
    // Measurements of other registers are left out: nothing vouches for them.
    std::bitset<kPcrCount> pcrs = std::bitset<kPcrCount>().set();
    // The record comes from whoever is judged: a quote vouches for each register's extends, not for
    // their order across registers. So nothing counts as made after the boot where only firmware
    // and loaders extend, and in the other registers only what is known to be the system's.
    bool order_vouched = true;
  };
  // At least one of log and record. With both, the record says what was extended and the log adds
  // data; that they agree is the caller's check. kNotFound: the source lacks the bank.
  static Result<MeasuredBoot> from(const Source& source, HashAlg bank);
  MeasuredBoot(MeasuredBoot&&) noexcept = default;
  MeasuredBoot& operator=(MeasuredBoot&&) noexcept = default;

  HashAlg bank() const { return bank_; }
  const std::vector<Measurement>& measurements() const { return measurements_; }
  const std::bitset<kPcrCount>& pcrs() const { return pcrs_; }
  // Measurements of different registers stand in the order in which they were made.
  bool order_vouched() const { return order_vouched_; }
  // The operating system took over. A log alone was read by one.
  bool exited_boot_services() const { return exited_ || !recorded_; }
  // Registers with measurements that are not placed: what the boot measured into them is not known.
  const std::bitset<kPcrCount>& unplaced() const { return unplaced_; }

 private:
  friend class MeasuredBootBuilder;
  MeasuredBoot() = default;
  HashAlg bank_ = HashAlg::kSha256;
  bool exited_ = false;
  bool recorded_ = false;
  bool order_vouched_ = false;
  std::bitset<kPcrCount> pcrs_;
  std::bitset<kPcrCount> unplaced_;
  std::vector<Measurement> measurements_;
  std::shared_ptr<const KnownVariables> known_;  // what recognised measurements point into
};

}  // namespace hf::attestation
