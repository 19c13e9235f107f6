#include "vtpm/file_state_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.h"

namespace hf::vtpm {
namespace {

constexpr std::string_view kName = "/vtpm-state";
constexpr std::string_view kNewName = "/vtpm-state.new";

}  // namespace

Status FileStateStore::commit(ByteSpan state_blob) {
  const std::string fresh = directory_ + std::string(kNewName);
  const std::string name = directory_ + std::string(kName);
  sys::UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return errno_error(errno, "create " + fresh);
  TRY(sys::write_all(fd.get(), state_blob));
  if (::fsync(fd.get()) != 0) return errno_error(errno, "sync " + fresh);
  if (::rename(fresh.c_str(), name.c_str()) != 0) return errno_error(errno, "rename " + fresh);
  sys::UniqueFd directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return errno_error(errno, "sync " + directory_);
  ++commits_;
  return {};
}

Result<std::optional<Bytes>> FileStateStore::load() const {
  const std::string name = directory_ + std::string(kName);
  sys::UniqueFd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return std::optional<Bytes>();
  if (!fd) return errno_error(errno, "open " + name);
  Bytes bytes = TRY_CONTEXT(sys::read_all(fd.get(), kStateBlobSizeMax), name);
  return std::optional<Bytes>(std::move(bytes));
}

}  // namespace hf::vtpm
