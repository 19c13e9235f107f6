#include "guest_state/vmgs_image.h"

#include <algorithm>

#include "base/fields.h"

namespace hf::guest_state {
namespace {

Error refused(std::string cause) {
  return Error{.code = ErrorCode::kConflict, .cause = std::move(cause)};
}

// "Tag apart from ciphertext" as VMGS stores them, over the AEAD's ciphertext ‖ tag.
void seal_apart(const crypto::Secret& key, const crypto::Nonce& nonce, ByteSpan plain,
                MutableByteSpan out, std::array<std::byte, crypto::kTagSize>& tag) {
  Bytes sealed(plain.size() + crypto::kTagSize);
  crypto::Aead(key).seal(nonce, {}, plain, sealed);
  std::copy_n(sealed.begin(), plain.size(), out.begin());
  std::copy_n(sealed.begin() + static_cast<std::ptrdiff_t>(plain.size()), tag.size(), tag.begin());
}

Status open_apart(const crypto::Secret& key, const crypto::Nonce& nonce, ByteSpan cipher,
                  const std::array<std::byte, crypto::kTagSize>& tag, MutableByteSpan out) {
  Bytes sealed(cipher.begin(), cipher.end());
  sealed.insert(sealed.end(), tag.begin(), tag.end());
  return crypto::Aead(key).open(nonce, {}, sealed, out);
}

}  // namespace

VmgsImage VmgsImage::format(uint64_t capacity, Rng& rng) {
  HF_ASSERT(capacity % kVmgsBlock == 0 && capacity >= 4 * kVmgsBlock);
  HF_ASSERT(capacity <= kVmgsCapacityMax);
  VmgsImage image(rng);
  image.image_.resize(capacity);
  PendingFiles pending;
  pending[vmgs_id::kFileTable].stored.resize(kVmgsBlock);
  pending[vmgs_id::kExtendedFileTable].stored.resize(kVmgsBlock);
  for (auto& [id, entry] : pending) entry.file.size = kVmgsBlock;
  HF_ASSERT(image.allocate_all(pending).ok());
  image.fill_tables(pending);
  image.put_header();
  return image;
}

Result<VmgsImage> VmgsImage::open(Bytes raw, const crypto::Secret* key, Rng& rng) {
  if (raw.size() >= 512 && as_text(ByteSpan(raw).last(512).first(8)) == "conectix") {
    raw.resize(raw.size() - 512);
  }
  if (raw.size() < 4 * kVmgsBlock || raw.size() > kVmgsCapacityMax) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "guest state file of an impossible size"};
  }
  if (as_text(ByteSpan(raw).subspan(512, 8)) == "EFI PART") {
    return Error{.code = ErrorCode::kUnsupported, .cause = "guest state file of version 1"};
  }
  const ByteSpan bytes(raw);
  if (all_zero(bytes.first(kVmgsHeaderSize)) &&
      all_zero(bytes.subspan(kVmgsSector, kVmgsHeaderSize))) {
    return Error{.code = ErrorCode::kNotFound, .cause = "guest state file is empty"};
  }
  std::array<std::optional<VmgsHeader>, 2> headers;
  for (size_t i = 0; i < 2; ++i) {
    auto decoded = decode_vmgs_header(bytes.subspan(i * kVmgsSector, kVmgsSector));
    if (decoded.ok()) headers[i] = *decoded;
  }
  VmgsImage image(rng);
  image.active_header_ = TRY(choose_vmgs_header(headers[0], headers[1]));
  image.header_ = *headers[static_cast<size_t>(image.active_header_)];
  const uint64_t blocks = raw.size() / kVmgsBlock;
  if (image.header_.file_table_block >= blocks) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "file table lies outside the store"};
  }
  image.files_ = TRY(decode_vmgs_file_table(
      bytes.subspan(uint64_t{image.header_.file_table_block} * kVmgsBlock, kVmgsBlock), blocks));
  const VmgsFile& table = image.files_[vmgs_id::kFileTable];
  if (table.block != image.header_.file_table_block || table.blocks != 1) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "file table and header disagree"};
  }
  image.image_ = std::move(raw);
  if (image.encrypted() && key != nullptr) TRY(image.unlock(*key));
  return image;
}

