#include "vm/instance.h"

namespace hf::vm {

Status json_check(const Instance& instance) {
  if (instance.vm.is_zero()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "the VM's id is zero"};
  }
  if ((instance.kind == InstanceKind::kProduction) != instance.id.is_zero()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "production has no instance id, a drill or branch has one"};
  }
  return {};
}

std::string instance_name(const Instance& instance) {
  if (instance.kind == InstanceKind::kProduction) return instance.vm.hex();
  return instance.vm.hex() + "-" + std::string(sys::json_word(instance.kind)) + "-" +
         instance.id.hex();
}

}  // namespace hf::vm
