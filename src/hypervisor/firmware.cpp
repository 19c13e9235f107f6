#include "hypervisor/firmware.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "crypto/crypto.h"
#include "sys/fd.h"

namespace hf::hypervisor {
namespace {

constexpr size_t kCodeBytesMax = size_t{16} << 20;
constexpr std::string_view kMachineTypeDefault = "pc-q35-7.2";

struct Candidate {
  FirmwareKind kind;
  std::string_view code;
  std::string_view variables;
};
// In order of preference. The 4M layout only: the 2M one has no room for today's dbx.
constexpr std::array kCandidates = {
    Candidate{FirmwareKind::kSecureBoot, "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
    Candidate{FirmwareKind::kSecureBoot, "OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"},
    Candidate{FirmwareKind::kPlain, "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},
};

Result<Digest> build_of(const std::string& path) {
  sys::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open the firmware " + path);
  Bytes code = TRY_CONTEXT(sys::read_all(fd.get(), kCodeBytesMax), path);
  return crypto::sha256(code);
}

std::vector<Firmware> installed(FirmwareKind kind, const std::string& root) {
  std::vector<Firmware> found;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.kind != kind) continue;
    std::string code = root + "/" + std::string(candidate.code);
    std::string variables = root + "/" + std::string(candidate.variables);
    if (::access(variables.c_str(), R_OK) != 0) continue;
    auto build = build_of(code);
    if (!build.ok()) continue;
    found.push_back(
        Firmware{.kind = kind, .code_path = code, .template_path = variables, .build = *build});
  }
  return found;
}

Error none_installed(const std::string& root) {
  return Error{.code = ErrorCode::kNotFound,
               .cause = "no UEFI firmware of the wanted kind in " + root,
               .effect = "the VM cannot be made or started",
               .mend = "apt-get install ovmf"};
}

}  // namespace

Result<Firmware> find_firmware(FirmwareKind kind, const std::string& root) {
  std::vector<Firmware> found = installed(kind, root);
  if (found.empty()) return none_installed(root);
  return std::move(found.front());
}

Result<Firmware> require_firmware(FirmwareKind kind, const Digest& recorded_build,
                                  const std::string& root) {
  std::vector<Firmware> found = installed(kind, root);
  if (found.empty()) return none_installed(root);
  for (Firmware& firmware : found) {
    if (firmware.build == recorded_build) return std::move(firmware);
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM was made with firmware build " + recorded_build.hex() +
                        ", installed is build " + found.front().build.hex(),
               .effect =
                   "the VM was not started: under another build its measurements change "
                   "and disks sealed to its vTPM would not unlock",
               .mend = "install the ovmf package the VM was made with"};
}

std::string_view default_machine_type() { return kMachineTypeDefault; }

Status check_machine_type(std::string_view machine_type) {
  // A versioned one: "q35" is another machine with every QEMU.
  constexpr std::string_view kPrefix = "pc-q35-";
  std::string_view version =
      machine_type.starts_with(kPrefix) ? machine_type.substr(kPrefix.size()) : std::string_view();
  auto good = [](char c) { return (c >= '0' && c <= '9') || c == '.'; };
  if (!version.empty() && version.size() <= 8 && std::ranges::all_of(version, good)) return {};
  return Error{
      .code = ErrorCode::kInvalidArgument,
      .cause = "the machine type \"" + std::string(machine_type) +
               "\" is not a versioned one like pc-q35-7.2",
      .effect = "the VM was not started",
      .mend = "leave the machine type out; a new VM gets " + std::string(kMachineTypeDefault)};
}

}  // namespace hf::hypervisor
