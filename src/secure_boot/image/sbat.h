// SBAT: revocation of boot programs by generation instead of by hash, as shim does it.
//
// Source: SBAT.md and SbatLevel_Variable.txt of github.com/rhboot/shim. An image says in its .sbat
// section which components it is made of and their generations; the level (variable SbatLevel, or
// what shim brings in its .sbatlevel section) says which generation of each is the least allowed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::secure_boot {

inline constexpr size_t kSbatBytesMax = size_t{64} << 10;
inline constexpr size_t kSbatRowsMax = 256;

struct SbatComponent {
  std::string name;  // "grub.debian"
  uint16_t generation = 0;
  std::string vendor;
  std::string package;
  std::string version;  // "2.06-13+deb12u2"
};

struct SbatLimit {
  std::string name;
  uint16_t generation = 0;  // the least that may start
};

struct SbatLevel {
  std::string date;  // of its first row, "2025021800"
  std::vector<SbatLimit> limits;
};

// kInvalidArgument: a row that shim would refuse, so that it refuses the image.
Result<std::vector<SbatComponent>> parse_sbat(ByteSpan section);
Result<SbatLevel> parse_sbat_level(ByteSpan text);

// The first component below the level, in words; nothing if none is.
std::optional<std::string> revoked_by(const SbatLevel& level,
                                      const std::vector<SbatComponent>& components);

// What shim carries: the level it sets by itself under Secure Boot, and the one an administrator
// can choose. kInvalidArgument: not such a section.
struct ShimLevels {
  SbatLevel automatic;
  SbatLevel latest;
};
Result<ShimLevels> parse_shim_levels(ByteSpan section);

// The newest level published when this was written; a note, not a verdict.
inline constexpr std::string_view kSbatLevelPublished =
    "sbat,1,2025051000\nshim,4\ngrub,5\ngrub.proxmox,2\n";

}  // namespace hf::secure_boot
