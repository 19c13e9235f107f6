// Signed boot programs of Debian packages (script/packages.txt), for tests only.
#pragma once

#include <filesystem>
#include <vector>

#include "secure_boot/image/image_verification.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/variable_store.h"
#include "secure_boot/testing/test_files.h"

namespace hf::secure_boot {

inline constexpr const char* kShim = "/usr/lib/shim/shimx64.efi.signed";
inline constexpr const char* kFallback = "/usr/lib/shim/fbx64.efi.signed";
inline constexpr const char* kMokManager = "/usr/lib/shim/mmx64.efi.signed";
inline constexpr const char* kGrub = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
inline constexpr const char* kUnsignedShim = "/usr/lib/shim/shimx64.efi";

// The newest kernel of linux-image-cloud-amd64.
inline std::string kernel_path() {
  std::string newest;
  for (const auto& entry : std::filesystem::directory_iterator("/boot")) {
    const std::string path = entry.path().string();
    if (path.starts_with("/boot/vmlinuz-6.1") && path > newest) newest = path;
  }
  HF_ASSERT(!newest.empty());
  return newest;
}

// What OVMF's store with Microsoft's keys of 2011 decides by.
inline SecureBootState microsoft_state() {
  const VariableStore store = VariableStore::parse(read_test_file(kMicrosoftStore)).value();
  const SecureBootVariables variables = secure_boot_variables(store);
  SecureBootState state;
  state.db = SignatureDatabase::parse(*variables.db).value();
  if (variables.dbx) state.dbx = SignatureDatabase::parse(*variables.dbx).value();
  return state;
}

// The certificate in a signature of `image` whose subject has `name` in it.
inline Bytes certificate_of(const PeImage& image, std::string_view name) {
  for (const ImageSignature& entry : signatures_of(image)) {
    for (const Bytes& der : entry.signature->certificates()) {
      if (read_certificate(der)->subject.find(name) != std::string::npos) return der;
    }
  }
  HF_ASSERT(false);
  return {};
}

}  // namespace hf::secure_boot