Status VmgsImage::unlock(const crypto::Secret& key) {
  const VmgsFile& table = files_[vmgs_id::kExtendedFileTable];
  if (!table.exists() || table.size != kVmgsBlock) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "extended file table is missing"};
  }
  crypto::Secret metadata_key(crypto::kKeySize);
  for (size_t slot = 0; slot < header_.keys.size(); ++slot) {
    const VmgsKeySlot& wrap = header_.keys[slot];
    if (!open_apart(key, wrap.nonce, wrap.wrapped, wrap.tag, metadata_key.mutable_span()).ok()) {
      continue;
    }
    ByteSpan stored = ByteSpan(image_).subspan(uint64_t{table.block} * kVmgsBlock, kVmgsBlock);
    crypto::Secret plain(kVmgsBlock);
    Status opened = open_apart(metadata_key, table.nonce, stored, table.tag, plain.mutable_span());
    if (!opened.ok()) {
      return Error{.code = ErrorCode::kCorrupt, .cause = "extended file table was altered"};
    }
    decode_vmgs_extended_table(plain.span(), files_);
    zero_metadata_key_ = all_zero(metadata_key.span());
    files_[vmgs_id::kExtendedFileTable].key = std::move(metadata_key);
    active_slot_ = slot;
    datastore_key_ = key.clone();
    return {};
  }
  return Error{.code = ErrorCode::kWrongKey,
               .cause = "the key does not open this guest state file"};
}

Status VmgsImage::set_key(const crypto::Secret& key) {
  if (encrypted()) return refused("the store already has a key");
  if (key.size() != crypto::kKeySize || all_zero(key.span())) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a datastore key is 32 bytes, not all zero"};
  }
  header_.algorithm = VmgsAlgorithm::kAes256Gcm;
  active_slot_ = 0;
  datastore_key_ = key.clone();
  return commit({});
}

Status VmgsImage::replace_key(const crypto::Secret& key) {
  if (locked()) return refused("the store is locked");
  // Everything is written anew into an empty image: no byte under an old key remains.
  VmgsImage fresh = format(image_.size(), *rng_);
  TRY(fresh.set_key(key));
  std::map<uint32_t, VmgsContent> all;
  for (uint32_t id = 1; id < vmgs_id::kExtendedFileTable; ++id) {
    if (!files_[id].exists()) continue;
    all[id] = {TRY(read(id)),
               files_[id].encrypted() ? VmgsProtection::kEncrypted : VmgsProtection::kPlaintext};
  }
  TRY(fresh.write(all));
  *this = std::move(fresh);
  return {};
}

Status VmgsImage::write(const std::map<uint32_t, VmgsContent>& files) {
  for (const auto& [id, content] : files) {
    if (id == vmgs_id::kFileTable || id >= vmgs_id::kExtendedFileTable) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "that file id is the store's own"};
    }
    if (content.data.size() > kVmgsCapacityMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "file is larger than a store can be"};
    }
    if (content.protection == VmgsProtection::kEncrypted) {
      if (!active_slot_) return refused("encrypted write to a store without an open key");
      if (content.data.empty()) return refused("an encrypted file cannot be empty");
    } else if (files_[id].exists() && files_[id].encrypted()) {
      return refused("plaintext write over an encrypted file");
    }
  }
  return commit(files);
}

Status VmgsImage::commit(const std::map<uint32_t, VmgsContent>& files) {
  PendingFiles pending;
  pending[vmgs_id::kFileTable].stored.resize(kVmgsBlock);
  if (active_slot_) {
    pending[vmgs_id::kExtendedFileTable].stored.resize(kVmgsBlock);
    pending[vmgs_id::kExtendedFileTable].file.attributes = kVmgsEncrypted | kVmgsAuthenticated;
  }
  for (const auto& [id, content] : files) {
    pending[id].stored = content.data;
    if (content.protection == VmgsProtection::kEncrypted) {
      pending[id].file.attributes = kVmgsEncrypted | kVmgsAuthenticated;
    }
  }
  for (auto& [id, entry] : pending) {
    entry.file.size = entry.stored.size();
    if (!entry.file.encrypted()) continue;
    entry.file.key = crypto::Secret(crypto::kKeySize);
    rng_->fill(entry.file.key.mutable_span());
    rng_->fill(MutableByteSpan(entry.file.nonce).first(4));  // the counter half starts at 0
  }
  TRY(allocate_all(pending));
  fill_tables(pending);
  put_header();
  return {};
}

Status VmgsImage::allocate_all(PendingFiles& pending) const {
  std::vector<std::pair<uint32_t, uint32_t>> used;
  for (const VmgsFile& file : files_) {
    if (file.exists()) used.emplace_back(file.block, file.blocks);
  }
  for (auto& [id, entry] : pending) {
    const uint64_t blocks = (entry.stored.size() + kVmgsBlock - 1) / kVmgsBlock;
    entry.file.blocks = static_cast<uint32_t>(std::max<uint64_t>(1, blocks));
    entry.file.block = TRY(allocate(used, entry.file.blocks));
  }
  return {};
}

