#include "sys/disk_image.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>

namespace hf::sys {
namespace {

struct Signature {
  std::string_view format;
  size_t offset;
  std::string_view bytes;
};

// From QEMU's block drivers' probe functions.
constexpr Signature kSignatures[] = {
    {"qcow2", 0, std::string_view("QFI\xfb", 4)},
    {"vmdk", 0, "KDMV"},
    {"vmdk", 0, "COWD"},
    {"vmdk", 0, "# Disk DescriptorFile"},
    {"vhdx", 0, "vhdxfile"},
    {"vpc", 0, "conectix"},
    {"vdi", 64, std::string_view("\x7f\x10\xda\xbe", 4)},
    {"qed", 0, std::string_view("QED\0", 4)},
};

}  // namespace

Result<uint64_t> disk_image_size(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno_error(errno, "disk image " + path);
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  uint64_t size = 0;
  if (S_ISBLK(info.st_mode) && ::ioctl(fd, BLKGETSIZE64, &size) == 0) return size;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = path + " is neither a file nor a block device",
               .mend = "give the path of a raw disk image"};
}

std::optional<std::string_view> foreign_image_format(ByteSpan head) {
  const std::string_view text = as_text(head);
  for (const Signature& signature : kSignatures) {
    if (text.size() < signature.offset + signature.bytes.size()) continue;
    if (text.substr(signature.offset, signature.bytes.size()) == signature.bytes) {
      return signature.format;
    }
  }
  return std::nullopt;
}

}  // namespace hf::sys
