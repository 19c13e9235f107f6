// The firmware's event log: what it says was extended into which PCR, and in which order.
//
// Two formats (TCG PC Client Platform Firmware Profile 1.05 rev 23, §9 and §10; docs/formats/
// event-log.md): crypto-agile, with a digest per bank, and the older one with SHA-1 only. A log is
// the guest's word until its replay gives the PCR values of a quote; even then only the digests and
// what they cover (Event::cover) are proven. Types, tags, names of files and device paths are not.
//
// parse() is bounded: a structure that cannot be read is an error (kCorrupt, kLimit) that names the
// event's number, counted from 0 with the header, as tpm2_eventlog counts. A single event that
// nothing proves is no error: see event_cover.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "attestation/log/pcr.h"
#include "base/result.h"

namespace hf::attestation {

inline constexpr size_t kLogSizeMax = size_t{4} << 20;
inline constexpr size_t kEventDataSizeMax = size_t{1} << 20;
inline constexpr size_t kEventsMax = 16384;
inline constexpr size_t kBanksMax = 8;
// What EV_NO_ACTION events of Windows name instead of a PCR.
inline constexpr uint32_t kNoPcr = 0xffffffff;

enum class EventType : uint32_t {
  kPrebootCert = 0x0,
  kPostCode = 0x1,
  kUnused = 0x2,
  kNoAction = 0x3,
  kSeparator = 0x4,
  kAction = 0x5,
  kEventTag = 0x6,
  kSCrtmContents = 0x7,
  kSCrtmVersion = 0x8,
  kCpuMicrocode = 0x9,
  kPlatformConfigFlags = 0xa,
  kTableOfDevices = 0xb,
  kCompactHash = 0xc,
  kIpl = 0xd,
  kIplPartitionData = 0xe,
  kNonhostCode = 0xf,
  kNonhostConfig = 0x10,
  kNonhostInfo = 0x11,
  kOmitBootDeviceEvents = 0x12,
  kPostCode2 = 0x13,
  kEfiVariableDriverConfig = 0x80000001,
  kEfiVariableBoot = 0x80000002,
  kEfiBootServicesApplication = 0x80000003,
  kEfiBootServicesDriver = 0x80000004,
  kEfiRuntimeServicesDriver = 0x80000005,
  kEfiGptEvent = 0x80000006,
  kEfiAction = 0x80000007,
  kEfiPlatformFirmwareBlob = 0x80000008,
  kEfiHandoffTables = 0x80000009,
  kEfiPlatformFirmwareBlob2 = 0x8000000a,
  kEfiHandoffTables2 = 0x8000000b,
  kEfiVariableBoot2 = 0x8000000c,
  kEfiGptEvent2 = 0x8000000d,
  kEfiHcrtmEvent = 0x80000010,
  kEfiVariableAuthority = 0x800000e0,
  kEfiSpdmFirmwareBlob = 0x800000e1,
  kEfiSpdmFirmwareConfig = 0x800000e2,
  kEfiSpdmDevicePolicy = 0x800000e3,
  kEfiSpdmDeviceAuthority = 0x800000e4,
};
std::string name_of(EventType type);  // "EV_SEPARATOR"; "type 0x12345678" if unknown

// A digest inside the log. `alg` may be one that size_of() does not know.
struct DigestView {
  HashAlg alg = HashAlg::kSha256;
  ByteSpan bytes;
};

// Which part of an event's data its digests are the hash of. Found by hashing, for every known bank
// alike; never by what the data says.
enum class CoverForm : uint8_t {
  kNone,          // the digests are of something that is not in the log, such as a loaded image
  kWhole,         // of all the data
  kPart,          // of `bytes` only: see event_cover.h for the forms
  kSectionName,   // of the data's text as ASCII with its final NUL (names of UKI sections)
  kContradiction  // of the data in one bank and not in another: it proves nothing
};
struct Cover {
  CoverForm form = CoverForm::kNone;
  ByteSpan bytes;  // the proven part of the data (kSectionName: all of it); empty for the others
  bool covered() const {
    return form == CoverForm::kWhole || form == CoverForm::kPart || form == CoverForm::kSectionName;
  }
};

struct Event {
  size_t number = 0;       // from 0, the header included
  size_t byte_offset = 0;  // in the log
  uint32_t pcr = 0;        // < kPcrCount, or anything for EV_NO_ACTION
  EventType type{};
  ByteSpan data;
  Cover cover;
  std::array<DigestView, kBanksMax> digest_slots{};
  size_t digest_count = 0;

  std::span<const DigestView> digests() const {
    return std::span(digest_slots).first(digest_count);
  }
  // Empty if the event has none of this bank: it does not extend it then.
  ByteSpan digest(HashAlg alg) const;
  bool measured() const { return type != EventType::kNoAction; }  // it changes its PCR
};

enum class LogFormat : uint8_t { kCryptoAgile, kSha1 };

// Owns the bytes that its events point into; moves, does not copy.
class EventLog {
 public:
  static Result<EventLog> parse(ByteSpan bytes);
  EventLog(EventLog&&) noexcept = default;
  EventLog& operator=(EventLog&&) noexcept = default;
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  LogFormat format() const { return format_; }
  const std::vector<Event>& events() const { return events_; }
  // Those that the header declares, any event extends, and this code can replay. Not each event
  // need have them all.
  const std::vector<HashAlg>& banks() const { return banks_; }
  bool has_bank(HashAlg alg) const;
  uint8_t startup_locality() const { return startup_locality_; }
  ByteSpan bytes() const { return bytes_; }

 private:
  friend class EventLogParser;
  EventLog() = default;
  Bytes bytes_;
  LogFormat format_ = LogFormat::kSha1;
  uint8_t startup_locality_ = 0;
  std::vector<HashAlg> banks_;
  std::vector<Event> events_;
};

// The PCR values that the log's events lead to, as tpm2-tools and go-eventlog compute them: an
// event extends the banks that it has digests of. kNotFound if the log has no such bank.
Result<PcrBank> replay(const EventLog& log, HashAlg alg);

}  // namespace hf::attestation
