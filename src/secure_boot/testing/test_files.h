// Files of Debian packages that the tests read (script/packages.txt), for tests only.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "base/bytes.h"

namespace hf::secure_boot {

inline constexpr const char* kMicrosoftStore = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";
inline constexpr const char* kSnakeoilStore = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
inline constexpr const char* kEmptyStore = "/usr/share/OVMF/OVMF_VARS_4M.fd";
inline constexpr const char* kSmallStore = "/usr/share/OVMF/OVMF_VARS.ms.fd";
inline constexpr const char* kDebianCa = "/usr/share/shim/debian-uefi-ca.der";
inline constexpr const char* kSnakeoilKey = "/usr/share/ovmf/PkKek-1-snakeoil.key";
inline constexpr const char* kSnakeoilCertificate = "/usr/share/ovmf/PkKek-1-snakeoil.pem";

inline Bytes read_test_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  HF_ASSERT(file.good());
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace hf::secure_boot
