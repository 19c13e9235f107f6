#include "control/host/image_check.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace hf::control {
namespace {

class ImageTest : public ::testing::Test {
 protected:
  ImageTest() {
    char pattern[] = "/tmp/hf-image-XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  ~ImageTest() override { std::filesystem::remove_all(dir_); }
  std::string file(std::string_view head, size_t size) {
    std::string path = dir_ + "/image";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << head;
    std::filesystem::resize_file(path, size);
    return path;
  }
  static void expect_refused(const std::string& path, ErrorCode code, std::string_view mend) {
    Result<CheckedImage> image = open_image(path);
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code, code);
    EXPECT_FALSE(image.error().effect.empty());
    EXPECT_NE(image.error().mend.find(mend), std::string::npos) << image.error().mend;
  }
  std::string dir_;
};

TEST_F(ImageTest, a_raw_image_is_taken_with_its_size) {
  Result<CheckedImage> image = open_image(file("anything", 2 << 20));
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->size_bytes, 2U << 20);
}

TEST_F(ImageTest, a_missing_image_is_named) {
  expect_refused(dir_ + "/nothing", ErrorCode::kNotFound, "ls -l");
}

TEST_F(ImageTest, too_small_or_cut_images_are_refused) {
  expect_refused(file("", 0), ErrorCode::kInvalidArgument, "--blank");
  expect_refused(file("", 512), ErrorCode::kInvalidArgument, "--blank");
  expect_refused(file("", (2 << 20) + 1), ErrorCode::kInvalidArgument, "truncate");
}

TEST_F(ImageTest, other_formats_are_refused_with_the_converting_command) {
  expect_refused(file("QFI\xfb", 2 << 20), ErrorCode::kUnsupported,
                 "qemu-img convert -f qcow2 -O raw");
  expect_refused(file("KDMV", 2 << 20), ErrorCode::kUnsupported, "qemu-img convert -f vmdk");
  expect_refused(file("vhdxfile", 2 << 20), ErrorCode::kUnsupported, "qemu-img convert -f vhdx");
  expect_refused(file("conectix", 2 << 20), ErrorCode::kUnsupported, "qemu-img convert -f vpc");
  // Also when it is small: the format is the reason, not the size.
  expect_refused(file("QFI\xfb", 1024), ErrorCode::kUnsupported, "qemu-img convert");
}

TEST_F(ImageTest, archives_are_refused_with_the_unpacking_command) {
  std::string tar(257, '\0');
  tar.replace(0, 8, "disk.img");
  expect_refused(file(tar + "ustar", 2 << 20), ErrorCode::kUnsupported, "tar -xf");
  expect_refused(file(tar + std::string("ustar  \0", 8), 2 << 20), ErrorCode::kUnsupported, "tar");
  expect_refused(file("\x1f\x8b\x08", 2 << 20), ErrorCode::kUnsupported, "gunzip");
  expect_refused(file(std::string("\xfd\x37zXZ\0", 6), 2 << 20), ErrorCode::kUnsupported, "unxz");
  expect_refused(file("PK\x03\x04", 2 << 20), ErrorCode::kUnsupported, "unzip");
  // Boot code may begin with anything.
  std::string sector("BZh");
  sector.resize(510, '\0');
  EXPECT_TRUE(open_image(file(sector + "\x55\xaa", 2 << 20)).ok());
}

TEST_F(ImageTest, older_and_rarer_formats_of_qemu_are_known) {
  expect_refused(file(std::string("QFI\xfb\0\0\0\x01", 8), 2 << 20), ErrorCode::kUnsupported,
                 "qemu-img convert -f qcow -O raw");
  expect_refused(file("WithouFreSpacExt", 2 << 20), ErrorCode::kUnsupported, "-f parallels");
  expect_refused(file("Bochs Virtual HD Image", 2 << 20), ErrorCode::kUnsupported, "-f bochs");
}

// As QEMU locks an image of a guest that runs: bytes 100 and 101 (it reads and writes), 201 (it
// lets nobody else write), all of them shared locks of an open file description.
class LockedImage {
 public:
  LockedImage(const std::string& path, std::initializer_list<off_t> bytes)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    for (const off_t at : bytes) HF_ASSERT(take(at));
  }
  // True: the byte is this one's to lock, shared.
  bool take(off_t at) const {
    struct flock lock{};
    lock.l_type = F_RDLCK;
    lock.l_start = at;
    lock.l_len = 1;
    return ::fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0;
  }
  // As QEMU looks for others: could the byte be locked for this one alone?
  bool free(off_t at) const {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_start = at;
    lock.l_len = 1;
    HF_ASSERT(::fcntl(fd_.get(), F_OFD_GETLK, &lock) == 0);
    return lock.l_type == F_UNLCK;
  }

 private:
  sys::UniqueFd fd_;
};

TEST_F(ImageTest, that_a_running_guest_writes_to_is_refused) {
  const std::string path = file("anything", 2 << 20);
  {
    const LockedImage guest(path, {100, 101, 201, 203});
    expect_refused(path, ErrorCode::kConflict, path);
  }
  {
    const LockedImage alone(path, {200});  // it lets nobody else read what it does
    expect_refused(path, ErrorCode::kConflict, path);
  }
  const LockedImage reader(path, {100, 201, 203});  // a guest with a read-only disk
  EXPECT_TRUE(open_image(path).ok());
}

TEST_F(ImageTest, is_kept_from_guests_that_would_write_to_it) {
  const std::string path = file("anything", 2 << 20);
  const LockedImage guest(path, {});
  {
    const auto image = open_image(path);
    ASSERT_TRUE(image.ok());
    EXPECT_TRUE(open_image(path).ok()) << "two VMs may be made of one image at a time";
    EXPECT_FALSE(guest.free(201)) << "QEMU looks there before it writes";
    EXPECT_TRUE(guest.free(200)) << "and there before it reads";
  }
  EXPECT_TRUE(guest.free(201));
}

TEST_F(ImageTest, that_anybody_has_open_for_writing_is_refused) {
  const std::string path = file("anything", 2 << 20);
  {
    const sys::UniqueFd probe(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (::fcntl(probe.get(), F_SETLEASE, F_RDLCK) != 0) GTEST_SKIP() << "no leases here";
  }
  sys::UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  expect_refused(path, ErrorCode::kConflict, path);
  writer.reset();
  const sys::UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(open_image(path).ok());
}

TEST_F(ImageTest, a_directory_is_not_an_image) {
  expect_refused(dir_, ErrorCode::kInvalidArgument, "raw disk image");
}

}  // namespace
}  // namespace hf::control
