// What `holdfast secure-boot` works on: a variable store in a file, or a VM's.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/core/output.h"
#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::cli {

class SecureBootTarget {
 public:
  virtual ~SecureBootTarget() = default;
  virtual Result<secure_boot::SecureBootVariables> read() = 0;
  // All or none of them; what each did.
  virtual Result<std::vector<secure_boot::ChangeResult>> apply(
      std::span<const secure_boot::Change> changes) = 0;
};

// A name with a '/' or of a file that is there is a file; any other name is a VM's.
Result<std::unique_ptr<SecureBootTarget>> open_secure_boot_target(const Context& context,
                                                                  const std::string& name);

// A VM's: it must be stopped for apply(). Whether it is there shows at the first call.
std::unique_ptr<SecureBootTarget> vm_secure_boot_target(const Context& context,
                                                        const std::string& name);

// A file's bytes, at most `bytes_max`. kNotFound, kPermission, kLimit, kInvalidArgument (no file).
Result<Bytes> read_file(const std::string& path, size_t bytes_max);
// Writes a file as a whole: beside it first, synced, then in its place, with its mode and owner.
Status replace_file(const std::string& path, ByteSpan bytes);

}  // namespace hf::cli
