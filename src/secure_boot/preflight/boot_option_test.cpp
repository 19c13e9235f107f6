#include "secure_boot/preflight/boot_option.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/testing/test_disk.h"
#include "secure_boot/testing/test_files.h"

namespace hf::secure_boot {
namespace {

void put_utf16(Bytes& out, std::string_view text) {
  for (char c : text) {
    out.push_back(static_cast<std::byte>(c));
    out.push_back(std::byte{0});
  }
  out.resize(out.size() + 2);
}

Bytes node(uint8_t type, uint8_t sub_type, const Bytes& content) {
  Bytes out(4);
  out[0] = static_cast<std::byte>(type);
  out[1] = static_cast<std::byte>(sub_type);
  store_le<uint16_t>(out.data() + 2, static_cast<uint16_t>(4 + content.size()));
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

Bytes debian_option() {
  Bytes drive(38);
  store_le<uint32_t>(drive.data(), 1);
  kTestPartition.store(drive.data() + 20);
  drive[36] = drive[37] = std::byte{2};
  Bytes file;
  put_utf16(file, "\\EFI\\debian\\shimx64.efi");
  Bytes nodes = node(4, 1, drive);
  for (const Bytes& next : {node(4, 4, file), node(0x7F, 0xFF, {})}) {
    nodes.insert(nodes.end(), next.begin(), next.end());
  }
  Bytes option(6);
  store_le<uint32_t>(option.data(), 1);
  store_le<uint16_t>(option.data() + 4, static_cast<uint16_t>(nodes.size()));
  put_utf16(option, "debian");
  option.insert(option.end(), nodes.begin(), nodes.end());
  return option;
}

TEST(BootOption, names_partition_and_file) {
  Result<BootOption> option = parse_boot_option(3, debian_option());
  ASSERT_TRUE(option.ok()) << option.error().cause;
  EXPECT_EQ(option->number, 3);
  EXPECT_TRUE(option->active);
  EXPECT_EQ(option->description, "debian");
  EXPECT_EQ(option->partition, kTestPartition);
  EXPECT_EQ(option->path, "EFI/debian/shimx64.efi");
}

Bytes option_of(const std::vector<Bytes>& nodes) {
  Bytes path;
  for (const Bytes& next : nodes) path.insert(path.end(), next.begin(), next.end());
  const Bytes end = node(0x7F, 0xFF, {});
  path.insert(path.end(), end.begin(), end.end());
  Bytes option(6);
  store_le<uint32_t>(option.data(), 1);
  store_le<uint16_t>(option.data() + 4, static_cast<uint16_t>(path.size()));
  put_utf16(option, "x");
  option.insert(option.end(), path.begin(), path.end());
  return option;
}

TEST(BootOption, path_nodes_are_joined_and_whole_devices_known) {
  auto text = [](std::string_view from) {
    Bytes out;
    put_utf16(out, from);
    return out;
  };
  auto parsed = [](const std::vector<Bytes>& nodes) {
    return parse_boot_option(1, option_of(nodes)).value();
  };
  EXPECT_EQ(parsed({node(4, 4, text("\\EFI")), node(4, 4, text("debian")),
                    node(4, 4, text("\\shimx64.efi"))})
                .path,
            "EFI/debian/shimx64.efi");
  EXPECT_EQ(parsed({node(4, 4, text("\\EFI\\")), node(4, 4, text("a.efi"))}).path, "EFI/a.efi");
  const Bytes root = node(2, 1, Bytes(8));
  const Bytes pci = node(1, 1, Bytes(2));
  EXPECT_TRUE(parsed({root, pci}).whole_device);                                      // virtio-blk
  EXPECT_TRUE(parsed({root, pci, node(3, 18, Bytes(6))}).whole_device);               // SATA
  EXPECT_FALSE(parsed({root, pci, node(3, 11, Bytes(33))}).whole_device);             // network
  EXPECT_FALSE(parsed({node(4, 7, Bytes(16)), node(4, 6, Bytes(16))}).whole_device);  // shell
  EXPECT_FALSE(parsed({root, pci, node(4, 4, text("\\a.efi"))}).whole_device);
}

TEST(BootOption, cut_short_or_edited_never_reads_beyond_its_end) {
  const Bytes whole = debian_option();
  for (size_t size = 0; size < whole.size(); ++size) {
    (void)parse_boot_option(0, Bytes(whole.begin(), whole.begin() + static_cast<long>(size)));
  }
  std::mt19937 random(3);
  size_t refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    Bytes edited = whole;
    edited[random() % edited.size()] = static_cast<std::byte>(random());
    if (!parse_boot_option(0, edited).ok()) ++refused;
  }
  EXPECT_GT(refused, 0U);
}

TEST(BootOrder, is_read_from_a_store_with_the_state_that_decides) {
  VariableStore store = VariableStore::parse(read_test_file(kMicrosoftStore)).value();
  EXPECT_TRUE(boot_order_of(store).empty());
  Bytes order(4);
  store_le<uint16_t>(order.data(), 9);  // is not there
  store_le<uint16_t>(order.data() + 2, 0xA);
  auto set = [&](std::string_view name, const Guid& vendor, const Bytes& data) {
    const uint32_t attributes = vendor == guids::kShimLock
                                    ? attribute::kBootOnly
                                    : attribute::kBootOnly | attribute::kRuntime;
    Variable variable;
    variable.vendor = vendor;
    variable.name = utf16(name);
    variable.attributes = attributes;
    variable.data = data;
    ASSERT_TRUE(store.set(variable).ok());
  };
  set("BootOrder", guids::kGlobalVariable, order);
  set("Boot000A", guids::kGlobalVariable, debian_option());
  set("MokDBState", guids::kShimLock, Bytes(1, std::byte{1}));
  Result<PreflightInput> input = preflight_input_of(store, "test");
  ASSERT_TRUE(input.ok()) << input.error().cause;
  ASSERT_EQ(input->boot_order.size(), 1U);
  EXPECT_EQ(input->boot_order[0].number, 0xA);
  EXPECT_FALSE(input->boot_order[0].whole_device);
  // BootNext goes first, whether BootOrder names it or not.
  set("Boot0002", guids::kGlobalVariable, debian_option());
  set("BootNext", guids::kGlobalVariable, Bytes{std::byte{2}, std::byte{0}});
  ASSERT_EQ(boot_order_of(store).size(), 2U);
  EXPECT_EQ(boot_order_of(store)[0].number, 2);
  EXPECT_TRUE(input->state.enforced);
  EXPECT_EQ(input->state.db.size(), 2U);
  EXPECT_TRUE(input->state.mok_ignores_db);
}

}  // namespace
}  // namespace hf::secure_boot
