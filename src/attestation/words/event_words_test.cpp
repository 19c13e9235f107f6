#include "attestation/words/event_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/log/event_cover.h"
#include "attestation/log/event_data.h"
#include "attestation/testing/log_writer.h"
#include "attestation/words/device_path.h"
#include "attestation/words/event_log_json.h"
#include "attestation/words/windows_events.h"

namespace hf::attestation {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using enum HashAlg;
namespace guids = secure_boot::guids;

EventLog parsed(const LogWriter& writer) {
  auto log = EventLog::parse(writer.bytes());
  EXPECT_TRUE(log.ok()) << log.error().describe();
  return std::move(*log);
}

std::vector<std::string> lines(const EventLog& log) {
  std::vector<std::string> all;
  for (const Event& event : log.events()) {
    EventWords words = describe(event);
    all.push_back(words.title + ": " + words.detail + (words.proven ? "" : " (not proven)"));
  }
  return all;
}

TEST(EventWords, a_boot_through_shim_and_grub_reads_as_it_went) {
  EventLog log = parsed(debian_like_log({kSha256}));
  std::vector<std::string> words = lines(log);
  for (const char* line :
       {"firmware version: “0.0.0”", "Secure Boot: on", "separator: the firmware's part ends here",
        "firmware action: Calling EFI Application from Boot Option",
        "program loaded: \\EFI\\debian\\shimx64.efi (not proven)", "SBAT level: sbat,1,2021030218 ",
        "shim's list: MokList (not proven)", "GRUB command: linux /vmlinuz root=/dev/vda2 ro quiet",
        "kernel command line: /vmlinuz root=/dev/vda2 ro quiet",
        "file read by the boot loader: /initrd.img (not proven)",
        "firmware action: Exit Boot Services Invocation"}) {
    EXPECT_THAT(words, Contains(line));
  }
}

TEST(EventWords, a_unified_kernel_image_reads_by_section) {
  std::vector<std::string> words = lines(parsed(uki_like_log({kSha256})));
  for (const char* line : {"UKI section follows: .linux", "UKI section: .linux (not proven)",
                           "kernel command line: root=/dev/vda3 debug",
                           "archive passed to the kernel: Credentials initrd (not proven)",
                           "initrd loaded by the kernel's EFI stub: Linux initrd (not proven)"}) {
    EXPECT_THAT(words, Contains(line));
  }
}

TEST(EventWords, windows_events_are_listed_by_name) {
  LogWriter log({kSha256});
  std::byte on[] = {std::byte{1}};
  LogWriter inner({kSha256});
  Bytes container;
  auto item = [&](uint32_t id, ByteSpan data) {
    std::byte head[8];
    store_le(head, id);
    store_le(head + 4, static_cast<uint32_t>(data.size()));
    container.insert(container.end(), std::begin(head), std::end(head));
    container.insert(container.end(), data.begin(), data.end());
  };
  item(0x00070001, LogWriter::utf16("\\Windows\\system32\\winload.efi"));
  item(0x0007000a, on);
  item(0x00060001, on);
  log.windows_tag(12, 0x00050003, on).windows_tag(13, 0x40010003, container);
  log.windows_tag(13, 0x00051234, on);
  std::vector<std::string> words = lines(parsed(log));
  EXPECT_EQ(words[1], "Windows: TESTSIGNING: TESTSIGNING on");
  EXPECT_EQ(words[2],
            "Windows: LOADEDMODULE_AGGREGATION: FILEPATH \\Windows\\system32\\winload.efi, "
            "IMAGEVALIDATED on, NOAUTHORITY on");
  EXPECT_EQ(words[3], "Windows: SIPA 0x00051234: SIPA 0x00051234 01");
  EventLog three = parsed(log);
  std::vector<WindowsItem> items = windows_items(three.events()[2]);
  ASSERT_EQ(items.size(), 4u);
  EXPECT_TRUE(items[0].container);
  EXPECT_EQ(items[1].depth, 1u);
}

TEST(EventWords, damaged_windows_items_are_no_items) {
  LogWriter log({kSha256});
  std::byte bytes[8];
  store_le(bytes, uint32_t{0x00050003});
  store_le(bytes + 4, uint32_t{9});
  log.add(12, EventType::kEventTag, bytes);
  EXPECT_TRUE(windows_items(parsed(log).events()[1]).empty());
  Bytes deep;  // containers within containers, without end
  for (int i = 0; i < 1000; ++i) {
    Bytes outer(8);
    store_le(outer.data(), uint32_t{0x40010001});
    store_le(outer.data() + 4, static_cast<uint32_t>(deep.size()));
    outer.insert(outer.end(), deep.begin(), deep.end());
    deep = std::move(outer);
  }
  EventLog log_deep = parsed(LogWriter({kSha256}).add(12, EventType::kEventTag, deep));
  EXPECT_LE(windows_items(log_deep.events()[1]).size(), kWindowsDepthMax);
}

TEST(EventWords, device_paths_read_as_uefi_writes_them) {
  auto path = [](std::string_view hex) { return describe_device_path(*from_hex(hex)); };
  EXPECT_EQ(path("02010c00d041030a00000000"
                 "010106000200"
                 "7fff0400"),
            "PciRoot(0x0)/Pci(0x0,0x2)");
  EXPECT_EQ(path("02010c00d041030a00000000"
                 "01010600021f"
                 "0312"
                 "0a00"
                 "0100ffff0000"
                 "7fff0400"),
            "PciRoot(0x0)/Pci(0x1f,0x2)/Sata(0x1,0xffff,0x0)");
  EXPECT_EQ(path("04012a00"
                 "01000000"
                 "0008000000000000"
                 "0000010000000000"
                 "44332211665588779900aabbccddeeff"
                 "0202"
                 "7fff0400"),
            "HD(1,GPT,11223344-5566-7788-9900-aabbccddeeff,0x800,0x10000)");
  EXPECT_EQ(path("040414005c0045004600490000000000"
                 "00000000"
                 "7fff0400"),
            "\\EFI");
  EXPECT_EQ(path("0102030405"), "(damaged)");
  EXPECT_EQ(path("04040300"), "(damaged)");
  EXPECT_EQ(path("010106000200"), "Pci(0x0,0x2)");
  Bytes endless;
  for (int i = 0; i < 1000; ++i) {
    for (int b : {1, 1, 6, 0, 0, 0}) endless.push_back(static_cast<std::byte>(b));
  }
  EXPECT_THAT(describe_device_path(endless), HasSubstr("(damaged)"));
}

TEST(EventWords, text_of_the_log_cannot_reach_the_terminal_as_control_characters) {
  EXPECT_EQ(printable(as_bytes("a\x1b[2Jb\r\n")), "a\\x1b[2Jb\\x0d\\x0a");
  EXPECT_EQ(printable(as_bytes("\xc2\x9b"
                               "1m")),
            "\\xc2\\x9b1m");
  EXPECT_EQ(printable(as_bytes("caf\xc3\xa9 \xff\xc3")), "caf\xc3\xa9 \\xff\\xc3");
  EXPECT_EQ(printable(as_bytes("\xe0\x80\x80\xed\xa0\x80\xf4\x90\x80\x80")),
            "\\xe0\\x80\\x80\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(printable(LogWriter::utf16("wide")), "wide");
  EXPECT_EQ(printable(as_bytes(std::string(1000, 'x')), 10), "xxxxxxxxxx…");
  LogWriter log({kSha256});
  log.grub_text("grub_cmd", "echo \x1b]0;title\x07");
  log.add(9, EventType::kIpl, as_bytes("\x1b[31m"));
  for (const std::string& line : lines(parsed(log))) EXPECT_THAT(line, Not(HasSubstr("\x1b")));
}

TEST(EventData, a_variable_says_which_of_its_bytes_are_proven) {
  LogWriter log({kSha256});
  Bytes value(40, std::byte{7});
  log.variable(7, EventType::kEfiVariableDriverConfig, guids::kImageSecurity, "db", value);
  log.variable(1, EventType::kEfiVariableBoot, guids::kGlobalVariable, "Boot0001", value);
  // Old EDK II and shim: six bytes follow, and the last of them is not hashed.
  Bytes padded = LogWriter::variable_data(guids::kShimLock, "Shim", value);
  padded.resize(padded.size() + 6);
  log.add(7, EventType::kEfiVariableAuthority, padded, ByteSpan(padded).first(padded.size() - 1));
  EventLog read = parsed(log);
  EXPECT_TRUE(unproven_events(read).empty());
  auto db = efi_variable(read.events()[1]);
  EXPECT_TRUE(db->name == "db" && db->name_covered && db->data_covered);
  auto boot = efi_variable(read.events()[2]);
  EXPECT_TRUE(boot->name == "Boot0001" && !boot->name_covered && boot->data_covered);
  auto shim = efi_variable(read.events()[3]);
  EXPECT_TRUE(shim->name == "Shim" && shim->name_covered && shim->data_covered);
  EXPECT_EQ(to_hex(shim->data), to_hex(value));
}

TEST(EventData, text_of_grub_is_proven_whatever_its_label_says) {
  LogWriter log({kSha256, kSha1});
  log.grub_text("grub_cmd", "boot").grub_text("kernel_cmdline", "root=LABEL=x");
  Bytes bytes = log.bytes();
  std::string text(as_text(bytes));
  text.replace(text.find("kernel_cmdline"), 14, "xxxxxx_xxxxxxx");
  auto read = EventLog::parse(as_bytes(text));
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(unproven_events(*read).empty());
  auto ipl = ipl_text(read->events()[2]);
  EXPECT_TRUE(ipl->covered);
  EXPECT_EQ(ipl->text, "root=LABEL=x");
  EXPECT_EQ(ipl->label, "xxxxxx_xxxxxxx");
}

TEST(EventData, an_image_is_never_proven_by_what_the_log_says_of_it) {
  EventLog log = parsed(debian_like_log({kSha256}));
  size_t images = 0;
  for (const Event& event : log.events()) {
    if (!image_event(event)) continue;
    ++images;
    EXPECT_FALSE(event.cover.covered());
    EXPECT_FALSE(describe(event).proven);
  }
  EXPECT_EQ(images, 3u);
}

TEST(EventLogJson, holds_banks_pcrs_and_events) {
  EventLog log = parsed(debian_like_log({kSha1, kSha256}));
  sys::JsonObject all = *to_json(log);
  EXPECT_EQ(sys::to_text(all.at("banks")), "[\"sha1\",\"sha256\"]");
  EXPECT_EQ(all.at("pcrs").as_object().at("sha256").as_object().size(), kPcrCount);
  EXPECT_EQ(all.at("events").as_array().size(), log.events().size());
  EXPECT_TRUE(all.at("not_proven").as_array().empty());
  EventLog odd =
      parsed(LogWriter({kSha256}).add(0, EventType::kSCrtmVersion, as_bytes("1"), as_bytes("2")));
  sys::JsonObject told = *to_json(odd);
  EXPECT_EQ(sys::to_text(told.at("not_proven")),
            "[{\"number\":1,\"reason\":\"its data is not what its digest was made of\"}]");
  EXPECT_EQ(told.at("events").as_array()[1].as_object().at("not_proven"),
            "its data is not what its digest was made of");
  EXPECT_FALSE(told.at("events").as_array()[1].as_object().at("proven").as_bool());
  sys::JsonObject one = *to_json(log, kSha1);
  EXPECT_EQ(one.at("pcrs").as_object().size(), 1u);
  EXPECT_EQ(to_json(log, kSha512).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hf::attestation
