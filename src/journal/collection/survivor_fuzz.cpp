// Fuzzes what reads collected files, locators and death lists: whatever the bytes are, an answer or
// an error. The header's checksum is put right, or nothing behind it would ever be tested.
#include "base/crc32c.h"
#include "base/fuzz_input.h"
#include "journal/collection/collect.h"
#include "journal/collection/deaths.h"

namespace hf::journal {
namespace {

template <typename Codec>
void decode_entries(ByteSpan input) {
  VarReader in(input);
  std::optional<typename Codec::Entry> before;
  while (!in.at_end() && !in.failed()) {
    auto entry = Codec::decode(in, before ? &*before : nullptr);
    if (!entry.ok()) return;
    if (before && Codec::key(*entry) <= Codec::key(*before)) return;
    Bytes again;
    VarWriter out(again);
    Codec::encode(out, before ? &*before : nullptr, *entry);
    HF_ASSERT(again.size() <= Codec::kEncodedMax);
    before = *entry;
  }
}

void read(ByteSpan input) {
  decode_entries<LocationCodec>(input);
  decode_entries<DeathCodec>(input);
  Bytes bytes(input.begin(), input.end());
  if (bytes.size() >= kSurvivorFixedSize) {
    store_le(bytes.data() + 32 + 176, crc32c(ByteSpan(bytes).subspan(32, 176)));
  }
  const Result<Survivor> survivor = decode_survivor(bytes);
  if (survivor.ok()) HF_ASSERT(encode_survivor(*survivor).size() == survivor->stored_size());
}

}  // namespace
}  // namespace hf::journal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hf::journal::read(hf::fuzz_input(data, size));
  return 0;
}
