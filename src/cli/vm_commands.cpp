#include <filesystem>

#include "cli/commands.h"

namespace hf::cli {
namespace {

std::string target(const std::string& name, std::string_view rest = "") {
  return "/v1/vms/" + url_escape(name) + std::string(rest);
}

Status run_job(const Context& context, const std::string& where, const sys::JsonObject& body) {
  Client client = context.client();
  sys::JsonValue job = TRY(client.post(where, body));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

}  // namespace

Status vm_create(const Context& context, const VmCreateOptions& options) {
  sys::JsonArray disks;
  for (const std::string& disk : options.disks) {
    disks.push_back(sys::JsonObject{{"image", std::filesystem::absolute(disk).string()}});
  }
  for (const std::string& blank : options.blanks) {
    disks.push_back(sys::JsonObject{{"size_bytes", TRY(parse_size(blank))}});
  }
  sys::JsonObject body{{"name", options.name},
                       {"security_type", options.security_type},
                       {"cpus", options.cpus},
                       {"memory_mib", TRY(parse_size(options.memory)) >> 20},
                       {"disks", std::move(disks)}};
  if (!options.secure_boot.empty()) body["secure_boot"] = options.secure_boot == "on";
  if (!options.vtpm.empty()) body["vtpm"] = options.vtpm == "on";
  sys::JsonArray nics;
  for (const std::string& nic : options.nics) nics.emplace_back(nic);
  body["nics"] = std::move(nics);
  return run_job(context, "/v1/vms", body);
}

Status vm_start(const Context& context, const std::string& name, bool without_peer,
                bool give_up_bad_tail) {
  return run_job(context, target(name, "/start"),
                 {{"without_peer", without_peer}, {"give_up_bad_tail", give_up_bad_tail}});
}

Status vm_stop(const Context& context, const std::string& name, bool force,
               uint64_t timeout_seconds) {
  return run_job(context, target(name, "/stop"),
                 {{"force", force}, {"timeout_seconds", timeout_seconds}});
}

Status vm_delete(const Context& context, const std::string& name, bool yes) {
  Client client = context.client();
  TRY(client.get(target(name)));
  if (!yes)
    TRY(confirm("Delete VM \"" + name +
                "\" with its disks and its key? Nothing can bring them back."));
  sys::JsonValue job = TRY(client.remove(target(name)));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

Status vm_list(const Context& context) {
  sys::JsonValue vms = TRY(context.client().get("/v1/vms"));
  if (!vms.is_array()) return {};
  print_rows(context, vms.as_array(),
             {{"NAME", "name"},
              {"STATE", "state"},
              {"BOOT", "boot"},
              {"SECURITY", "security_type"},
              {"CPUS", "cpus"},
              {"MEMORY MiB", "memory_mib"},
              {"EPOCH", "epoch"},
              {"ID", "id"}});
  return {};
}

Status vm_show(const Context& context, const std::string& name) {
  sys::JsonValue vm = TRY(context.client().get(target(name)));
  if (vm.is_object()) print_object(context, vm.as_object());
  return {};
}

}  // namespace hf::cli
