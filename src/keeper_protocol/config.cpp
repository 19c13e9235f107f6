#include "keeper_protocol/config.h"

#include <algorithm>

namespace hf::keeper_protocol {
namespace {

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

Status check_volumes(const std::vector<VolumeConfig>& volumes) {
  for (size_t i = 0; i < volumes.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (volumes[i].id == volumes[j].id || volumes[i].name == volumes[j].name) {
        return invalid("two volumes of one id or name");
      }
    }
  }
  return {};
}

}  // namespace

Status json_check(const VolumeConfig& volume) {
  if (volume.size_bytes % 512 == 0) return {};
  return invalid("size of volume " + volume.name + " is not a multiple of 512");
}

Status json_check(const CreateConfig& config) {
  constexpr std::array<uint16_t, 4> kBanks = {0x4, kPcrBankSha256, 0xC, 0xD};
  for (const uint16_t bank : config.pcr_banks) {
    if (std::ranges::count(kBanks, bank) == 0 || std::ranges::count(config.pcr_banks, bank) > 1) {
      return invalid("a PCR bank that no vTPM has, or one twice");
    }
  }
  if (config.vtpm && std::ranges::count(config.pcr_banks, kPcrBankSha256) == 0) {
    return invalid("no SHA-256 among the PCR banks");
  }
  return check_volumes(config.volumes);
}
Status json_check(const ServeConfig& config) { return check_volumes(config.volumes); }

Result<Config> decode_config(std::string_view json) {
  const sys::JsonObject object = TRY_CONTEXT(
      sys::parse_json_object(
          json, {.bytes_max = kConfigBytesMax, .duplicates = sys::JsonDuplicates::kRefuse}),
      "keeper configuration");
  return TRY_CONTEXT(sys::decode_operation<Config>(object, "mode"), "keeper configuration");
}

}  // namespace hf::keeper_protocol
