// VmgsImage: a VMGS v3 store in memory, read and changed as a whole.
//
// The journal owns guest state; a VMGS file is its projection for export, import and backup. So the
// image is built in memory and written by atomic replacement (temporary file, fsync, rename, fsync
// of the directory): the crash cases of updating a store in place do not arise. Within the image,
// updates still alternate between the two headers as the format demands, so that other tools find
// what they expect.
//
// Stricter than upstream, on purpose: an encrypted write to a store that is not unlocked is refused
// (upstream writes plaintext); a plaintext write over an encrypted file is refused; re-keying
// replaces every key and both headers (upstream leaves the old header, which the old key still
// opens); a store whose metadata key is all zero is reported.
//
// Not thread-safe. The image holds key material (file keys); they are in Secrets.
#pragma once

#include <map>

#include "guest_state/vmgs_format.h"

namespace hf::guest_state {

enum class VmgsProtection { kPlaintext, kEncrypted };

struct VmgsContent {
  Bytes data;
  VmgsProtection protection = VmgsProtection::kEncrypted;
};

class VmgsImage {
 public:
  // A new, empty store. `capacity` in bytes, a multiple of the block size, 16 KiB or more.
  static VmgsImage format(uint64_t capacity, Rng& rng);

  // Parses a store (raw, or a fixed VHD). Without a key an encrypted store stays locked: its
  // plaintext files and its table can be read. Errors: kNotFound for an all-zero image,
  // kUnsupported for v1 and v2, kCorrupt, kWrongKey.
  static Result<VmgsImage> open(Bytes image, const crypto::Secret* key, Rng& rng);

  // The first datastore key: from here on files can be written encrypted.
  Status set_key(const crypto::Secret& key);
  // New datastore, metadata and file keys; afterwards the old key opens nothing in the image.
  Status replace_key(const crypto::Secret& key);

  // Writes all files in one header switch. Ids 0 and 63 are the store's own; empty encrypted files
  // are refused (upstream readers cannot read them back).
  Status write(const std::map<uint32_t, VmgsContent>& files);
  Result<Bytes> read(uint32_t id) const;
  Status erase(uint32_t id);

  bool encrypted() const { return header_.algorithm != VmgsAlgorithm::kNone; }
  bool locked() const { return encrypted() && !active_slot_.has_value(); }
  bool has_zero_metadata_key() const { return zero_metadata_key_; }
  const VmgsFileTable& files() const { return files_; }
  const VmgsHeader& header() const { return header_; }
  ByteSpan bytes() const { return image_; }

 private:
  explicit VmgsImage(Rng& rng) : rng_(&rng) {}
  struct Pending {
    VmgsFile file;
    Bytes stored;
  };
  using PendingFiles = std::map<uint32_t, Pending>;

  Status unlock(const crypto::Secret& key);
  Status commit(const std::map<uint32_t, VmgsContent>& files);
  Result<uint32_t> allocate(std::vector<std::pair<uint32_t, uint32_t>>& used,
                            uint32_t blocks) const;
  Status allocate_all(PendingFiles& pending) const;
  void fill_tables(PendingFiles& pending);
  void wrap_metadata_key();
  void put_header();
  uint32_t capacity_blocks() const { return static_cast<uint32_t>(image_.size() / kVmgsBlock); }

  Rng* rng_;
  Bytes image_;
  VmgsHeader header_;
  int active_header_ = 1;
  VmgsFileTable files_;
  std::optional<size_t> active_slot_;
  crypto::Secret datastore_key_;
  bool zero_metadata_key_ = false;
};

}  // namespace hf::guest_state
