#include "cli/core/mends.h"

namespace hf::cli {
namespace {

std::string mend_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "correct what is named, and give the command again; its --help says what it takes";
    case ErrorCode::kNotFound:
      return "see that it is there and spelled so, and give the command again";
    case ErrorCode::kExists:
      return "choose another name, or take away what is there";
    case ErrorCode::kConflict:
      return "give the command again when that is over: holdfast vm list and holdfast job list "
             "show "
             "what goes on";
    case ErrorCode::kPermission:
      return "give the command as a user who may: root, with sudo";
    case ErrorCode::kCorrupt:
      return "put a whole copy in its place, and give the command again";
    case ErrorCode::kWrongKey:
      return "give the key, secret or certificate that belongs to it";
    case ErrorCode::kNoSpace:
      return "make room there (df -h shows it), and give the command again";
    case ErrorCode::kIo:
      return "see to the file or device that is named (dmesg), and give the command again";
    case ErrorCode::kTimeout:
    case ErrorCode::kUnavailable:
      return "give the command again in a moment";
    case ErrorCode::kUnsupported:
      return "use a build of Holdfast that knows it; holdfast --version names this one";
    case ErrorCode::kLimit:
      return "give less at a time";
    case ErrorCode::kInternal:
      break;
  }
  return "this is a fault of Holdfast: report it, with what holdfast --version says";
}

}  // namespace

Error completed(Error error) {
  if (error.effect.empty()) error.effect = "the command failed";
  if (error.mend.empty()) error.mend = mend_of(error.code);
  return error;
}

Error completed_of_site(Error error, const std::string& state) {
  if (!error.mend.empty()) return error;
  error.mend =
      mend_of(error.code) + "; holdfastd's log may have more: " + state + "/run/log/daemon.log";
  return error;
}

}  // namespace hf::cli
