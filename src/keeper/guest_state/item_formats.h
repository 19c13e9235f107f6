// Items 4 and 5 of volume 0 as bytes (items.h says how they are laid out).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace hf::keeper {

Bytes encode_attestation(ByteSpan data);  // at most kAttestationDataMax
// Nothing: none was ever written. kCorrupt, kUnsupported.
Result<std::optional<size_t>> attestation_data_size(ByteSpan header);  // kAttestationHeaderSize
Result<Bytes> decode_attestation(ByteSpan record);                     // header and data

struct SavedStore {
  std::string name;
  uint32_t slot = 0;
  uint64_t size = 0;
  Micros time;
  Digest digest;
  bool operator==(const SavedStore&) const = default;
};
inline constexpr size_t kSavedDirectorySize = 16 + 8 * 128;

// 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'.
bool is_saved_store_name(std::string_view name);
Bytes encode_saved_stores(const std::vector<SavedStore>& stores);
// Empty if none was ever written. kCorrupt, kUnsupported.
Result<std::vector<SavedStore>> decode_saved_stores(ByteSpan directory);
// One that none of them is in.
uint32_t free_slot(const std::vector<SavedStore>& stores);

}  // namespace hf::keeper
