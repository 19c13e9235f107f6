#include "secure_boot/preflight/vbs_readiness.h"

#include <fmt/format.h>

namespace hf::secure_boot {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

VbsReadiness vbs_readiness(const VmProfile& profile) {
  VbsReadiness result;
  auto add = [&](std::string name, bool required, bool present, std::string why) {
    result.parts.push_back(
        {.name = std::move(name), .required = required, .present = present, .why = std::move(why)});
  };
  add("UEFI", true, profile.uefi, "the hypervisor is started by a UEFI boot loader");
  add("Secure Boot", true, profile.secure_boot,
      "only signed loaders may start the hypervisor; create the VM with --secure-boot on");
  add("nested virtualization", true, profile.nested_virtualization,
      "VBS is a hypervisor inside the guest: it needs VMX or SVM with nested paging from the host");
  add("SMM-protected variables", false, profile.smm,
      "without it the guest's root can rewrite the variable store");
  add("memory attributes table and NX", false, profile.memory_attributes,
      "lets the hypervisor keep firmware's run-time code read-only and its data not executable");
  add("vTPM", false, profile.vtpm,
      "keys are sealed to the measured boot; create the VM with --vtpm on");
  add("IOMMU", false, profile.iommu,
      "bounds what devices can reach by DMA; without it VBS runs without DMA protection");
  std::vector<std::string> missing;
  std::vector<std::string> weaker;
  for (const VbsPart& part : result.parts) {
    if (!part.present) (part.required ? missing : weaker).push_back(part.name);
  }
  result.ready = missing.empty();
  if (!missing.empty()) {
    result.summary = "not ready for VBS: " + joined(missing) + " missing";
  } else if (!weaker.empty()) {
    result.summary = "ready for VBS, without " + joined(weaker);
  } else {
    result.summary = "ready for VBS";
  }
  return result;
}

sys::JsonObject to_json(const VbsReadiness& readiness) {
  sys::JsonArray parts;
  for (const VbsPart& part : readiness.parts) {
    parts.push_back(sys::JsonObject{{"name", part.name},
                                    {"required", part.required},
                                    {"present", part.present},
                                    {"why", part.why}});
  }
  return {{"ready", readiness.ready}, {"summary", readiness.summary}, {"parts", std::move(parts)}};
}

}  // namespace hf::secure_boot
