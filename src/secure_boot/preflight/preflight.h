// Before a VM starts: what its disk would boot, who signed it, and whether this VM would let it.
//
// The boot path is followed as the programs on it do: firmware (boot entries, then the default
// EFI/BOOT/BOOTX64.EFI), shim, GRUB or systemd-boot, kernel. Where it goes on in a file system that
// is not read here (only FAT is), the report says so.
//
// Every file seen also explains digests: what will be measured into which PCR, in words. With them
// the record of a boot can be explained without an event log. docs/formats/preflight.md.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/disk/disk_reader.h"
#include "secure_boot/disk/partition_table.h"
#include "secure_boot/image/boot_program.h"
#include "secure_boot/image/image_verification.h"
#include "secure_boot/preflight/vbs_readiness.h"
#include "sys/json.h"

namespace hf::secure_boot {

inline constexpr size_t kBootPartsMax = 64;
inline constexpr uint64_t kPreflightBytesMax = uint64_t{4} << 30;  // read in all
// Hashed in all, for each byte that may be read: a program counts as file, as image and section by
// section, in the algorithms of all TPM banks.
inline constexpr uint64_t kHashedPerByteRead = 16;

// What BootNext or an entry of BootOrder names: a Boot#### variable, parsed.
struct BootOption {
  uint16_t number = 0;
  bool active = true;
  std::string description;
  std::optional<Guid> partition;  // GPT partition it names; nothing: of another kind, or none
  std::string path;               // "EFI/debian/shimx64.efi"; empty: not a file on a disk
  bool whole_device = false;      // a disk: the default path of its partitions
};

// What a VM brings to the question; a store or a profile fills in the databases.
struct PreflightInput {
  SecureBootState state;
  std::string profile;  // where the databases came from, for the report
  // In the order in which firmware tries them. The default path stands where the first whole device
  // does, else at the end.
  std::vector<BootOption> boot_order;
  std::optional<VmProfile> vm;        // for VBS readiness
  std::vector<std::string> warnings;  // of the store, for the report
  uint64_t bytes_max = kPreflightBytesMax;
  uint64_t hashed_bytes_max = kPreflightBytesMax * kHashedPerByteRead;
  // Asked at each read and each piece that is hashed: true ends it with kUnavailable. May be empty.
  std::function<bool()> stop;
};

struct SignatureReport {
  std::string signer;
  std::string issuer;
  std::string algorithm;  // of the digest
  bool covers_image = false;
  std::string error;  // it cannot be read
};

struct BootPart {
  ProgramKind kind = ProgramKind::kOther;
  uint32_t partition = 0;
  std::string path;
  std::string detail;  // "Debian GNU/Linux 12, 6.1.0-56-amd64" of a UKI
  uint64_t size_bytes = 0;
  std::string judged_by;  // "firmware", "shim"
  std::vector<SignatureReport> signatures;
  std::vector<SbatComponent> sbat;
  bool nx_compatible = false;
  std::string authenticode_sha256;  // hex
  std::string file_sha256;          // hex
  std::vector<Bytes> pkcs7;         // its signatures as they stand in it
  ImageVerdict verdict;
};

enum class Boots : uint8_t {
  kYes,
  kAsFarAsSeen,  // the rest lies where it cannot be read
  kNo,
};
std::string_view to_string(Boots boots);  // "yes", "as far as seen", "no"

struct BootPath {
  std::string name;  // "default: EFI/BOOT/BOOTX64.EFI", "Boot0001 debian"
  std::vector<BootPart> parts;
  Boots boots = Boots::kNo;
  // Something runs, or the machine stops, so that control does not come back to firmware: no later
  // path is tried, even if this one ends without a system.
  bool started = false;
  bool chosen = false;     // firmware's boot manager takes its first file, whatever comes of it
  bool elsewhere = false;  // it names a file that is not on this disk; another may hold it
  std::string reason;
  std::vector<std::string> notes;
};

enum class Generation : uint8_t { kUnknown, kGen1, kGen2 };  // BIOS and MBR; UEFI and GPT

// A digest that a measured boot of this disk can show.
struct Explanation {
  uint32_t pcr = 0;
  std::string words;
};

struct PreflightReport {
  std::string profile;
  bool enforced = true;
  PartitionStyle style = PartitionStyle::kNone;
  Generation generation = Generation::kUnknown;
  bool boot_code = false;  // BIOS boot code in the first sector
  std::vector<Partition> partitions;
  std::vector<std::string> warnings;
  std::vector<BootPath> paths;  // in firmware's order
  Boots boots = Boots::kNo;
  std::string summary;  // one sentence
  std::optional<VbsReadiness> vbs;

  // Digest (hex, of every TPM bank's algorithm) → what it is of. For appraisal without event log.
  const std::multimap<std::string, Explanation>& explanations() const { return explained; }
  // What lets each part start, in boot order: for the prediction of PCR 7.
  std::vector<Authority> authorities() const;

  std::multimap<std::string, Explanation> explained;
};

// The path that firmware ends in: the first that it does not come back from, else the first; its
// programs are measured, whether they start a system or not. nullptr: there is none.
const BootPath* deciding_path(const PreflightReport& report);

// kCorrupt, kUnsupported: the disk cannot be read, and why. A disk that does not boot is a report.
// kUnavailable: stopped.
Result<PreflightReport> preflight(BlockSource& disk, const PreflightInput& input);

// Names and texts of the disk's, cleaned and cut for terminals, logs and JSON. preflight() has done
// it.
void make_printable(PreflightReport& report);
sys::JsonObject to_json(const PreflightReport& report);
std::string in_words(const PreflightReport& report);  // lines for a terminal

}  // namespace hf::secure_boot
