#include "launcher/protocol/site_config.h"

#include "base/host_port.h"

namespace hf::launcher {
namespace {

// Of the whole state directory's layout. 2: replicas lie in vms/, no TLS key in daemon/. 3: the
// vault keeps pairing tokens and what an operator called a recipient.
constexpr uint64_t kVersion = 3;

Error bad(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

}  // namespace

Result<SiteConfig> parse_site_config(std::string_view text) {
  sys::JsonObject object = TRY(sys::parse_json_object(text, {.bytes_max = size_t{64} << 10}));
  uint64_t version = TRY(sys::get_u64(object, "version"));
  if (version < kVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause =
                     "the state directory was made by an older build of Holdfast (site.json "
                     "has version " +
                     std::to_string(version) + ", this build's is " + std::to_string(kVersion) +
                     ")",
                 .effect = "the site does not start, and nothing in it was changed",
                 .mend =
                     "run the VMs by the build that made it until they are copied out; make a "
                     "new site in another directory: holdfast --state DIR site init"};
  }
  if (version != kVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "site.json has version " + std::to_string(version) + "; known is " +
                          std::to_string(kVersion),
                 .effect = "the site does not start, and nothing in it was changed",
                 .mend = "use the newer build of Holdfast that made it"};
  }
  SiteConfig config;
  config.name = TRY(sys::get_string(object, "name"));
  config.site_id =
      TRY_CONTEXT(SiteId::parse_hex(TRY(sys::get_string(object, "site_id"))), "site_id");
  config.listen = TRY(sys::get_string(object, "listen"));
  TRY_CONTEXT(parse_host_port(config.listen), "listen");
  config.advertise = TRY(sys::get_string_or(object, "advertise", ""));
  if (!config.advertise.empty()) {
    TRY_CONTEXT(parse_reachable_address(config.advertise), "advertise");
  }
  uint64_t uid_base = TRY(sys::get_u64(object, "uid_base"));
  if (uid_base != 0 && (uid_base < kUidBaseMin || uid_base > kUidBaseMax)) {
    return bad("uid_base is neither 0 nor from 1000 to 4000000000");
  }
  config.uid_base = static_cast<uint32_t>(uid_base);
  config.vault_secret_file = TRY(sys::get_string_or(object, "vault_secret_file", ""));
  if (!config.vault_secret_file.empty() && !config.vault_secret_file.starts_with('/')) {
    return bad("vault_secret_file is not an absolute path");
  }
  return config;
}

std::string to_text(const SiteConfig& config) {
  sys::JsonObject object;
  object["version"] = kVersion;
  object["name"] = config.name;
  object["site_id"] = config.site_id.hex();
  object["listen"] = config.listen;
  if (!config.advertise.empty()) object["advertise"] = config.advertise;
  object["uid_base"] = config.uid_base;
  if (!config.vault_secret_file.empty()) object["vault_secret_file"] = config.vault_secret_file;
  return sys::to_text(object);
}

}  // namespace hf::launcher
