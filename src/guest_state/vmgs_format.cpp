#include "guest_state/vmgs_format.h"

#include <zlib.h>

#include <algorithm>

namespace hf::guest_state {
namespace {

constexpr std::string_view kSignature = "GUESTRTS";

// Offsets of the header (168 bytes).
constexpr size_t kVersionAt = 8, kChecksumAt = 12, kSequenceAt = 16, kHeaderSizeAt = 20;
constexpr size_t kTableAt = 24, kTableSizeAt = 28, kAlgorithmAt = 32, kMarkersAt = 34;
constexpr size_t kKeysAt = 36, kKeySlotSize = 64;
static_assert(kKeysAt + 2 * kKeySlotSize + 4 == kVmgsHeaderSize);

// Offsets of a file table entry and of an extended one (64 bytes each).
constexpr size_t kEntrySize = 64, kNonceAt = 16, kTagAt = 28, kAttributesAt = 44;
constexpr size_t kExtendedKeyAt = 4;
static_assert(kEntrySize * kVmgsFiles == kVmgsBlock);

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

uint32_t checksum(ByteSpan header) {
  std::array<std::byte, kVmgsHeaderSize> copy;
  std::copy_n(header.begin(), kVmgsHeaderSize, copy.begin());
  store_le<uint32_t>(&copy[kChecksumAt], 0);
  return static_cast<uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(copy.data()), kVmgsHeaderSize));
}

template <typename Array>
void put(std::byte* to, const Array& from) {
  std::copy(from.begin(), from.end(), to);
}
template <typename Array>
void take(const std::byte* from, Array& to) {
  std::copy_n(from, to.size(), to.begin());
}

}  // namespace

bool VmgsKeySlot::in_use() const {
  return std::ranges::any_of(wrapped, [](std::byte b) { return b != std::byte{0}; });
}

void encode_vmgs_header(const VmgsHeader& header, MutableByteSpan out) {
  HF_ASSERT(out.size() >= kVmgsHeaderSize);
  std::ranges::fill(out, std::byte{0});
  put(out.data(), as_bytes(kSignature));
  store_le<uint32_t>(&out[kVersionAt], kVmgsVersion3);
  store_le<uint32_t>(&out[kSequenceAt], header.sequence);
  store_le<uint32_t>(&out[kHeaderSizeAt], kVmgsHeaderSize);
  store_le<uint32_t>(&out[kTableAt], header.file_table_block);
  store_le<uint32_t>(&out[kTableSizeAt], 1);
  store_le<uint16_t>(&out[kAlgorithmAt], static_cast<uint16_t>(header.algorithm));
  store_le<uint16_t>(&out[kMarkersAt], header.markers);
  for (size_t i = 0; i < header.keys.size(); ++i) {
    std::byte* slot = &out[kKeysAt + i * kKeySlotSize];
    put(slot, header.keys[i].nonce);
    put(slot + 16, header.keys[i].tag);
    put(slot + 32, header.keys[i].wrapped);
  }
  store_le<uint32_t>(&out[kChecksumAt], checksum(out));
}

Result<VmgsHeader> decode_vmgs_header(ByteSpan raw) {
  if (raw.size() < kVmgsHeaderSize) return corrupt("header is cut off");
  if (as_text(raw.first(8)) != kSignature) return corrupt("header signature is not GUESTRTS");
  if (load_le<uint32_t>(&raw[kVersionAt]) != kVmgsVersion3) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "header version is not 3.0"};
  }
  if (load_le<uint32_t>(&raw[kHeaderSizeAt]) != kVmgsHeaderSize) return corrupt("header size");
  VmgsHeader header;
  header.file_table_block = load_le<uint32_t>(&raw[kTableAt]);
  if (header.file_table_block < kVmgsFirstBlock) return corrupt("file table lies in the headers");
  if (load_le<uint32_t>(&raw[kTableSizeAt]) != 1) return corrupt("file table size is not 1 block");
  const auto algorithm = load_le<uint16_t>(&raw[kAlgorithmAt]);
  if (algorithm > 1) return corrupt("unknown encryption algorithm");
  if (load_le<uint32_t>(&raw[kChecksumAt]) != checksum(raw)) return corrupt("header CRC differs");
  header.algorithm = static_cast<VmgsAlgorithm>(algorithm);
  header.sequence = load_le<uint32_t>(&raw[kSequenceAt]);
  header.markers = load_le<uint16_t>(&raw[kMarkersAt]);
  for (size_t i = 0; i < header.keys.size(); ++i) {
    const std::byte* slot = &raw[kKeysAt + i * kKeySlotSize];
    take(slot, header.keys[i].nonce);
    take(slot + 16, header.keys[i].tag);
    take(slot + 32, header.keys[i].wrapped);
  }
  return header;
}

