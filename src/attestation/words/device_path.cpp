#include "attestation/words/device_path.h"

#include <fmt/format.h>

#include "attestation/log/event_data.h"

namespace hf::attestation {
namespace {

constexpr size_t kNodeHeaderSize = 4;  // type, subtype, u16 size
constexpr uint8_t kEndType = 0x7f;

struct Node {
  uint8_t type;
  uint8_t subtype;
  ByteSpan body;

  template <typename T>
  T at(size_t offset) const {
    return load_le<T>(body.data() + offset);
  }
  uint8_t byte(size_t offset) const { return std::to_integer<uint8_t>(body[offset]); }
  bool is(uint8_t a, uint8_t b, size_t size) const {
    return type == a && subtype == b && body.size() >= size;
  }
};

std::string guid_text(const Node& node, size_t offset) {
  return Guid::load(node.body.data() + offset).text();
}

std::string other(const Node& node) {
  constexpr size_t kShown = 32;
  bool cut = node.body.size() > kShown;
  return fmt::format("Path({},{},{}{})", node.type, node.subtype,
                     to_hex(node.body.first(cut ? kShown : node.body.size())), cut ? "…" : "");
}

std::string hardware(const Node& node) {
  if (node.is(1, 1, 2)) return fmt::format("Pci({:#x},{:#x})", node.byte(1), node.byte(0));
  if (node.is(1, 3, 20)) {
    return fmt::format("MemoryMapped({:#x},{:#x},{:#x})", node.at<uint32_t>(0),
                       node.at<uint64_t>(4), node.at<uint64_t>(12));
  }
  if (node.is(1, 4, 16)) return fmt::format("VenHw({})", guid_text(node, 0));
  if (node.is(1, 5, 4)) return fmt::format("Ctrl({:#x})", node.at<uint32_t>(0));
  return other(node);
}

// _HID as a compressed EISA name: three letters of five bits and a number.
std::string acpi(const Node& node) {
  if (!node.is(2, 1, 8)) return other(node);
  auto hid = node.at<uint32_t>(0);
  auto uid = node.at<uint32_t>(4);
  if (hid == 0x0a0341d0) return fmt::format("PciRoot({:#x})", uid);
  if (hid == 0x0a0841d0) return fmt::format("PcieRoot({:#x})", uid);
  auto letter = [&](unsigned shift) { return static_cast<char>('@' + ((hid >> shift) & 0x1f)); };
  return fmt::format("Acpi({}{}{}{:04X},{:#x})", letter(10), letter(5), letter(0), hid >> 16, uid);
}

std::string messaging(const Node& node) {
  if (node.is(3, 1, 4)) {
    return fmt::format("Ata({},{},{:#x})", node.byte(0) == 0 ? "Primary" : "Secondary",
                       node.byte(1) == 0 ? "Master" : "Slave", node.at<uint16_t>(2));
  }
  if (node.is(3, 2, 4)) {
    return fmt::format("Scsi({:#x},{:#x})", node.at<uint16_t>(0), node.at<uint16_t>(2));
  }
  if (node.is(3, 5, 2)) return fmt::format("USB({:#x},{:#x})", node.byte(0), node.byte(1));
  if (node.is(3, 10, 16)) return fmt::format("VenMsg({})", guid_text(node, 0));
  if (node.is(3, 11, 33)) {
    return fmt::format("MAC({},{:#x})", to_hex(node.body.first(6)), node.byte(32));
  }
  if (node.is(3, 12, 8)) {
    return fmt::format("IPv4({}.{}.{}.{})", node.byte(4), node.byte(5), node.byte(6), node.byte(7));
  }
  if (node.is(3, 13, 32)) return fmt::format("IPv6({})", to_hex(node.body.subspan(16, 16)));
  if (node.is(3, 18, 6)) {
    return fmt::format("Sata({:#x},{:#x},{:#x})", node.at<uint16_t>(0), node.at<uint16_t>(2),
                       node.at<uint16_t>(4));
  }
  if (node.is(3, 23, 12)) {
    return fmt::format("NVMe({:#x},{:016X})", node.at<uint32_t>(0), node.at<uint64_t>(4));
  }
  if (node.is(3, 24, 0)) return fmt::format("Uri({})", printable(node.body));
  if (node.is(3, 25, 2)) return fmt::format("UFS({:#x},{:#x})", node.byte(0), node.byte(1));
  if (node.is(3, 26, 1)) return fmt::format("SD({:#x})", node.byte(0));
  if (node.is(3, 29, 1)) return fmt::format("eMMC({:#x})", node.byte(0));
  return other(node);
}

std::string hard_drive(const Node& node) {
  auto part = node.at<uint32_t>(0);
  auto start = node.at<uint64_t>(4);
  auto size = node.at<uint64_t>(12);
  if (node.byte(37) == 2) {
    return fmt::format("HD({},GPT,{},{:#x},{:#x})", part, guid_text(node, 20), start, size);
  }
  if (node.byte(37) == 1) {
    return fmt::format("HD({},MBR,{:#010x},{:#x},{:#x})", part, node.at<uint32_t>(20), start, size);
  }
  return fmt::format("HD({},{},{:#x},{:#x})", part, node.byte(37), start, size);
}

std::string media(const Node& node) {
  if (node.is(4, 1, 38)) return hard_drive(node);
  if (node.is(4, 2, 20)) return fmt::format("CDROM({:#x})", node.at<uint32_t>(0));
  if (node.is(4, 3, 16)) return fmt::format("VenMedia({})", guid_text(node, 0));
  if (node.is(4, 4, 0)) return printable(node.body);
  if (node.is(4, 5, 16)) return fmt::format("Media({})", guid_text(node, 0));
  if (node.is(4, 6, 16)) return fmt::format("FvFile({})", guid_text(node, 0));
  if (node.is(4, 7, 16)) return fmt::format("Fv({})", guid_text(node, 0));
  if (node.is(4, 8, 20)) {
    return fmt::format("Offset({:#x},{:#x})", node.at<uint64_t>(4), node.at<uint64_t>(12));
  }
  if (node.is(4, 9, 34)) {
    return fmt::format("RamDisk({:#x},{:#x},{})", node.at<uint64_t>(0), node.at<uint64_t>(8),
                       guid_text(node, 16));
  }
  return other(node);
}

std::string describe_node(const Node& node) {
  switch (node.type) {
    case 1:
      return hardware(node);
    case 2:
      return acpi(node);
    case 3:
      return messaging(node);
    case 4:
      return media(node);
    case 5:
      if (node.body.size() >= 4) return fmt::format("BBS({})", printable(node.body.subspan(4)));
      return other(node);
    default:
      return other(node);
  }
}

}  // namespace

std::string describe_device_path(ByteSpan path) {
  std::string text;
  for (size_t count = 0; !path.empty(); ++count) {
    if (path.size() < kNodeHeaderSize || count == kDevicePathNodesMax) return text + "(damaged)";
    auto size = load_le<uint16_t>(path.data() + 2);
    if (size < kNodeHeaderSize || size > path.size()) return text + "(damaged)";
    Node node{std::to_integer<uint8_t>(path[0]), std::to_integer<uint8_t>(path[1]),
              path.subspan(kNodeHeaderSize, size - kNodeHeaderSize)};
    path = path.subspan(size);
    bool end_of_all = node.type == kEndType && node.subtype == 0xff;
    if (end_of_all) break;
    if (node.type == kEndType) {
      text += ", ";  // the end of one of several paths
      continue;
    }
    if (!text.empty() && !text.ends_with(", ")) text += '/';
    text += describe_node(node);
  }
  return text;
}

}  // namespace hf::attestation
