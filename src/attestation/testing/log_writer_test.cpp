#include "attestation/testing/log_writer.h"

namespace hf::attestation {

LogWriter::LogWriter(std::vector<HashAlg> banks) : banks_(std::move(banks)) {
  if (banks_.empty()) return;
  put(uint32_t{0});
  put(static_cast<uint32_t>(EventType::kNoAction));
  put(Bytes(20));
  put(static_cast<uint32_t>(29 + 4 * banks_.size()));
  put(as_bytes({"Spec ID Event03\0", 16}));
  put(uint32_t{0});
  for (uint8_t b : {uint8_t{0}, uint8_t{2}, uint8_t{0}, uint8_t{2}}) put(b);
  put(static_cast<uint32_t>(banks_.size()));
  for (HashAlg alg : banks_) {
    put(static_cast<uint16_t>(alg));
    put(static_cast<uint16_t>(size_of(alg)));
  }
  put(uint8_t{0});
}

LogWriter& LogWriter::add(uint32_t pcr, EventType type, ByteSpan data, ByteSpan hashed) {
  put(pcr);
  put(static_cast<uint32_t>(type));
  bool none = type == EventType::kNoAction;
  if (!banks_.empty()) put(static_cast<uint32_t>(banks_.size()));
  for (HashAlg alg : banks_.empty() ? std::vector{HashAlg::kSha1} : banks_) {
    if (!banks_.empty()) put(static_cast<uint16_t>(alg));
    put(none ? ByteSpan(Bytes(size_of(alg))) : hash(alg, hashed).bytes());
  }
  put(static_cast<uint32_t>(data.size()));
  put(data);
  return *this;
}

LogWriter& LogWriter::startup_locality(uint8_t locality) {
  std::string data("StartupLocality\0", 16);
  data += static_cast<char>(locality);
  return add(0, EventType::kNoAction, as_bytes(data));
}

LogWriter& LogWriter::separator(uint32_t pcr) { return add(pcr, EventType::kSeparator, Bytes(4)); }

LogWriter& LogWriter::action(uint32_t pcr, std::string_view text) {
  return add(pcr, EventType::kEfiAction, as_bytes(text));
}

LogWriter& LogWriter::variable(uint32_t pcr, EventType type, const Guid& guid,
                               std::string_view name, ByteSpan value) {
  bool value_only = type == EventType::kEfiVariableBoot;
  Bytes data = variable_data(guid, name, value);
  return add(pcr, type, data, value_only ? value : ByteSpan(data));
}

LogWriter& LogWriter::image(uint32_t pcr, ByteSpan device_path, ByteSpan image_bytes) {
  Bytes data(32);
  store_le(data.data(), uint64_t{0x7e000000});
  store_le(data.data() + 8, uint64_t{image_bytes.size()});
  store_le(data.data() + 24, uint64_t{device_path.size()});
  data.insert(data.end(), device_path.begin(), device_path.end());
  return add(pcr, EventType::kEfiBootServicesApplication, data, image_bytes);
}

LogWriter& LogWriter::grub_text(std::string_view label, std::string_view text) {
  std::string data = std::string(label) + ": " + std::string(text) + '\0';
  return add(8, EventType::kIpl, as_bytes(data), as_bytes(text));
}

LogWriter& LogWriter::grub_file(std::string_view path, ByteSpan content) {
  return add(9, EventType::kIpl, as_bytes(std::string(path) + '\0'), content);
}

LogWriter& LogWriter::uki_section(std::string_view name, ByteSpan content) {
  std::string hashed = std::string(name) + '\0';
  add(11, EventType::kIpl, utf16(name), as_bytes(hashed));
  return add(11, EventType::kIpl, utf16(name), content);
}

LogWriter& LogWriter::windows_tag(uint32_t pcr, uint32_t id, ByteSpan value) {
  Bytes data(8);
  store_le(data.data(), id);
  store_le(data.data() + 4, static_cast<uint32_t>(value.size()));
  data.insert(data.end(), value.begin(), value.end());
  return add(pcr, EventType::kEventTag, data);
}

Bytes LogWriter::utf16(std::string_view ascii, bool with_nul) {
  Bytes out;
  for (char c : ascii) {
    out.push_back(static_cast<std::byte>(c));
    out.push_back({});
  }
  if (with_nul) out.resize(out.size() + 2);
  return out;
}

Bytes LogWriter::variable_data(const Guid& guid, std::string_view name, ByteSpan value) {
  Bytes data(32);
  guid.store(data.data());
  store_le(data.data() + 16, uint64_t{name.size()});
  store_le(data.data() + 24, uint64_t{value.size()});
  Bytes wide = utf16(name, false);
  data.insert(data.end(), wide.begin(), wide.end());
  data.insert(data.end(), value.begin(), value.end());
  return data;
}

Bytes LogWriter::file_path(std::string_view ascii_path) {
  Bytes text = utf16(ascii_path);
  Bytes path = {std::byte{4}, std::byte{4}, std::byte{}, std::byte{}};
  store_le(path.data() + 2, static_cast<uint16_t>(4 + text.size()));
  path.insert(path.end(), text.begin(), text.end());
  for (int b : {0x7f, 0xff, 4, 0}) path.push_back(static_cast<std::byte>(b));
  return path;
}

namespace {

using namespace secure_boot::guids;

LogWriter firmware_part(std::vector<HashAlg> banks) {
  LogWriter log(std::move(banks));
  using enum EventType;
  std::byte on[] = {std::byte{1}};
  log.add(0, kSCrtmVersion, LogWriter::utf16("0.0.0"));
  log.add(0, kEfiPlatformFirmwareBlob, Bytes(16, std::byte{7}), as_bytes("firmware volume"));
  log.variable(7, kEfiVariableDriverConfig, kGlobalVariable, "SecureBoot", on);
  for (const char* name : {"PK", "KEK"}) {
    log.variable(7, kEfiVariableDriverConfig, kGlobalVariable, name, Bytes(200, std::byte{9}));
  }
  for (const char* name : {"db", "dbx"}) {
    log.variable(7, kEfiVariableDriverConfig, kImageSecurity, name, Bytes(300, std::byte{5}));
  }
  log.separator(7);
  log.variable(1, kEfiVariableBoot, kGlobalVariable, "BootOrder", Bytes(4));
  log.variable(1, kEfiVariableBoot2, kGlobalVariable, "Boot0000", LogWriter::utf16("disk"));
  log.add(1, kEfiHandoffTables, Bytes(32, std::byte{3}), as_bytes("SMBIOS table"));
  log.action(4, "Calling EFI Application from Boot Option");
  for (uint32_t pcr = 0; pcr < 7; ++pcr) log.separator(pcr);
  return log;
}

}  // namespace

LogWriter debian_like_log(std::vector<HashAlg> banks) {
  LogWriter log = firmware_part(std::move(banks));
  using enum EventType;
  log.variable(7, kEfiVariableAuthority, kImageSecurity, "db", Bytes(250, std::byte{5}));
  log.image(4, LogWriter::file_path("\\EFI\\debian\\shimx64.efi"), as_bytes("MZ shim"));
  log.add(14, kIpl, as_bytes({"MokList\0", 8}), as_bytes("the list"));
  log.variable(7, kEfiVariableAuthority, kShimLock, "SbatLevel", as_bytes("sbat,1,2021030218\n"));
  log.variable(7, kEfiVariableAuthority, kShimLock, "Shim", Bytes(120, std::byte{4}));
  log.image(4, LogWriter::file_path("\\EFI\\debian\\grubx64.efi"), as_bytes("MZ grub"));
  log.grub_file("(hd0,gpt1)/EFI/debian/grub.cfg", as_bytes("set root=hd0"));
  log.grub_text("grub_cmd", "set root=hd0,gpt2");
  log.grub_text("grub_cmd", "linux /vmlinuz root=/dev/vda2 ro quiet");
  log.grub_file("/vmlinuz", as_bytes("the kernel"));
  log.image(4, LogWriter::file_path("/vmlinuz"), as_bytes("MZ kernel"));
  log.grub_text("kernel_cmdline", "/vmlinuz root=/dev/vda2 ro quiet");
  log.grub_file("/initrd.img", as_bytes("the initrd"));
  log.action(5, "Exit Boot Services Invocation");
  log.action(5, "Exit Boot Services Returned with Success");
  return log;
}

LogWriter uki_like_log(std::vector<HashAlg> banks) {
  LogWriter log = firmware_part(std::move(banks));
  using enum EventType;
  log.image(4, LogWriter::file_path("\\EFI\\Linux\\debian.efi"), as_bytes("MZ uki"));
  log.uki_section(".linux", as_bytes("the kernel"));
  log.uki_section(".osrel", as_bytes("ID=debian\n"));
  log.uki_section(".cmdline", as_bytes("root=/dev/vda2"));
  Bytes command_line = LogWriter::utf16("root=/dev/vda3 debug");
  log.add(12, kIpl, command_line, ByteSpan(command_line).first(command_line.size() - 2));
  log.add(12, kIpl, LogWriter::utf16("Credentials initrd"), as_bytes("an archive"));
  Bytes tag(8);
  store_le(tag.data(), uint32_t{0x8f3b22ec});
  store_le(tag.data() + 4, uint32_t{13});
  for (char c : std::string_view("Linux initrd\0", 13)) tag.push_back(static_cast<std::byte>(c));
  log.add(9, kEventTag, tag, as_bytes("the initrd"));
  log.action(5, "Exit Boot Services Invocation");
  log.action(5, "Exit Boot Services Returned with Success");
  return log;
}

LogWriter windows_like_log(std::vector<HashAlg> banks) {
  LogWriter log = firmware_part(std::move(banks));
  std::byte no[] = {std::byte{}};
  Bytes count(8, std::byte{2});
  log.image(4, LogWriter::file_path("\\EFI\\Microsoft\\Boot\\bootmgfw.efi"),
            as_bytes("MZ bootmgr"));
  log.add(11, EventType::kCompactHash, Bytes(4));
  log.windows_tag(12, 0x00020002, count);
  log.windows_tag(12, 0x00050002, no);
  log.windows_tag(13, 0x40010003, as_bytes("a container of details"));
  for (uint32_t pcr : {12u, 13u, 14u}) log.add(pcr, EventType::kSeparator, as_bytes("WBCL"));
  log.windows_tag(12, 0x00040001, no);
  log.action(5, "Exit Boot Services Invocation");
  log.action(5, "Exit Boot Services Returned with Success");
  return log;
}

}  // namespace hf::attestation
