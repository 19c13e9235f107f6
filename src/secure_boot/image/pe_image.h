// PE/COFF images as UEFI firmware reads them: headers, sections, the Authenticode digest, the
// attribute certificate table.
//
// Sources: Microsoft, "PE Format"; "Windows Authenticode Portable Executable Signature Format"
// (2008); UEFI 2.10, 32.2.5. Where these leave room, edk2 decides, since it is the firmware:
// BasePeCoffLib (what is refused) and DxeImageVerificationLib (what is hashed). An image that it
// refuses is refused here, with the reason.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/efi/image_digest.h"

namespace hf::secure_boot {

inline constexpr size_t kPeBytesMax = size_t{512} << 20;  // a UKI carries a kernel and an initrd
inline constexpr size_t kPeSectionsMax = 256;
inline constexpr size_t kPeCertificatesMax = 64;

inline constexpr uint16_t kPeMachineX64 = 0x8664;
inline constexpr uint16_t kPeSubsystemEfiApplication = 10;
inline constexpr uint16_t kPeSubsystemEfiRuntimeDriver = 12;  // 11: driver for boot services
inline constexpr uint16_t kPeNxCompatible = 0x0100;           // of DllCharacteristics

struct PeSection {
  std::string name;       // up to the first NUL, at most 8 bytes
  std::string long_name;  // if `name` refers to the string table ("/26"): ".vendor_cert"
  uint32_t virtual_size = 0;
  uint32_t virtual_address = 0;
  uint32_t raw_size = 0;
  uint32_t raw_offset = 0;
  bool has_relocations = false;
};

// An entry of the attribute certificate table.
struct WinCertificate {
  static constexpr uint16_t kPkcsSignedData = 0x0002;
  static constexpr uint16_t kEfiGuid = 0x0EF1;
  uint32_t offset = 0;  // in the file
  uint32_t length = 0;  // with its header
  uint16_t revision = 0;
  uint16_t type = 0;
  ByteSpan pkcs7;  // the signature itself; empty for types that firmware passes over
};

struct CertificateTable {
  std::vector<WinCertificate> entries;
  // The entries fill the table exactly; firmware refuses the image otherwise, whatever it found.
  bool whole = true;
};

// How trailing bytes of an image without certificate table are hashed: firmware takes them as they
// are, shim (and the tools that sign) as if padded with zeros to a multiple of 8.
enum class DigestPadding : uint8_t { kFirmware, kShim };

struct FileRange {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// A view: the file's bytes must outlive it.
class PeImage {
 public:
  // kInvalidArgument: not a PE image that firmware would load; kLimit: larger than our bounds.
  // Hashing counts against `budget`, which must outlive it, too.
  static Result<PeImage> parse(ByteSpan file, HashBudget* budget = nullptr);

  ByteSpan file() const { return file_; }
  uint16_t machine() const { return machine_; }
  uint16_t subsystem() const { return subsystem_; }
  bool is_pe32_plus() const { return plus_; }
  bool nx_compatible() const { return (dll_characteristics_ & kPeNxCompatible) != 0; }
  // Of memory, bytes: no section that is loaded reaches beyond.
  uint32_t size_of_image() const { return size_of_image_; }
  const std::vector<PeSection>& sections() const { return sections_; }
  // The first of that name, short or long.
  const PeSection* section(std::string_view name) const;
  // What of the section is in the file, no longer than its virtual size.
  ByteSpan content(const PeSection& section) const;
  // The attribute certificate table as the header has it; size 0: the image is not signed.
  FileRange certificate_range() const { return certificates_; }
  bool is_signed() const { return certificates_.size != 0; }
  CertificateTable certificate_table() const;

  // What the digest covers, in its order; sections that overlap are covered twice.
  // kInvalidArgument: sections and certificate table exceed the file, so that firmware refuses it;
  // or all is covered more than twice over, which nothing does that was made to be started.
  Result<std::vector<FileRange>> hashed_ranges() const;
  // Computed once; not to be called from two threads at a time. Errors of hashed_ranges() and of
  // the budget.
  Result<Bytes> authenticode_digest(DigestAlgorithm algorithm,
                                    DigestPadding padding = DigestPadding::kFirmware) const;
  // shim's further demand: nothing stands behind the certificate table.
  bool certificates_end_file() const {
    return !is_signed() || certificates_.offset + certificates_.size == file_.size();
  }

 private:
  Status parse_headers();
  Status parse_sections(size_t table_offset, uint16_t count);
  std::string long_name(std::string_view reference) const;

  ByteSpan file_;
  HashBudget* budget_ = nullptr;
  bool plus_ = false;
  uint16_t machine_ = 0;
  uint16_t subsystem_ = 0;
  uint16_t dll_characteristics_ = 0;
  uint32_t size_of_headers_ = 0;
  uint32_t size_of_image_ = 0;
  uint64_t string_table_ = 0;  // offset in the file; 0: none
  size_t checksum_offset_ = 0;
  std::optional<size_t> certificate_entry_offset_;  // of the data directory's entry
  FileRange certificates_;
  std::vector<PeSection> sections_;
  mutable std::map<std::pair<DigestAlgorithm, DigestPadding>, Bytes> digests_;
};

}  // namespace hf::secure_boot
