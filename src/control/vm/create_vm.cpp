#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "control/core/log.h"
#include "control/host/image_check.h"
#include "control/store/catalog_inner.h"
#include "control/vm/vm_operations.h"
#include "crypto/crypto.h"
#include "hypervisor/machine.h"
#include "keeper_protocol/config.h"
#include "vm/admission.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;

// Importing is bounded by the disk's speed; this only ends one that hangs.
constexpr std::chrono::milliseconds kImportLimit = 6h;
constexpr std::chrono::milliseconds kLook = 300ms;
constexpr std::chrono::milliseconds kEndedLimit = 1s;  // for word of an end that has been

struct Images {
  std::vector<sys::UniqueFd> fds;
  std::vector<std::string> names;
};

// Opens the images and settles every disk's size.
Result<Images> settle_disks(const vm::CreateRequest& request, vm::Definition& definition) {
  Images images;
  for (size_t i = 0; i < request.disks.size(); ++i) {
    const vm::DiskRequest& wish = request.disks[i];
    vm::Disk disk{.id = static_cast<uint32_t>(i + 1),
                  .name = fmt::format("disk{}", i + 1),
                  .size_bytes = wish.size_bytes};
    if (!wish.image.empty()) {
      CheckedImage image = TRY(open_image(wish.image));
      if (disk.size_bytes == 0) disk.size_bytes = image.size_bytes;
      if (image.size_bytes > disk.size_bytes) {
        return Error{.code = ErrorCode::kInvalidArgument,
                     .cause = fmt::format("the disk image {} has {} bytes and the disk only {}",
                                          wish.image, image.size_bytes, disk.size_bytes),
                     .effect = "nothing was created",
                     .mend = "leave the size out, or give one that holds the image"};
      }
      images.fds.push_back(std::move(image.fd));
      images.names.push_back(fmt::format("image{}", i + 1));
    }
    definition.disks.push_back(std::move(disk));
  }
  return images;
}

Status settle_platform(VmId vm, vm::Definition& definition) {
  hypervisor::Firmware firmware =
      TRY(hypervisor::find_firmware(hypervisor::firmware_kind(definition)));
  definition.firmware = {
      .code = firmware.code_path, .vars_template = firmware.template_path, .build = firmware.build};
  definition.machine_type = std::string(hypervisor::default_machine_type());
  for (size_t i = 0; i < definition.nics.size(); ++i) definition.nics[i].mac = vm::nic_mac(vm, i);
  TRY(check_new_vm(vm, definition));
  return {};
}

sys::JsonObject keeper_config(const Services& services, const VmRow& row,
                              const vm::Definition& definition) {
  keeper_protocol::CreateConfig config{.vm = row.id,
                                       .site = services.site.site_id,
                                       .epoch = row.epoch,
                                       .journal_dir = services.paths.journal(row.id),
                                       .vault_socket = services.paths.vault_keys(),
                                       .vtpm = definition.vtpm,
                                       .uefi_template = definition.firmware.vars_template};
  if (definition.vtpm) {
    config.pcr_banks.clear();
    for (const vm::PcrBank bank : vm::pcr_banks(definition)) {
      config.pcr_banks.push_back(static_cast<uint16_t>(bank));
    }
  }
  for (const vm::Disk& disk : definition.disks) {
    config.volumes.push_back(
        {.id = VolumeId(disk.id), .name = disk.name, .size_bytes = disk.size_bytes});
  }
  return keeper_protocol::encode_config(config);
}

// How far the keeper's reading has come: it seeks for the next data in a file that is open here too
// (keeper/create.cpp), which moves the offset that both share.
std::optional<unsigned> percent_read(const Images& images) {
  uint64_t size = 0;
  uint64_t read = 0;
  for (const sys::UniqueFd& fd : images.fds) {
    struct stat info{};
    const off_t at = ::lseek(fd.get(), 0, SEEK_CUR);
    if (at < 0 || ::fstat(fd.get(), &info) != 0) return std::nullopt;
    if (at > 0) read = size;  // one after the other: those before it are done
    size += static_cast<uint64_t>(info.st_size);
    read += static_cast<uint64_t>(std::min(at, info.st_size));
  }
  if (size == 0) return std::nullopt;
  return static_cast<unsigned>(read / (size / 100 + 1));
}

// Ends with the keeper, or before it where the job is told to.
Result<UnitEnd> await_import(Services& services, const std::string& unit, const Images& images,
                             std::chrono::milliseconds limit, Progress& progress) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    Result<UnitEnd> ended = services.units->wait_end(unit, std::min(limit, kLook));
    if (ended.ok() || ended.error().code != ErrorCode::kTimeout) return ended;
    if (std::chrono::steady_clock::now() >= end) return ended;
    if (progress.cancelled()) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "the creation of the VM was cancelled",
                   .effect = "nothing was created; what there was of it is removed",
                   .mend = "if it is wanted after all, give the command again"};
    }
    if (const std::optional<unsigned> percent = percent_read(images)) progress.percent(*percent);
  }
}

