/* In a guest: SetVariable through efivarfs. efi_write VARIABLE FILE writes FILE (attributes, then
 * data) in one call, after clearing the immutable flag that the kernel sets on variables it doesn't
 * know. Exit status: 0, or errno of the write. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char** argv) {
  static char data[1 << 20];
  if (argc != 3) return 254;
  int source = open(argv[2], O_RDONLY);
  ssize_t size = source < 0 ? -1 : read(source, data, sizeof data);
  if (size <= 0) return 253;
  int variable = open(argv[1], O_RDONLY);
  int flags = 0;
  if (variable >= 0 && ioctl(variable, FS_IOC_GETFLAGS, &flags) == 0) {
    flags &= ~FS_IMMUTABLE_FL;
    if (ioctl(variable, FS_IOC_SETFLAGS, &flags) != 0) return 252;
  }
  int target = open(argv[1], O_WRONLY | O_CREAT, 0644);
  if (target < 0) return 251;
  return write(target, data, (size_t)size) == size ? 0 : errno;
}