Result<int> choose_vmgs_header(const std::optional<VmgsHeader>& first,
                               const std::optional<VmgsHeader>& second) {
  if (!first && !second) return corrupt("neither header copy is valid");
  if (!second) return 0;
  if (!first) return 1;
  if (first->sequence == second->sequence + 1) return 0;
  if (second->sequence == first->sequence + 1) return 1;
  return corrupt("the two header copies do not follow each other");
}

void encode_vmgs_file_table(const VmgsFileTable& files, MutableByteSpan out) {
  HF_ASSERT(out.size() == kVmgsBlock);
  std::ranges::fill(out, std::byte{0});
  for (size_t id = 0; id < files.size(); ++id) {
    const VmgsFile& file = files[id];
    if (!file.exists()) continue;
    std::byte* entry = &out[id * kEntrySize];
    store_le<uint32_t>(entry, file.block);
    store_le<uint32_t>(entry + 4, file.blocks);
    store_le<uint64_t>(entry + 8, file.size);
    put(entry + kNonceAt, file.nonce);
    put(entry + kTagAt, file.tag);
    store_le<uint32_t>(entry + kAttributesAt, file.attributes);
  }
}

Result<VmgsFileTable> decode_vmgs_file_table(ByteSpan raw, uint64_t capacity_blocks) {
  HF_ASSERT(raw.size() == kVmgsBlock);
  VmgsFileTable files;
  std::vector<std::pair<uint64_t, uint64_t>> extents;
  for (size_t id = 0; id < files.size(); ++id) {
    const std::byte* entry = &raw[id * kEntrySize];
    VmgsFile& file = files[id];
    file.blocks = load_le<uint32_t>(entry + 4);
    if (!file.exists()) continue;
    file.block = load_le<uint32_t>(entry);
    file.size = load_le<uint64_t>(entry + 8);
    take(entry + kNonceAt, file.nonce);
    take(entry + kTagAt, file.tag);
    file.attributes = load_le<uint32_t>(entry + kAttributesAt);
    const uint64_t end = uint64_t{file.block} + file.blocks;
    if (file.block < kVmgsFirstBlock || end > capacity_blocks ||
        file.size > uint64_t{file.blocks} * kVmgsBlock) {
      return corrupt("file " + std::to_string(id) + " lies outside the store");
    }
    extents.emplace_back(file.block, end);
  }
  std::ranges::sort(extents);
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].first < extents[i - 1].second) return corrupt("files overlap");
  }
  return files;
}

void encode_vmgs_extended_table(const VmgsFileTable& files, MutableByteSpan out) {
  HF_ASSERT(out.size() == kVmgsBlock);
  std::ranges::fill(out, std::byte{0});
  for (size_t id = 0; id < files.size(); ++id) {
    if (!files[id].exists() || id == vmgs_id::kExtendedFileTable) continue;
    std::byte* entry = &out[id * kEntrySize];
    store_le<uint32_t>(entry, files[id].attributes);
    if (!files[id].key.empty()) put(entry + kExtendedKeyAt, files[id].key.span());
  }
}

void decode_vmgs_extended_table(ByteSpan raw, VmgsFileTable& files) {
  HF_ASSERT(raw.size() == kVmgsBlock);
  for (size_t id = 0; id < files.size(); ++id) {
    if (id == vmgs_id::kExtendedFileTable) continue;
    const std::byte* entry = &raw[id * kEntrySize];
    files[id].attributes = load_le<uint32_t>(entry);
    if (files[id].encrypted()) {
      files[id].key = crypto::Secret::copy_of({entry + kExtendedKeyAt, crypto::kKeySize});
    }
  }
}

Bytes fixed_vhd_footer(uint64_t size, ByteSpan unique_id) {
  HF_ASSERT(unique_id.size() == 16);
  Bytes footer(512);
  put(footer.data(), as_bytes("conectix"));
  store_be<uint32_t>(&footer[8], 2);
  store_be<uint32_t>(&footer[12], 0x00010000);
  store_be<uint64_t>(&footer[16], ~uint64_t{0});
  put(&footer[28], as_bytes("hfst"));
  store_be<uint32_t>(&footer[32], 0x000A0000);
  store_be<uint64_t>(&footer[40], size);
  store_be<uint64_t>(&footer[48], size);
  store_be<uint32_t>(&footer[60], 2);
  put(&footer[68], unique_id);
  uint32_t sum = 0;
  for (std::byte b : footer) sum += std::to_integer<uint32_t>(b);
  store_be<uint32_t>(&footer[64], ~sum);
  return footer;
}

}  // namespace hf::guest_state
