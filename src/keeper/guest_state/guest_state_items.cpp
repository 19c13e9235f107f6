#include "keeper/guest_state/guest_state_items.h"

#include <fmt/format.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "keeper/guest_state/items.h"
#include "keeper/thread_waiter.h"

namespace hf::keeper {
namespace {

uint64_t offset_of(const SavedStore& store) {
  return kSavedStoresOffset + kSavedStoresSlots + store.slot * kUefiStoreSizeMax;
}

Error no_saved_store(const std::string& name) {
  return Error{.code = ErrorCode::kNotFound,
               .cause = "no variable store is saved under the name " + name,
               .effect = "nothing was changed"};
}

Error bad_name() {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause =
                   "the name of a saved variable store has 1 to 64 characters of A-Z, a-z, "
                   "0-9, '.', '_', '-'",
               .effect = "nothing was changed"};
}

}  // namespace

Status GuestStateItems::write(uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ByteSpan part = bytes.first(std::min(bytes.size(), journal::kRecordDataMax));
    ThreadWaiter waiter;
    reactor_.post([this, offset, part, &waiter] { writer_.write_durable(offset, part, waiter); });
    TRY(waiter.wait());
    offset += part.size();
    bytes = bytes.subspan(part.size());
  }
  return {};
}

Result<Bytes> GuestStateItems::read(uint64_t offset, size_t size) {
  Bytes out(size);
  ThreadWaiter waiter;
  reactor_.post([this, offset, &out, &waiter] {
    front_.journal().read(kGuestStateVolume, offset, out, waiter);
  });
  TRY(waiter.wait());
  return out;
}

Status GuestStateItems::put_attestation(ByteSpan data) {
  if (data.size() > kAttestationDataMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("an attestation record of {} bytes; {} fit", data.size(),
                                      kAttestationDataMax),
                 .effect = "the one before was kept"};
  }
  return write(kAttestationOffset, encode_attestation(data));
}

Result<std::optional<Bytes>> GuestStateItems::attestation() {
  const Bytes header = TRY(read(kAttestationOffset, kAttestationHeaderSize));
  const std::optional<size_t> size = TRY(attestation_data_size(header));
  if (!size) return std::optional<Bytes>();
  const Bytes record = TRY(read(kAttestationOffset, kAttestationHeaderSize + *size));
  return std::optional<Bytes>(TRY(decode_attestation(record)));
}

Result<std::vector<SavedStore>> GuestStateItems::saved_stores() {
  return decode_saved_stores(TRY(read(kSavedStoresOffset, kSavedDirectorySize)));
}

Status GuestStateItems::save_store(const std::string& name, ByteSpan image, Micros now) {
  HF_ASSERT(!image.empty() && image.size() <= kUefiStoreSizeMax);
  if (!is_saved_store_name(name)) return bad_name();
  std::vector<SavedStore> stores = TRY(saved_stores());
  const SavedStore saved{.name = name,
                         .slot = free_slot(stores),
                         .size = image.size(),
                         .time = now,
                         .digest = crypto::sha256(image)};
  std::erase_if(stores, [&](const SavedStore& store) { return store.name == name; });
  if (stores.size() >= kSavedStoresMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} variable stores are saved already", stores.size()),
                 .effect = "nothing was saved",
                 .mend = "give one of them up first: " + stores.front().name + " is the oldest"};
  }
  TRY(write(offset_of(saved), image));
  stores.push_back(saved);
  return write(kSavedStoresOffset, encode_saved_stores(stores));
}

Result<Bytes> GuestStateItems::saved_store(const std::string& name) {
  const std::vector<SavedStore> stores = TRY(saved_stores());
  const auto found = std::ranges::find(stores, name, &SavedStore::name);
  if (found == stores.end()) return no_saved_store(name);
  Bytes image = TRY(read(offset_of(*found), found->size));
  if (crypto::sha256(image) == found->digest) return image;
  return Error{.code = ErrorCode::kCorrupt,
               .cause = "the variable store saved as " + name + " is not as it was written",
               .effect = "nothing was changed"};
}

Status GuestStateItems::forget_store(const std::string& name) {
  std::vector<SavedStore> stores = TRY(saved_stores());
  if (std::erase_if(stores, [&](const SavedStore& store) { return store.name == name; }) == 0) {
    return no_saved_store(name);
  }
  return write(kSavedStoresOffset, encode_saved_stores(stores));
}

}  // namespace hf::keeper
