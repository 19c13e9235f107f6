// One running copy of a VM. Production is the one that has the title; drills and branches are
// copies with an id, key material and network of their own, and are never taken for it.
#pragma once

#include <array>
#include <string>
#include <tuple>

#include "base/ids.h"
#include "base/result.h"
#include "sys/typed_json.h"

namespace hf::vm {

enum class InstanceKind { kProduction, kDrill, kBranch };
constexpr auto json_words(sys::JsonOf<InstanceKind>) {
  return std::array{sys::JsonWord{"production", InstanceKind::kProduction},
                    sys::JsonWord{"drill", InstanceKind::kDrill},
                    sys::JsonWord{"branch", InstanceKind::kBranch}};
}

using InstanceId = StrongBytes<struct InstanceIdTag, 16>;

struct Instance {
  VmId vm;
  InstanceId id;  // zero for production: there is one
  InstanceKind kind = InstanceKind::kProduction;
  auto operator<=>(const Instance&) const = default;
  static Instance production(VmId vm) { return {.vm = vm}; }
};
constexpr auto json_members(sys::JsonOf<Instance>) {
  return std::tuple(sys::json_member("vm", &Instance::vm), sys::json_member("id", &Instance::id),
                    sys::json_member("kind", &Instance::kind));
}
// Production, and nothing else, has the id zero; no VM has.
Status json_check(const Instance& instance);

// "<vm>" for production, else "<vm>-<kind>-<instance>": for names of units and directories.
std::string instance_name(const Instance& instance);

}  // namespace hf::vm
