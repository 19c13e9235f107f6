#include "keeper/guest_state/scratch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace hf::keeper {
namespace {

constexpr uint32_t kMagic = 0x43534648;  // "HFSC"
constexpr size_t kSlotHeader = 64;
constexpr size_t kHeldMax = volume::FlashVolume::kHeldBytesMax;
constexpr size_t kSlotSize =
    kSlotHeader + kHeldMax + 64;  // the tag, rounded up to keep slots aligned
constexpr size_t kIndexAt = 0;
constexpr size_t kConnectedAt = 8;
constexpr size_t kPinAt = 16;
constexpr size_t kSlotsAt = 64;
constexpr size_t kFileSize = kSlotsAt + 2 * kSlotSize;

crypto::Aead scratch_aead(const crypto::Secret& gsp_key, const IncarnationId& incarnation) {
  return crypto::Aead(crypto::hkdf_sha256(gsp_key.span(), incarnation.span(),
                                          "holdfast flash scratch v1", crypto::kKeySize));
}

crypto::Nonce nonce_of(uint64_t counter) {
  crypto::Nonce nonce{};
  store_le<uint64_t>(nonce.data(), counter);
  return nonce;
}

}  // namespace

Result<std::unique_ptr<FlashScratch>> FlashScratch::open(sys::UniqueFd memory,
                                                         const crypto::Secret& gsp_key,
                                                         const IncarnationId& incarnation) {
  if (::ftruncate(memory.get(), kFileSize) != 0)
    return errno_error(errno, "size the scratch memory");
  void* map = ::mmap(nullptr, kFileSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (map == MAP_FAILED) return errno_error(errno, "map the scratch memory");
  return std::unique_ptr<FlashScratch>(
      new FlashScratch(std::move(memory), static_cast<std::byte*>(map), gsp_key, incarnation));
}

FlashScratch::FlashScratch(sys::UniqueFd memory, std::byte* map, const crypto::Secret& gsp_key,
                           const IncarnationId& incarnation)
    : memory_(std::move(memory)),
      map_(map),
      gsp_key_(gsp_key.clone()),
      incarnation_(incarnation),
      aead_(scratch_aead(gsp_key, incarnation)) {}

FlashScratch::~FlashScratch() { ::munmap(map_, kFileSize); }

std::byte* FlashScratch::slot(uint64_t counter) const {
  return map_ + kSlotsAt + (counter % 2) * kSlotSize;
}

uint64_t FlashScratch::word(size_t at) const {
  return std::atomic_ref(*reinterpret_cast<uint64_t*>(map_ + at)).load(std::memory_order_acquire);
}

void FlashScratch::set_word(size_t at, uint64_t value) {
  std::atomic_ref(*reinterpret_cast<uint64_t*>(map_ + at)).store(value, std::memory_order_release);
}

void FlashScratch::note_vtpm_connected(bool connected) {
  set_word(kConnectedAt, connected ? 1 : 0);
}
bool FlashScratch::vtpm_was_connected() const { return word(kConnectedAt) == 1; }

void FlashScratch::note_pin(std::optional<Sequence> peer_durable) {
  set_word(kPinAt, peer_durable ? peer_durable->next().value : 0);
}
std::optional<Sequence> FlashScratch::pin() const {
  const uint64_t noted = word(kPinAt);
  if (noted == 0) return std::nullopt;
  return Sequence(noted - 1);
}

std::optional<FlashScratch::Held> FlashScratch::left_by(const IncarnationId& predecessor) const {
  const uint64_t counter = word(kIndexAt);
  if (counter == 0) return std::nullopt;
  const std::byte* from = slot(counter);
  const uint32_t length = load_le<uint32_t>(from + 4);
  if (load_le<uint32_t>(from) != kMagic || length > kHeldMax ||
      load_le<uint64_t>(from + 16) != counter ||
      !std::equal(predecessor.bytes.begin(), predecessor.bytes.end(), from + 24)) {
    return std::nullopt;
  }
  Held held{.offset = load_le<uint64_t>(from + 8), .bytes = Bytes(length)};
  Status opened = scratch_aead(gsp_key_, predecessor)
                      .open(nonce_of(counter), {from, kSlotHeader},
                            {from + kSlotHeader, length + crypto::kTagSize}, held.bytes);
  if (!opened.ok()) return std::nullopt;
  return held;
}

std::optional<FlashScratch::Held> FlashScratch::left_before(const journal::Lineage& lineage) const {
  // What a start writes before it looks here: its incarnation, and the close of what it inherited.
  constexpr uint64_t kOfAStart = 2;
  for (size_t i = lineage.size(); i >= 2; --i) {
    const journal::LineageEntry& before = lineage[i - 2];
    if (auto held = left_by(before.body.salt)) return held;
    if (lineage[i - 1].first.value - before.first.value > kOfAStart) break;
  }
  return std::nullopt;
}

void FlashScratch::keep(uint64_t offset, ByteSpan bytes) {
  HF_ASSERT(bytes.size() <= kHeldMax);
  ++counter_;
  // Never the slot that the index names, also not a predecessor's.
  if (const uint64_t newest = word(kIndexAt); newest != 0 && newest % 2 == counter_ % 2) ++counter_;
  std::byte* to = slot(counter_);
  std::fill_n(to, kSlotHeader, std::byte{0});
  store_le<uint32_t>(to, kMagic);
  store_le<uint32_t>(to + 4, static_cast<uint32_t>(bytes.size()));
  store_le<uint64_t>(to + 8, offset);
  store_le<uint64_t>(to + 16, counter_);
  std::ranges::copy(incarnation_.bytes, to + 24);
  aead_.seal(nonce_of(counter_), {to, kSlotHeader}, bytes,
             {to + kSlotHeader, bytes.size() + crypto::kTagSize});
  set_word(kIndexAt, counter_);
}

void FlashScratch::clear() { set_word(kIndexAt, 0); }

}  // namespace hf::keeper
