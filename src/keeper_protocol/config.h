// What a keeper is told: one JSON object in the inherited descriptor "config", whose member "mode"
// says what it is to be. No secrets in it.
//
//   mode       key  inherits                                          does
//   create     yes  image1 …                                          makes the journal, ends
//   serve      yes  control, ship, vars, tpm, disk1 …, scratch        serves the VM; ships if it
//                                                                     has a peer
//   replica    no   control, ship                                     receives the peer's journal
//   caretaker  no   control, ship                                     ships a stopped VM's journal,
//                                                                     ends once the peer has it all
//
// Whatever the mode: it locks the journal directory for itself alone (kConflict if another keeper
// has it) and ends on a failure that lasts, so that who started it starts it again.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "crypto/crypto.h"
#include "sys/typed_json.h"

namespace hf::keeper_protocol {

inline constexpr size_t kVolumesMax = 64;
inline constexpr uint64_t kVolumeSizeMax = uint64_t{1} << 46;  // 64 TiB
inline constexpr size_t kPathMax = 4096;
inline constexpr size_t kConfigBytesMax = size_t{256} << 10;
inline constexpr uint16_t kPcrBankSha256 = 0xB;
inline constexpr uint64_t kSegmentBytesMin = uint64_t{4} << 20;
inline constexpr uint64_t kSegmentBytesMax = uint64_t{256} << 20;
inline constexpr uint64_t kSegmentBytesDefault = uint64_t{64} << 20;

struct VolumeConfig {
  VolumeId id;       // from 1
  std::string name;  // "disk1": its listener
  uint64_t size_bytes = 0;
};

struct CreateConfig {
  static constexpr std::string_view kOp = "create";
  VmId vm;
  SiteId site;
  Epoch epoch;
  std::string journal_dir;
  std::string vault_socket;
  std::vector<VolumeConfig> volumes;  // the image of volume 1 is descriptor "image1"
  bool vtpm = true;
  std::vector<uint16_t> pcr_banks = {kPcrBankSha256};  // TPM_ALG_IDs, SHA-256 among them
  std::string uefi_template;                           // a firmware variable store to start from
  uint64_t segment_bytes = kSegmentBytesDefault;
};

struct ServeConfig {
  static constexpr std::string_view kOp = "serve";
  VmId vm;
  SiteId site;
  Epoch epoch;
  std::string journal_dir;
  std::string vault_socket;
  std::vector<VolumeConfig> volumes;
  bool vtpm = true;
  std::string vmgs_path;  // where the projection goes at stop; empty: none
  // Only to be looked at: what opening and answering write stays in memory and is thrown away. No
  // vTPM is started and nothing is told to the vault, for nothing happened.
  bool look = false;
  // A journal received under an older epoch may end before a record with a bad tag.
  bool give_up_bad_tail = false;
  // The VM is protected: it ships to this site, and merges nothing away that the site may lack.
  std::optional<SiteId> peer_site;
  // So much of what the peer lacks is kept for it; beyond, it is let go and later seeded anew.
  uint64_t backlog_bytes_max = uint64_t{4} << 30;
  uint64_t segment_bytes = kSegmentBytesDefault;
  uint64_t merge_keep_segments = 16;
};

struct ReplicaConfig {
  static constexpr std::string_view kOp = "replica";
  VmId vm;
  SiteId site;
  Epoch epoch;  // the highest that this site knows: a source below it is stale
  std::string journal_dir;
  std::string vault_socket;  // that signs for this site in a session's beginning
  SiteId peer_site;
  crypto::PublicKey public_key{};  // the VM's journal key, pinned when the replica was offered
  bool create = false;             // makes the empty journal if the directory has none
  // What it may fill is bounded: it takes nothing before LimitStore has said how much.
  bool limited = false;
};

struct CaretakerConfig {
  static constexpr std::string_view kOp = "caretaker";
  VmId vm;
  SiteId site;
  Epoch epoch;
  std::string journal_dir;
  std::string vault_socket;
  SiteId peer_site;
  crypto::PublicKey public_key{};
};

using Config = std::variant<CreateConfig, ServeConfig, ReplicaConfig, CaretakerConfig>;

// `Config`, or one of its kinds.
template <typename AnyConfig>
sys::JsonObject encode_config(const AnyConfig& config) {
  return sys::encode_operation(config, "mode");
}
// kInvalidArgument names the member.
Result<Config> decode_config(std::string_view json);

constexpr auto json_members(sys::JsonOf<VolumeConfig>) {
  return std::tuple(
      sys::json_member("id", &VolumeConfig::id, {.min = 1}),
      sys::json_member("name", &VolumeConfig::name, {.length_min = 1, .length_max = 64}),
      sys::json_member("size_bytes", &VolumeConfig::size_bytes,
                       {.min = 512, .max = kVolumeSizeMax}));
}
Status json_check(const VolumeConfig& volume);

// What every mode is told.
template <typename C>
constexpr auto json_members_of_all() {
  return std::tuple(
      sys::json_member("vm", &C::vm), sys::json_member("site", &C::site),
      sys::json_member("epoch", &C::epoch, {.min = 1}),
      sys::json_member("journal_dir", &C::journal_dir, {.length_min = 1, .length_max = kPathMax}),
      sys::json_member("vault_socket", &C::vault_socket,
                       {.length_min = 1, .length_max = kPathMax}));
}

constexpr auto json_members(sys::JsonOf<CreateConfig>) {
  using C = CreateConfig;
  return std::tuple_cat(
      json_members_of_all<C>(),
      std::tuple(
          sys::json_member("volumes", &C::volumes, {.items_max = kVolumesMax}),
          sys::json_member_or_default("vtpm", &C::vtpm),
          sys::json_member_or_default("pcr_banks", &C::pcr_banks, {.items_max = 4}),
          sys::json_member_or_default("uefi_template", &C::uefi_template, {.length_max = kPathMax}),
          sys::json_member_or_default("segment_bytes", &C::segment_bytes,
                                      {.min = kSegmentBytesMin, .max = kSegmentBytesMax})));
}
constexpr auto json_members(sys::JsonOf<ServeConfig>) {
  using C = ServeConfig;
  return std::tuple_cat(
      json_members_of_all<C>(),
      std::tuple(sys::json_member("volumes", &C::volumes, {.items_max = kVolumesMax}),
                 sys::json_member_or_default("vtpm", &C::vtpm),
                 sys::json_member_or_default("vmgs_path", &C::vmgs_path, {.length_max = kPathMax}),
                 sys::json_member_or_default("look", &C::look),
                 sys::json_member_or_default("give_up_bad_tail", &C::give_up_bad_tail),
                 sys::json_member("peer_site", &C::peer_site),
                 sys::json_member_or_default("backlog_bytes_max", &C::backlog_bytes_max),
                 sys::json_member_or_default("segment_bytes", &C::segment_bytes,
                                             {.min = kSegmentBytesMin, .max = kSegmentBytesMax}),
                 sys::json_member_or_default("merge_keep_segments", &C::merge_keep_segments)));
}
constexpr auto json_members(sys::JsonOf<ReplicaConfig>) {
  using C = ReplicaConfig;
  return std::tuple_cat(json_members_of_all<C>(),
                        std::tuple(sys::json_member("peer_site", &C::peer_site),
                                   sys::json_member("public_key", &C::public_key),
                                   sys::json_member_or_default("create", &C::create),
                                   sys::json_member_or_default("limited", &C::limited)));
}
constexpr auto json_members(sys::JsonOf<CaretakerConfig>) {
  using C = CaretakerConfig;
  return std::tuple_cat(json_members_of_all<C>(),
                        std::tuple(sys::json_member("peer_site", &C::peer_site),
                                   sys::json_member("public_key", &C::public_key)));
}
Status json_check(const CreateConfig& config);
Status json_check(const ServeConfig& config);

}  // namespace hf::keeper_protocol
