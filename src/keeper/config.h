// What a keeper is told: one JSON object in the inherited descriptor "config". No secrets in it.
#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace hf::keeper {

enum class Mode { kCreate, kServe };

struct VolumeConfig {
  VolumeId id;       // from 1
  std::string name;  // "disk1": its listener, and with "image1" its image at creation
  uint64_t size_bytes = 0;
};

struct Config {
  Mode mode = Mode::kServe;
  VmId vm;
  SiteId site;
  Epoch epoch;
  std::string journal_dir;
  std::vector<VolumeConfig> volumes;
  std::string vault_socket;
  bool vtpm = true;
  std::string uefi_template;  // create: a firmware variable store to start from
  std::string vmgs_path;      // serve: where the projection goes at stop; empty: none
  // A journal received under an older epoch may end before a record with a bad tag.
  bool give_up_bad_tail = false;
  bool is_protected = false;  // nothing is merged away before the peer's position is known
  uint64_t segment_bytes = uint64_t{64} << 20;
  uint64_t merge_keep_segments = 16;
};

inline constexpr size_t kVolumesMax = 64;
inline constexpr uint64_t kVolumeSizeMax = uint64_t{1} << 46;  // 64 TiB

Result<Config> parse_config(std::string_view json);

}  // namespace hf::keeper
