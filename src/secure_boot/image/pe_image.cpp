#include "secure_boot/image/pe_image.h"

#include <algorithm>

namespace hf::secure_boot {
namespace {

// Offsets from the PE signature, and within the optional header.
constexpr size_t kSignatureAndCoffHeader = 24;
constexpr size_t kLargestHeaders = kSignatureAndCoffHeader + 240;  // PE32+ with 16 directories
constexpr size_t kDosHeader = 64;
constexpr size_t kOptionalSizeOfImage = 56;
constexpr size_t kOptionalSizeOfHeaders = 60;
constexpr size_t kOptionalCheckSum = 64;
constexpr size_t kOptionalSubsystem = 68;
constexpr size_t kOptionalDllCharacteristics = 70;
constexpr size_t kDirectoriesMax = 16;
constexpr size_t kSecurityDirectory = 4;
constexpr size_t kDirectorySize = 8;
constexpr size_t kSectionHeaderSize = 40;
constexpr size_t kSymbolSize = 18;
constexpr size_t kLongNameMax = 64;
constexpr size_t kWinCertificateHeader = 8;
constexpr size_t kGuidSize = 16;

// EFI_CERT_TYPE_PKCS7_GUID, 4aafd29d-68df-49ee-8aa9-347d375665a7.
constexpr unsigned char kPkcs7Guid[kGuidSize] = {0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49,
                                                 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7};

Error refused(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

}  // namespace

Result<PeImage> PeImage::parse(ByteSpan file, HashBudget* budget) {
  if (file.size() > kPeBytesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "an EFI program of more than 512 MiB"};
  }
  PeImage image;
  image.file_ = file;
  image.budget_ = budget;
  TRY(image.parse_headers());
  return image;
}

Status PeImage::parse_headers() {
  if (file_.size() < kDosHeader) return refused("too short for an EFI program");
  size_t pe = 0;
  if (load_le<uint16_t>(file_.data()) == 0x5A4D) pe = load_le<uint32_t>(file_.data() + 60);
  if (pe > file_.size() || file_.size() - pe < kLargestHeaders) {
    return refused("not an EFI program: no room for PE headers");
  }
  const std::byte* coff = file_.data() + pe;
  if (load_le<uint32_t>(coff) != 0x00004550) return refused("not an EFI program: no PE signature");
  const std::byte* optional = coff + kSignatureAndCoffHeader;
  const uint16_t magic = load_le<uint16_t>(optional);
  if (magic != 0x10B && magic != 0x20B) return refused("a PE optional header of unknown magic");
  plus_ = magic == 0x20B;

  machine_ = load_le<uint16_t>(coff + 4);
  const uint16_t section_count = load_le<uint16_t>(coff + 6);
  const uint32_t symbols_at = load_le<uint32_t>(coff + 12);
  if (symbols_at != 0) {
    string_table_ = symbols_at + uint64_t{load_le<uint32_t>(coff + 16)} * kSymbolSize;
  }
  const uint16_t optional_size = load_le<uint16_t>(coff + 20);
  const size_t fixed = plus_ ? 112 : 96;
  const uint32_t directories = load_le<uint32_t>(optional + fixed - 4);
  if (directories > kDirectoriesMax) return refused("more than 16 PE data directories");
  if (optional_size != fixed + directories * kDirectorySize) {
    return refused("a PE optional header whose size is not that of its data directories");
  }
  const uint64_t sections_at = pe + kSignatureAndCoffHeader + optional_size;
  size_of_image_ = load_le<uint32_t>(optional + kOptionalSizeOfImage);
  size_of_headers_ = load_le<uint32_t>(optional + kOptionalSizeOfHeaders);
  if (section_count > kPeSectionsMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a PE image with more than 256 sections"};
  }
  if (size_of_image_ <= sections_at ||
      (size_of_image_ - sections_at) / kSectionHeaderSize <= section_count ||
      size_of_headers_ <= sections_at || size_of_headers_ >= size_of_image_ ||
      (size_of_headers_ - sections_at) / kSectionHeaderSize < section_count ||
      size_of_headers_ > file_.size()) {
    return refused("PE headers that do not fit their own sizes");
  }
  checksum_offset_ = pe + kSignatureAndCoffHeader + kOptionalCheckSum;
  subsystem_ = load_le<uint16_t>(optional + kOptionalSubsystem);
  dll_characteristics_ = load_le<uint16_t>(optional + kOptionalDllCharacteristics);
  if (directories > kSecurityDirectory) {
    const size_t entry = fixed + kSecurityDirectory * kDirectorySize;
    certificate_entry_offset_ = pe + kSignatureAndCoffHeader + entry;
    certificates_.offset = load_le<uint32_t>(optional + entry);
    certificates_.size = load_le<uint32_t>(optional + entry + 4);
    if (certificates_.size != 0 && certificates_.offset + certificates_.size > file_.size()) {
      return refused("a certificate table that reaches beyond the end of the file (cut short?)");
    }
  }
  return parse_sections(sections_at, section_count);
}

Status PeImage::parse_sections(size_t table_offset, uint16_t count) {
  sections_.reserve(count);
  for (size_t index = 0; index < count; ++index) {
    // Inside the headers, which are inside the file.
    const std::byte* raw = file_.data() + table_offset + index * kSectionHeaderSize;
    std::string_view name = as_text(ByteSpan(raw, 8));
    PeSection section;
    section.name = name.substr(0, name.find('\0'));
    if (section.name.starts_with('/')) section.long_name = long_name(section.name);
    section.virtual_size = load_le<uint32_t>(raw + 8);
    section.virtual_address = load_le<uint32_t>(raw + 12);
    section.raw_size = load_le<uint32_t>(raw + 16);
    section.raw_offset = load_le<uint32_t>(raw + 20);
    section.has_relocations = load_le<uint32_t>(raw + 24) != 0 || load_le<uint16_t>(raw + 32) != 0;
    if (section.raw_size != 0) {
      if (section.virtual_address < size_of_headers_ || section.raw_offset < size_of_headers_) {
        return refused("a PE section that lies over the headers");
      }
      if (uint64_t{section.raw_offset} + section.raw_size > file_.size()) {
        return refused("a PE section that reaches beyond the end of the file (cut short?)");
      }
    }
    sections_.push_back(std::move(section));
  }
  return {};
}

// "/26": the NUL-terminated name at byte 26 of the string table, which is no part of what firmware
// looks at. Empty if it does not lead there.
std::string PeImage::long_name(std::string_view reference) const {
  uint64_t offset = 0;
  for (char c : reference.substr(1)) {
    if (c < '0' || c > '9') return {};
    offset = offset * 10 + static_cast<uint64_t>(c - '0');
  }
  if (string_table_ == 0 || offset < 4 || string_table_ + offset >= file_.size()) return {};
  const std::string_view text =
      as_text(file_.subspan(string_table_ + offset)).substr(0, kLongNameMax);
  const size_t end = text.find('\0');
  return end == std::string_view::npos ? std::string() : std::string(text.substr(0, end));
}

const PeSection* PeImage::section(std::string_view name) const {
  auto found = std::ranges::find_if(sections_, [&](const PeSection& section) {
    return section.name == name || (!section.long_name.empty() && section.long_name == name);
  });
  return found == sections_.end() ? nullptr : &*found;
}

ByteSpan PeImage::content(const PeSection& section) const {
  if (section.raw_size == 0) return {};
  HF_ASSERT(uint64_t{section.raw_offset} + section.raw_size <= file_.size());
  const uint32_t size = section.virtual_size == 0
                            ? section.raw_size
                            : std::min(section.raw_size, section.virtual_size);
  return file_.subspan(section.raw_offset, size);
}

CertificateTable PeImage::certificate_table() const {
  CertificateTable table;
  uint64_t at = certificates_.offset;
  const uint64_t end = certificates_.offset + certificates_.size;
  // Like firmware: an entry that cannot be one ends the walk, and the table is then not whole.
  while (is_signed() && at < end) {
    const uint64_t left = end - at;
    if (left <= kWinCertificateHeader || table.entries.size() == kPeCertificatesMax) break;
    const std::byte* raw = file_.data() + at;
    WinCertificate entry;
    entry.offset = static_cast<uint32_t>(at);
    entry.length = load_le<uint32_t>(raw);
    entry.revision = load_le<uint16_t>(raw + 4);
    entry.type = load_le<uint16_t>(raw + 6);
    const uint64_t padded = (uint64_t{entry.length} + 7) & ~uint64_t{7};
    if (entry.length < kWinCertificateHeader || left < padded) break;
    const ByteSpan body =
        file_.subspan(at + kWinCertificateHeader, entry.length - kWinCertificateHeader);
    if (entry.type == WinCertificate::kPkcsSignedData) {
      if (body.empty()) break;
      entry.pkcs7 = body;
    } else if (entry.type == WinCertificate::kEfiGuid) {
      if (body.size() <= kGuidSize) break;
      if (std::ranges::equal(body.first(kGuidSize), std::as_bytes(std::span(kPkcs7Guid)))) {
        entry.pkcs7 = body.subspan(kGuidSize);
      }
    }
    table.entries.push_back(entry);
    at += padded;
  }
  table.whole = !is_signed() || at == end;
  return table;
}

Result<std::vector<FileRange>> PeImage::hashed_ranges() const {
  std::vector<FileRange> ranges;
  ranges.push_back({.offset = 0, .size = checksum_offset_});
  uint64_t at = checksum_offset_ + 4;
  if (certificate_entry_offset_) {
    ranges.push_back({.offset = at, .size = *certificate_entry_offset_ - at});
    at = *certificate_entry_offset_ + kDirectorySize;
  }
  HF_ASSERT(size_of_headers_ >= at);
  ranges.push_back({.offset = at, .size = size_of_headers_ - at});

  // By place in the file; sections at the same place stay in their order.
  std::vector<std::pair<uint32_t, uint32_t>> order;
  for (uint32_t index = 0; index < sections_.size(); ++index) {
    if (sections_[index].raw_size != 0) order.emplace_back(sections_[index].raw_offset, index);
  }
  std::ranges::sort(order);
  uint64_t hashed = size_of_headers_;
  for (const auto& [offset, index] : order) {
    ranges.push_back({.offset = offset, .size = sections_[index].raw_size});
    hashed += sections_[index].raw_size;
  }
  if (hashed > 2 * uint64_t{file_.size()}) return refused("sections that lie over each other");
  if (file_.size() > hashed) {
    if (file_.size() < hashed + certificates_.size) {
      return refused("sections and certificate table that overlap");
    }
    const uint64_t rest = file_.size() - certificates_.size - hashed;
    if (rest != 0) ranges.push_back({.offset = hashed, .size = rest});
  }
  return ranges;
}

Result<Bytes> PeImage::authenticode_digest(DigestAlgorithm algorithm, DigestPadding padding) const {
  if (auto known = digests_.find({algorithm, padding}); known != digests_.end()) {
    return known->second;
  }
  HashBudget unbounded;
  HashBudget& budget = budget_ == nullptr ? unbounded : *budget_;
  DigestStream stream(algorithm);
  uint64_t end = 0;
  for (const FileRange& range : TRY(hashed_ranges())) {
    TRY(update(stream, file_.subspan(range.offset, range.size), budget));
    end = range.offset + range.size;
  }
  if (padding == DigestPadding::kShim && !is_signed() && end % 8 != 0) {
    const std::byte zeros[8] = {};
    stream.update(ByteSpan(zeros).first(8 - end % 8));
  }
  return digests_[{algorithm, padding}] = stream.finish();
}

}  // namespace hf::secure_boot