// The keeper makes the journal, imports images and variables, manufactures the TPM, and ends.
Status import_into_journal(Services& services, const VmRow& row, const vm::Definition& definition,
                           const Images& images, Progress& progress) {
  // From their beginning, whatever the check has read.
  for (const sys::UniqueFd& fd : images.fds) static_cast<void>(::lseek(fd.get(), 0, SEEK_SET));
  launcher::StartRequest request{.unit = import_unit(row.id),
                                 .kind = launcher::UnitKind::kKeeper,
                                 .vm = row.id,
                                 .vm_number = row.number,
                                 .config = keeper_config(services, row, definition),
                                 .fd_names = images.names};
  std::vector<int> fds;
  for (const sys::UniqueFd& fd : images.fds) fds.push_back(fd.get());
  TRY(services.units->start(request, fds));
  // By now the vault knows from the launcher which user the keeper is; the keeper waits for this.
  // One that has ended before has said why.
  Status released = services.vault.release(row.id);
  Result<UnitEnd> end = await_import(services, request.unit, images,
                                     released.ok() ? kImportLimit : kEndedLimit, progress);
  if (!end.ok()) {
    static_cast<void>(services.units->stop(request.unit, 9, 5s));
    return released.ok() ? end.error() : released.error();
  }
  if (end->exit_status == 0 && end->signal == 0) return {};
  Error error = error_of_end("the keeper that imports the disks", *end);
  // The keeper speaks of its journal, which is undone; what it means for who asked is another
  // thing.
  error.effect = "nothing was created";
  if (error.code == ErrorCode::kNoSpace) {
    error.mend =
        "free space on the file system of " + services.paths.state + ", then create the VM again";
  }
  return std::move(error).with_mend("look at " + services.paths.state + "/run/log/" + request.unit +
                                    ".log");
}

void undo(std::string_view what, const Status& status) {
  if (!status.ok())
    log_error(std::string("while undoing, ") + std::string(what) + ": " +
              status.error().describe());
}

}  // namespace

Result<hypervisor::Firmware> check_new_vm(VmId vm, const vm::Definition& definition) {
  TRY(vm::check_new_definition(vm, definition));
  TRY(hypervisor::check_machine_type(definition.machine_type));
  return hypervisor::require_firmware(hypervisor::firmware_kind(definition),
                                      definition.firmware.build);
}

Status check_create(Services& services, const vm::CreateRequest& request) {
  vm::Definition definition = request.definition;
  if (services.catalog->vm_named(definition.name).ok()) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "a VM \"" + definition.name + "\" is there already",
                 .effect = "nothing was created",
                 .mend = "choose another name, or holdfast vm delete " + definition.name};
  }
  TRY(settle_disks(request, definition));
  return settle_platform(VmId(), definition);
}

Result<sys::JsonObject> create_vm(Services& services, const vm::CreateRequest& request,
                                  Progress& progress) {
  VmRow row;
  vm::Definition definition = request.definition;
  progress.step("check images and firmware");
  Images images = TRY(settle_disks(request, definition));
  TRY(settle_platform(VmId(), definition));

  VmRemains remains = VmRemains::kNone;
  Undo undo_all;
  progress.step("make the VM's title and key in the vault");
  const vault::KeyInfo key = TRY(services.vault.create_vm());
  row.id = key.vm;
  undo_all.add([&] { undo("delete the key", services.vault.delete_key(row.id)); });
  undo_all.add([&] { undo("take the key back", services.vault.revoke(row.id)); });
  TRY(settle_platform(row.id, definition));
  progress.step("enter VM " + definition.name + " in the catalog");
  row.name = definition.name;
  row.definition = sys::to_text(to_json(definition));
  row.epoch = Epoch(1);
  row.role = VmRole::kCreating;
  row.created = catalog_now();
  row = TRY(services.catalog->add_vm(std::move(row)));
  undo_all.add([&] {
    undo("remove the VM from the catalog", services.catalog->remove_vm(row.id, remains));
  });

  progress.step(images.fds.empty() ? "make the journal" : "import the images into the journal");
  undo_all.add([&] {
    Status removed = services.units->remove_vm(row.id);
    if (!removed.ok()) remains = VmRemains::kSomething;
    undo("remove the VM's directories", removed);
  });
  TRY(import_into_journal(services, row, definition, images, progress));

  TRY(services.vault.revoke(row.id));
  TRY(services.catalog->change_role(row, VmRole::kActive, row.epoch, ""));
  undo_all.dismiss();
  log_info("VM " + row.name + " (" + row.id.hex() + ") was created");
  services.happened("vm.created", row.name,
                    fmt::format("was created, with {} disk{}: {}", definition.disks.size(),
                                definition.disks.size() == 1 ? "" : "s", row.id.hex()),
                    progress.by());
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["key_id"] = key.key_id.hex();
  return result;
}

Status remove_cut_off(Services& services, const VmRow& row) {
  log_warning("the creation of VM " + row.name + " was cut off: what there is of it is removed");
  TRY(services.units->stop(import_unit(row.id), 9, 5s));
  TRY(services.units->remove_vm(row.id));
  static_cast<void>(services.vault.revoke(row.id));
  Status deleted = services.vault.delete_key(row.id);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound) return deleted;
  TRY(services.catalog->audit("holdfastd", "creation cut off", row.name, row.id.hex()));
  services.happened("vm.creation-cut-off", row.name,
                    "its creation was cut off: what there was of it is removed", {},
                    Severity::kWarning);
  return services.catalog->remove_vm(row.id, VmRemains::kNone);
}

}  // namespace hf::control
