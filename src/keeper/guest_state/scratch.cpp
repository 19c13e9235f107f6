#include "keeper/guest_state/scratch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

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
constexpr size_t kProtectionAt = 24;
constexpr size_t kPeerAt = 32;
constexpr size_t kSlotsAt = 64;
constexpr uint64_t kProtected = 1;
constexpr uint64_t kNotProtected = 2;
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

// One that somebody could cut would end this process at the next touch (SIGBUS).
Status fix_size(int fd) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
  if (::ftruncate(fd, kFileSize) != 0 && errno != EPERM) {
    return errno_error(errno, "size the scratch memory");
  }
  if (::fcntl(fd, F_ADD_SEALS, kSeals) != 0 && errno != EPERM) {
    return errno_error(errno, "seal the scratch memory's size");
  }
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = "the scratch memory's size cannot be sealed"};
  }
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno_error(errno, "stat the scratch memory");
  if (static_cast<uint64_t>(info.st_size) != kFileSize) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the scratch memory has another size"};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<FlashScratch>> FlashScratch::open(sys::UniqueFd memory,
                                                         const crypto::Secret& gsp_key,
                                                         const IncarnationId& incarnation) {
  TRY(fix_size(memory.get()));
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
      aead_(scratch_aead(gsp_key, incarnation)),
      sealing_(kSlotSize) {}

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

void FlashScratch::note_peer(const std::optional<SiteId>& peer) {
  set_word(kProtectionAt, 0);  // a successor never sees a half of it
  if (peer) std::ranges::copy(peer->bytes, map_ + kPeerAt);
  set_word(kProtectionAt, peer ? kProtected : kNotProtected);
}

std::optional<FlashScratch::Protection> FlashScratch::protection() const {
  const uint64_t noted = word(kProtectionAt);
  if (noted == kNotProtected) return Protection{};
  if (noted != kProtected) return std::nullopt;
  SiteId peer;
  std::copy_n(map_ + kPeerAt, peer.bytes.size(), peer.bytes.begin());
  return Protection{.peer = peer};
}

std::optional<FlashScratch::Held> FlashScratch::left_by(const IncarnationId& predecessor) const {
  const uint64_t counter = word(kIndexAt);
  if (counter == 0) return std::nullopt;
  const std::byte* shared = slot(counter);
  const Bytes copy(shared, shared + kSlotSize);
  const std::byte* from = copy.data();
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
  std::byte* to = sealing_.data();
  std::fill_n(to, kSlotHeader, std::byte{0});
  store_le<uint32_t>(to, kMagic);
  store_le<uint32_t>(to + 4, static_cast<uint32_t>(bytes.size()));
  store_le<uint64_t>(to + 8, offset);
  store_le<uint64_t>(to + 16, counter_);
  std::ranges::copy(incarnation_.bytes, to + 24);
  aead_.seal(nonce_of(counter_), {to, kSlotHeader}, bytes,
             {to + kSlotHeader, bytes.size() + crypto::kTagSize});
  std::copy_n(to, kSlotHeader + bytes.size() + crypto::kTagSize, slot(counter_));
  set_word(kIndexAt, counter_);
}

void FlashScratch::clear() { set_word(kIndexAt, 0); }

}  // namespace hf::keeper
