#include "control/host/image_check.h"

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

TEST_F(ImageTest, a_directory_is_not_an_image) {
  expect_refused(dir_, ErrorCode::kInvalidArgument, "raw disk image");
}

}  // namespace
}  // namespace hf::control
