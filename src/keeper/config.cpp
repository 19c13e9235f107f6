#include "keeper/config.h"

#include "journal/format/format.h"
#include "sys/json.h"

namespace hf::keeper {
namespace {

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = "keeper configuration: " + cause};
}

Result<VolumeConfig> parse_volume(const sys::JsonValue& value) {
  if (!value.is_object()) return invalid("a volume is not an object");
  const sys::JsonObject& object = value.get_object();
  VolumeConfig volume;
  const uint64_t id = TRY(sys::get_u64(object, "id"));
  volume.name = TRY(sys::get_string(object, "name"));
  volume.size_bytes = TRY(sys::get_u64(object, "size_bytes"));
  if (id == 0 || id > UINT32_MAX) return invalid("volume ids start at 1");
  volume.id = VolumeId(static_cast<uint32_t>(id));
  if (volume.size_bytes == 0 || volume.size_bytes % 512 != 0 ||
      volume.size_bytes > kVolumeSizeMax) {
    return invalid("size of volume " + volume.name + " is not a multiple of 512 up to 64 TiB");
  }
  return volume;
}

}  // namespace

Result<Config> parse_config(std::string_view json) {
  const sys::JsonObject object = TRY(sys::parse_json_object(json));
  Config config;
  const std::string mode = TRY(sys::get_string(object, "mode"));
  if (mode != "create" && mode != "serve") return invalid("unknown mode " + mode);
  config.mode = mode == "create" ? Mode::kCreate : Mode::kServe;
  config.vm = TRY(VmId::parse_hex(TRY(sys::get_string(object, "vm"))));
  config.site = TRY(SiteId::parse_hex(TRY(sys::get_string(object, "site"))));
  config.epoch = Epoch(TRY(sys::get_u64(object, "epoch")));
  config.journal_dir = TRY(sys::get_string(object, "journal_dir"));
  config.vault_socket = TRY(sys::get_string(object, "vault_socket"));
  config.uefi_template = TRY(sys::get_string_or(object, "uefi_template", ""));
  config.vmgs_path = TRY(sys::get_string_or(object, "vmgs_path", ""));
  config.is_protected = TRY(sys::get_bool_or(object, "protected", false));
  config.give_up_bad_tail = TRY(sys::get_bool_or(object, "give_up_bad_tail", false));
  config.segment_bytes = TRY(sys::get_u64_or(object, "segment_bytes", config.segment_bytes));
  config.merge_keep_segments =
      TRY(sys::get_u64_or(object, "merge_keep_segments", config.merge_keep_segments));
  if (sys::has_member(object, "security")) {
    config.vtpm = TRY(sys::get_bool_or(*TRY(sys::get_object(object, "security")), "vtpm", true));
  }
  const sys::JsonArray* volumes = TRY(sys::get_array(object, "volumes"));
  if (volumes->size() > kVolumesMax) return invalid("more than 64 volumes");
  for (const sys::JsonValue& value : *volumes) {
    config.volumes.push_back(TRY(parse_volume(value)));
    for (size_t i = 0; i + 1 < config.volumes.size(); ++i) {
      if (config.volumes[i].id == config.volumes.back().id ||
          config.volumes[i].name == config.volumes.back().name) {
        return invalid("two volumes of one id or name");
      }
    }
  }
  if (config.epoch.value == 0) return invalid("epochs start at 1");
  if (config.segment_bytes < (uint64_t{4} << 20)) return invalid("segments are at least 4 MiB");
  if (config.segment_bytes > journal::kSegmentBytesMax) {
    return invalid("segments are at most 256 MiB");
  }
  return config;
}

}  // namespace hf::keeper
