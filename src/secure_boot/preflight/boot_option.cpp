#include "secure_boot/preflight/boot_option.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/disk/gpt.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kBootOrderMax = 256;
constexpr uint32_t kActive = 1;
constexpr uint8_t kHardware = 1;
constexpr uint8_t kMessaging = 3;
constexpr uint8_t kMedia = 4;
constexpr uint8_t kBiosBoot = 5;
constexpr uint8_t kHardDrive = 1;
constexpr uint8_t kFilePath = 4;
constexpr uint8_t kEnd = 0x7F;
constexpr uint8_t kNetwork[] = {11, 12, 13, 24};  // MAC, IPv4, IPv6, URI
constexpr size_t kHardDriveSize = 42;

Error refused() { return Error{.code = ErrorCode::kInvalidArgument, .cause = "not a boot option"}; }

// "\EFI\debian\shimx64.efi" → "EFI/debian/shimx64.efi".
std::string with_slashes(std::string path) {
  std::ranges::replace(path, '\\', '/');
  path.erase(0, path.find_first_not_of('/'));
  return path;
}

// Of a device path: more than one FilePath node are one path.
void append_path(std::string& path, std::string node) {
  if (!path.empty() && !path.ends_with('/') && !node.empty()) path += '/';
  path += node;
}

struct PathKind {
  bool device = false;   // a controller or drive
  bool no_disk = false;  // the network, or a file in the firmware itself
};

void read_node(ByteSpan node, BootOption& option, PathKind& kind) {
  const uint8_t type = load_le<uint8_t>(node.data());
  const uint8_t sub_type = load_le<uint8_t>(node.data() + 1);
  kind.device = kind.device || type == kHardware || type == kMessaging;
  kind.no_disk =
      kind.no_disk || type == kBiosBoot ||
      (type == kMessaging && std::ranges::find(kNetwork, sub_type) != std::end(kNetwork)) ||
      (type == kMedia && sub_type != kHardDrive && sub_type != kFilePath);
  if (type != kMedia) return;
  if (sub_type == kHardDrive) {
    kind.device = true;
    if (node.size() == kHardDriveSize && load_le<uint8_t>(node.data() + 41) == 2) {
      option.partition = Guid::load(node.data() + 24);
    }
  } else if (sub_type == kFilePath) {
    append_path(option.path, with_slashes(utf8_from_utf16(node.subspan(4))));
  }
}

Result<SignatureDatabase> database(const std::optional<Bytes>& raw, std::string_view name) {
  if (!raw) return SignatureDatabase();
  return TRY_CONTEXT(SignatureDatabase::parse(*raw), name);
}

}  // namespace

Result<BootOption> parse_boot_option(uint16_t number, ByteSpan data) {
  if (data.size() < 8) return refused();
  BootOption option{.number = number};
  option.active = (load_le<uint32_t>(data.data()) & kActive) != 0;
  const size_t list_size = load_le<uint16_t>(data.data() + 4);
  size_t at = 6;
  while (at + 2 <= data.size() && load_le<uint16_t>(data.data() + at) != 0) at += 2;
  if (at + 2 > data.size()) return refused();
  option.description = utf8_from_utf16(data.subspan(6, at - 6));
  at += 2;
  if (list_size > data.size() - at) return refused();
  PathKind kind;
  ByteSpan nodes = data.subspan(at, list_size);
  while (nodes.size() >= 4 && load_le<uint8_t>(nodes.data()) != kEnd) {
    const size_t length = load_le<uint16_t>(nodes.data() + 2);
    if (length < 4 || length > nodes.size()) return refused();
    read_node(nodes.first(length), option, kind);
    nodes = nodes.subspan(length);
  }
  option.whole_device = option.path.empty() && kind.device && !kind.no_disk;
  return option;
}

std::vector<BootOption> boot_order_of(const VariableStore& store) {
  std::vector<BootOption> options;
  const auto add = [&](std::string_view variable, size_t count_max) {
    const Variable* order = store.find(guids::kGlobalVariable, variable);
    if (order == nullptr) return;
    const size_t count = std::min(order->data.size() / 2, count_max);
    for (size_t index = 0; index < count; ++index) {
      const uint16_t number = load_le<uint16_t>(order->data.data() + index * 2);
      const Variable* entry = store.find(guids::kGlobalVariable, fmt::format("Boot{:04X}", number));
      if (entry == nullptr) continue;
      Result<BootOption> option = parse_boot_option(number, entry->data);
      if (option.ok()) options.push_back(*std::move(option));
    }
  };
  add("BootNext", 1);  // once; firmware deletes it
  add("BootOrder", kBootOrderMax);
  return options;
}

Result<SecureBootState> secure_boot_state_of(const SecureBootVariables& variables) {
  SecureBootState state;
  state.enforced = variables.enabled;
  state.db = TRY(database(variables.db, "db"));
  state.dbx = TRY(database(variables.dbx, "dbx"));
  state.mok = TRY(database(variables.mok, "MokList"));
  state.mokx = TRY(database(variables.mokx, "MokListX"));
  state.shim_checks_nothing = !variables.shim_validation;
  state.mok_ignores_db = variables.mok_ignores_db;
  if (variables.sbat_level) {
    // shim writes the variable anew if it cannot read it.
    Result<SbatLevel> level = parse_sbat_level(*variables.sbat_level);
    if (level.ok()) state.sbat_level = *std::move(level);
  }
  return state;
}

Result<PreflightInput> preflight_input_of(const VariableStore& store, std::string profile) {
  PreflightInput input{.profile = std::move(profile)};
  const SecureBootVariables variables = secure_boot_variables(store);
  input.state = TRY(secure_boot_state_of(variables));
  for (const std::string& name : variables.ignored) {
    input.warnings.push_back(name +
                             " does not count: its attributes are not those that shim keeps, "
                             "and shim will delete it");
  }
  if (const Variable* policy = store.find(guids::kShimLock, "SbatPolicy")) {
    constexpr std::byte kLatest{1};
    input.state.sbat_latest = !policy->data.empty() && policy->data[0] == kLatest;
  }
  input.boot_order = boot_order_of(store);
  return input;
}

}  // namespace hf::secure_boot