// The smallest gap that fits, the first of equals: what openvmm does, so that images agree.
Result<uint32_t> VmgsImage::allocate(std::vector<std::pair<uint32_t, uint32_t>>& used,
                                     uint32_t blocks) const {
  std::ranges::sort(used);
  std::optional<std::pair<uint32_t, uint32_t>> best;  // free blocks, place
  uint32_t end = kVmgsFirstBlock;
  auto consider = [&](uint32_t from, uint32_t to) {
    HF_ASSERT(to >= from);
    const uint32_t free = to - from;
    if (free >= blocks && (!best || free < best->first)) best = {free, from};
  };
  for (const auto& [block, count] : used) {
    consider(end, block);
    end = block + count;
  }
  consider(end, capacity_blocks());
  if (!best) return Error{.code = ErrorCode::kNoSpace, .cause = "guest state file is full"};
  used.emplace_back(best->second, blocks);
  return best->second;
}

void VmgsImage::fill_tables(PendingFiles& pending) {
  for (auto& [id, entry] : pending) {
    const bool table = id == vmgs_id::kFileTable || id == vmgs_id::kExtendedFileTable;
    if (!table && entry.file.encrypted()) {
      seal_apart(entry.file.key, entry.file.nonce, ByteSpan(Bytes(entry.stored)), entry.stored,
                 entry.file.tag);
    }
    files_[id] = std::move(entry.file);
  }
  if (auto it = pending.find(vmgs_id::kExtendedFileTable); it != pending.end()) {
    VmgsFile& file = files_[vmgs_id::kExtendedFileTable];
    if (file.encrypted()) {
      crypto::Secret plain(kVmgsBlock);
      encode_vmgs_extended_table(files_, plain.mutable_span());
      seal_apart(file.key, file.nonce, plain.span(), it->second.stored, file.tag);
      wrap_metadata_key();
    }
  }
  encode_vmgs_file_table(files_, pending.at(vmgs_id::kFileTable).stored);
  for (const auto& [id, entry] : pending) {
    const uint64_t at = uint64_t{files_[id].block} * kVmgsBlock;
    const size_t padded = (entry.stored.size() + kVmgsSector - 1) / kVmgsSector * kVmgsSector;
    auto place = MutableByteSpan(image_).subspan(at, padded);
    std::ranges::fill(place, std::byte{0});
    std::ranges::copy(entry.stored, place.begin());
  }
}

// The wrapping counter goes up with every wrap under one datastore key: bytes 4..11 of the nonce.
void VmgsImage::wrap_metadata_key() {
  VmgsKeySlot& slot = header_.keys[*active_slot_];
  const bool first = all_zero(slot.nonce);
  const uint64_t counter = first ? 0 : load_le<uint64_t>(&slot.nonce[4]) + 1;
  rng_->fill(MutableByteSpan(slot.nonce).first(4));
  store_le<uint64_t>(&slot.nonce[4], counter);
  seal_apart(datastore_key_, slot.nonce, files_[vmgs_id::kExtendedFileTable].key.span(),
             slot.wrapped, slot.tag);
}

void VmgsImage::put_header() {
  header_.file_table_block = files_[vmgs_id::kFileTable].block;
  ++header_.sequence;
  active_header_ ^= 1;
  encode_vmgs_header(header_, MutableByteSpan(image_).subspan(
                                  static_cast<size_t>(active_header_) * kVmgsSector, kVmgsSector));
}

Result<Bytes> VmgsImage::read(uint32_t id) const {
  if (id >= kVmgsFiles || !files_[id].exists()) {
    return Error{.code = ErrorCode::kNotFound, .cause = "no file " + std::to_string(id)};
  }
  const VmgsFile& file = files_[id];
  ByteSpan stored = ByteSpan(image_).subspan(uint64_t{file.block} * kVmgsBlock, file.size);
  if (!file.encrypted()) return Bytes(stored.begin(), stored.end());
  if (locked()) return refused("the store is locked");
  if (all_zero(stored)) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "ciphertext is all zero"};
  }
  Bytes plain(file.size);
  if (!open_apart(file.key, file.nonce, stored, file.tag, plain).ok()) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "file " + std::to_string(id) + " was altered"};
  }
  return plain;
}

Status VmgsImage::erase(uint32_t id) {
  if (id == vmgs_id::kFileTable || id >= vmgs_id::kExtendedFileTable || !files_[id].exists()) {
    return Error{.code = ErrorCode::kNotFound, .cause = "no file " + std::to_string(id)};
  }
  if (locked()) return refused("the store is locked");
  // Scrubbed before its blocks are free: the commit may reuse them at once.
  const uint64_t at = uint64_t{files_[id].block} * kVmgsBlock;
  const uint64_t length = uint64_t{files_[id].blocks} * kVmgsBlock;
  std::ranges::fill(MutableByteSpan(image_).subspan(at, length), std::byte{0});
  files_[id] = VmgsFile{};
  return commit({});
}

}  // namespace hf::guest_state
