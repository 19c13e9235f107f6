// Hostile variable stores. An input is laid over a formatted store: its first byte says where, so
// that the fuzzer need not find half a megabyte of padding by itself.
#include <algorithm>

#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"

namespace {

using namespace hf;
using namespace hf::secure_boot;

Bytes formatted() {
  Bytes image(store_format::kLayouts[1].image_size, store_format::kErased);
  std::fill_n(image.begin(), 16, std::byte{0});
  store_format::kVolumeGuid.store(&image[16]);
  store_le<uint64_t>(&image[32], image.size());
  std::ranges::copy(as_bytes("_FVH"), &image[40]);
  store_le<uint32_t>(&image[44], 0x4feff);
  store_le<uint16_t>(&image[48], 0x48);
  store_le<uint32_t>(&image[52], 0x02000000);
  store_le<uint64_t>(&image[56], 0x0000100000000020);
  store_le<uint64_t>(&image[64], 0);
  store_le<uint16_t>(&image[50], 0);
  uint16_t sum = 0;
  for (size_t at = 0; at < 72; at += 2) {
    sum = static_cast<uint16_t>(sum + load_le<uint16_t>(&image[at]));
  }
  store_le<uint16_t>(&image[50], static_cast<uint16_t>(-sum));
  store_format::kAuthenticatedStoreGuid.store(&image[72]);
  store_le<uint32_t>(&image[88], 0xdfb8);
  image[92] = store_format::kStoreFormatted;
  image[93] = store_format::kStoreHealthy;
  HF_ASSERT(VariableStore::parse(image).ok());
  return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Bytes base = formatted();
  if (size < 2) return 0;
  constexpr std::array<size_t, 4> kPlaces = {0x64, 0xf000, 0xf020, 0x10000};
  Bytes image = base;
  ByteSpan rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const size_t at = kPlaces[data[0] % kPlaces.size()];
  std::ranges::copy(rest.first(std::min(rest.size(), image.size() - at)), &image[at]);
  if (data[0] & 0x80) {  // the queue as well: what is behind 0x100 of the input
    const ByteSpan queue = rest.subspan(std::min<size_t>(rest.size(), 0x100));
    std::ranges::copy(queue.first(std::min<size_t>(queue.size(), 0xfe0)), &image[0xf020]);
  }
  auto store = VariableStore::parse(image);
  if (!store.ok()) return 0;
  const size_t count = store->variables().size();
  (void)secure_boot_variables(*store);
  for (const Variable& variable : store->variables()) (void)variable.name_text();
  VariableStore edited = *store;
  edited.compact();
  HF_ASSERT(edited.variables().size() == count);
  auto again = VariableStore::parse(edited.image());
  HF_ASSERT(again.ok() && again->variables().size() == count && !again->recovered());
  (void)apply_change(edited, {"SecureBootEnable", ChangeAction::kSet, {std::byte{1}}}, {}).ok();
  HF_ASSERT(edited.image().size() == image.size());
  return 0;
}
