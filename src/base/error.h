// Error: what every failing call returns.
//
// What an operator reads has three parts, and each has its field: the cause (what happened), the
// effect (what it means for the VM or the command) and the mend (the command or act that puts it
// right). Libraries fill in the cause; whoever knows the operation adds effect and mend.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace hf {

enum class ErrorCode {
  kInvalidArgument,  // the caller's input is wrong; trying again does not help
  kNotFound,
  kExists,
  kConflict,    // state does not allow it now (epoch, key, lineage, running VM)
  kPermission,  // owner, mode, credentials
  kCorrupt,     // bytes on disk or wire are not what was written
  kWrongKey,    // authentication failed: wrong key, secret or certificate
  kNoSpace,
  kIo,  // the operating system reported an error
  kTimeout,
  kUnavailable,  // a peer or process is not there
  kUnsupported,
  kLimit,  // a bound of ours was reached
  kInternal,
};

std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string cause;
  std::string effect = {};
  std::string mend = {};

  // Adds where it happened, from the inside out: "open journal: segment 3: digest differs".
  Error&& context(std::string_view where) && {
    cause = std::string(where) + ": " + cause;
    return std::move(*this);
  }
  Error&& with_effect(std::string text) && {
    if (effect.empty()) effect = std::move(text);
    return std::move(*this);
  }
  Error&& with_mend(std::string text) && {
    if (mend.empty()) mend = std::move(text);
    return std::move(*this);
  }
  // "CAUSE. EFFECT. Mend: MEND" with the empty parts left out.
  std::string describe() const;
};

// From errno, with what was being done; ENOSPC and EDQUOT become kNoSpace, ENOENT kNotFound,
// EACCES and EPERM kPermission, EEXIST kExists.
Error errno_error(int error_number, std::string_view doing);

}  // namespace hf
