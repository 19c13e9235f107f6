#include "launcher/start_check.h"

#include <algorithm>
#include <array>

#include "hypervisor/machine.h"
#include "launcher/tree/state_tree.h"

namespace hf::launcher {
namespace {

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "nothing was started",
               .mend = "holdfast vm show"};
}

bool plain_name(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= 32 && std::ranges::all_of(name, allowed);
}

Error odd_config(std::string_view member, std::string_view value) {
  return refuse(ErrorCode::kPermission, "the keeper's config has " + std::string(member) + " \"" +
                                            readable(value.substr(0, 200)) +
                                            "\", which is not this VM's");
}

bool is_template(std::string_view path, const std::string& root) {
  if (!path.starts_with(root + "/")) return false;
  std::string_view name = path.substr(root.size() + 1);
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.front() != '.' && std::ranges::all_of(name, allowed);
}

// A word that is no path leads nowhere.
Status check_no_paths(std::string_view member, const sys::JsonValue& value, int depth = 0) {
  if (depth > 8) return refuse(ErrorCode::kLimit, "the keeper's config is nested too deep");
  if (value.is_string()) {
    std::string_view text(value.get_string().data(), value.get_string().size());
    if (text.find('/') != std::string_view::npos) return odd_config(member, text);
  } else if (value.is_array()) {
    for (const sys::JsonValue& item : value.get_array()) {
      TRY(check_no_paths(member, item, depth + 1));
    }
  } else if (value.is_object()) {
    for (const auto& item : value.get_object()) {
      TRY(check_no_paths(member, item.value(), depth + 1));
    }
  }
  return {};
}

}  // namespace

Status check_start_request(const StartRequest& request, size_t fd_count, const StartPlace& place) {
  // Logs, process files and what is told of a unit go by its name.
  constexpr std::array<std::string_view, 4> kOwn{"vault", "daemon", "link", "launcher"};
  if (std::ranges::find(kOwn, request.unit) != kOwn.end()) {
    return refuse(ErrorCode::kInvalidArgument, "\"" + request.unit + "\" is the launcher's own");
  }
  if (request.fd_names.size() != fd_count) {
    return refuse(ErrorCode::kInvalidArgument, std::to_string(fd_count) + " descriptors for " +
                                                   std::to_string(request.fd_names.size()) +
                                                   " names");
  }
  std::vector<std::string> names = request.fd_names;
  for (const SocketSpec& socket : request.sockets) {
    names.push_back(socket.name);
    TRY(check_socket_path(request.vm, socket.path));
  }
  if (request.config) names.emplace_back("config");
  std::ranges::sort(names);
  if (!std::ranges::all_of(names, plain_name) || std::ranges::adjacent_find(names) != names.end()) {
    return refuse(ErrorCode::kInvalidArgument,
                  "descriptor names must be different, of a-z, 0-9, - and _");
  }
  if (request.config) TRY(check_keeper_config(request.vm, *request.config, place));
  return {};
}

Status check_keeper_config(VmId vm, const sys::JsonObject& config, const StartPlace& place) {
  std::string own = place.state + "/vms/" + vm.hex();
  for (const auto& member : config) {
    std::string_view name(member.key().data(), member.key().size());
    const sys::JsonValue& value = member.value();
    std::string_view text =
        value.is_string() ? std::string_view(value.get_string().data(), value.get_string().size())
                          : std::string_view();
    bool good = true;
    if (name == "vm") {
      good = text == vm.hex();
    } else if (name == "site") {
      good = text == place.site.hex();
    } else if (name == "journal_dir") {
      good = text == own + "/journal";
    } else if (name == "vmgs_path") {
      std::string directory = own + "/journal/";
      good = text.starts_with(directory) && plain_file_name(text.substr(directory.size()));
    } else if (name == "vault_socket") {
      good = text == place.state + "/run/vault-keys.sock";
    } else if (name == "uefi_template") {
      good = is_template(text, place.firmware_root);
    } else {
      TRY(check_no_paths(name, value));
    }
    if (!good) return odd_config(name, text);
  }
  return {};
}

Result<QemuPlan> plan_qemu(VmId vm, const Machine& machine, const StartPlace& place) {
  hypervisor::QemuDefinition whole = TRY(hypervisor::machine_of(
      machine.definition,
      {.vm = vm, .accelerator = machine.accelerator, .firmware_root = place.firmware_root}));
  QemuPlan plan;
  auto add = [&](const std::string& name, const std::string& file) {
    plan.sockets.push_back({.name = name,
                            .path = "run/vms/" + vm.hex() + "/" + file,
                            .access = SocketAccess::kDaemon});
    return fd_number(plan.sockets.size() - 1);
  };
  whole.qmp_fd = add("qmp", "qmp.sock");
  whole.console_fd = add("console", "console.sock");
  if (whole.guest_agent) whole.guest_agent_fd = add("guest-agent", "qga.sock");
  plan.argv = TRY(hypervisor::qemu_arguments(whole));
  plan.host_network = std::ranges::any_of(
      whole.nics, [](const hypervisor::Nic& nic) { return nic.network == vm::Network::kUser; });
  return plan;
}

}  // namespace hf::launcher
