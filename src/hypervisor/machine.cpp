#include "hypervisor/machine.h"

namespace hf::hypervisor {

FirmwareKind firmware_kind(const vm::Definition& definition) {
  return definition.secure_boot ? FirmwareKind::kSecureBoot : FirmwareKind::kPlain;
}

Result<QemuDefinition> machine_of(const vm::Definition& definition, const MachinePlace& place) {
  TRY(check_machine_type(definition.machine_type));
  Firmware firmware = TRY(
      require_firmware(firmware_kind(definition), definition.firmware.build, place.firmware_root));
  QemuDefinition machine{
      .name = definition.name,
      .vm = place.vm,
      .machine_type = definition.machine_type,
      .accelerator = place.accelerator,
      .cpus = definition.cpus,
      .memory_mib = definition.memory_mib,
      .security = {.secure_boot = definition.secure_boot, .vtpm = definition.vtpm},
      .firmware_code = firmware.code_path,
      .vars_socket_path = "vars.nbd",
      .guest_agent = definition.guest_agent};
  if (definition.vtpm) machine.tpm_socket_path = "tpm.sock";
  for (const vm::Disk& disk : definition.disks) {
    machine.disks.push_back({.name = disk.name, .socket_path = disk.name + ".nbd"});
  }
  for (const vm::Nic& nic : definition.nics) {
    machine.nics.push_back({.mac = nic.mac, .network = nic.network});
  }
  return machine;
}

}  // namespace hf::hypervisor
