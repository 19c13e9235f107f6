#include "keeper/guest_state/item_formats.h"

#include <algorithm>

#include "crypto/crypto.h"
#include "keeper/guest_state/items.h"

namespace hf::keeper {
namespace {

constexpr size_t kEntrySize = 128;
constexpr size_t kDirectoryHeader = 16;
static_assert(kSavedDirectorySize == kDirectoryHeader + kSavedStoresMax * kEntrySize);

Error corrupt(std::string_view what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = "guest state: " + std::string(what),
               .effect = "it is not used, and nothing was changed"};
}

Error unknown_version(std::string_view what) {
  return Error{.code = ErrorCode::kUnsupported,
               .cause = "guest state: " + std::string(what) + " of an unknown version",
               .effect = "it is not used, and nothing was changed",
               .mend = "use the version of Holdfast that wrote it"};
}

}  // namespace

Bytes encode_attestation(ByteSpan data) {
  HF_ASSERT(data.size() <= kAttestationDataMax);
  Bytes record(kAttestationHeaderSize + data.size());
  store_le<uint32_t>(&record[0], kAttestationMagic);
  store_le<uint32_t>(&record[4], kAttestationVersion);
  store_le<uint64_t>(&record[8], data.size());
  std::ranges::copy(crypto::sha256(data).bytes, record.begin() + 16);
  std::ranges::copy(data, record.begin() + kAttestationHeaderSize);
  return record;
}

Result<std::optional<size_t>> attestation_data_size(ByteSpan header) {
  HF_ASSERT(header.size() == kAttestationHeaderSize);
  const uint32_t magic = load_le<uint32_t>(&header[0]);
  if (magic == 0) return std::optional<size_t>();
  if (magic != kAttestationMagic) return corrupt("no attestation record where one should be");
  if (load_le<uint32_t>(&header[4]) != kAttestationVersion) {
    return unknown_version("an attestation record");
  }
  const uint64_t size = load_le<uint64_t>(&header[8]);
  if (size > kAttestationDataMax) return corrupt("an attestation record of impossible length");
  return std::optional<size_t>(size);
}

Result<Bytes> decode_attestation(ByteSpan record) {
  const std::optional<size_t> size =
      TRY(attestation_data_size(record.first(kAttestationHeaderSize)));
  const ByteSpan data = record.subspan(kAttestationHeaderSize);
  if (size != data.size() ||
      !std::ranges::equal(crypto::sha256(data).bytes, record.subspan(16, 32))) {
    return corrupt("an attestation record that is not as it was written");
  }
  return Bytes(data.begin(), data.end());
}

bool is_saved_store_name(std::string_view name) {
  return !name.empty() && name.size() <= kSavedStoreNameMax &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

Bytes encode_saved_stores(const std::vector<SavedStore>& stores) {
  HF_ASSERT(stores.size() <= kSavedStoresMax);
  Bytes out(kSavedDirectorySize);
  store_le<uint32_t>(&out[0], kSavedStoresMagic);
  store_le<uint32_t>(&out[4], kSavedStoresVersion);
  store_le<uint32_t>(&out[8], static_cast<uint32_t>(stores.size()));
  std::byte* at = out.data() + kDirectoryHeader;
  for (const SavedStore& store : stores) {
    HF_ASSERT(is_saved_store_name(store.name));
    std::ranges::copy(as_bytes(store.name), at);
    store_le<uint32_t>(at + 64, store.slot);
    store_le<uint64_t>(at + 72, store.size);
    store_le<uint64_t>(at + 80, store.time.value);
    std::ranges::copy(store.digest.bytes, at + 88);
    at += kEntrySize;
  }
  return out;
}

Result<std::vector<SavedStore>> decode_saved_stores(ByteSpan directory) {
  HF_ASSERT(directory.size() == kSavedDirectorySize);
  const uint32_t magic = load_le<uint32_t>(&directory[0]);
  std::vector<SavedStore> stores;
  if (magic == 0) return stores;
  if (magic != kSavedStoresMagic) return corrupt("no directory of saved variable stores");
  if (load_le<uint32_t>(&directory[4]) != kSavedStoresVersion) {
    return unknown_version("a directory of saved variable stores");
  }
  const uint32_t count = load_le<uint32_t>(&directory[8]);
  if (count > kSavedStoresMax) return corrupt("too many saved variable stores");
  for (uint32_t i = 0; i < count; ++i) {
    const ByteSpan entry = directory.subspan(kDirectoryHeader + i * kEntrySize, kEntrySize);
    const std::string_view padded = as_text(entry.first(kSavedStoreNameMax));
    SavedStore store{.name = std::string(padded.substr(0, padded.find('\0'))),
                     .slot = load_le<uint32_t>(&entry[64]),
                     .size = load_le<uint64_t>(&entry[72]),
                     .time = Micros(load_le<uint64_t>(&entry[80])),
                     .digest = {}};
    std::ranges::copy(entry.subspan(88, 32), store.digest.bytes.begin());
    if (!is_saved_store_name(store.name) || store.slot > kSavedStoresMax || store.size == 0 ||
        store.size > kUefiStoreSizeMax) {
      return corrupt("a saved variable store of impossible name, place or size");
    }
    stores.push_back(std::move(store));
  }
  return stores;
}

uint32_t free_slot(const std::vector<SavedStore>& stores) {
  for (uint32_t slot = 0;; ++slot) {
    HF_ASSERT(slot <= kSavedStoresMax);
    if (std::ranges::count(stores, slot, &SavedStore::slot) == 0) return slot;
  }
}

}  // namespace hf::keeper
