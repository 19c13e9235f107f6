// Writes event logs, for tests of whatever reads them: digests are made here the way firmware,
// shim, GRUB and systemd make them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attestation/log/event_data.h"
#include "attestation/log/event_log.h"

namespace hf::attestation {

class LogWriter {
 public:
  // One bank of SHA-1 in the older format if `banks` is empty.
  explicit LogWriter(std::vector<HashAlg> banks);

  // An event whose digests are the hashes of `hashed`.
  LogWriter& add(uint32_t pcr, EventType type, ByteSpan data, ByteSpan hashed);
  LogWriter& add(uint32_t pcr, EventType type, ByteSpan data) { return add(pcr, type, data, data); }
  LogWriter& startup_locality(uint8_t locality);
  LogWriter& separator(uint32_t pcr);
  LogWriter& action(uint32_t pcr, std::string_view text);
  LogWriter& variable(uint32_t pcr, EventType type, const Guid& guid, std::string_view name,
                      ByteSpan value);
  LogWriter& image(uint32_t pcr, ByteSpan device_path, ByteSpan image_bytes);
  LogWriter& grub_text(std::string_view label, std::string_view text);  // PCR 8
  LogWriter& grub_file(std::string_view path, ByteSpan content);        // PCR 9
  LogWriter& uki_section(std::string_view name, ByteSpan content);      // PCR 11, two events
  LogWriter& windows_tag(uint32_t pcr, uint32_t id, ByteSpan data);

  const Bytes& bytes() const { return bytes_; }

  static Bytes variable_data(const Guid& guid, std::string_view name, ByteSpan value);
  static Bytes utf16(std::string_view ascii, bool with_nul = true);
  static Bytes file_path(std::string_view ascii_path);  // a device path: one file node and the end

 private:
  void put(std::unsigned_integral auto value) {
    std::byte raw[sizeof value];
    store_le(raw, value);
    bytes_.insert(bytes_.end(), std::begin(raw), std::end(raw));
  }
  void put(ByteSpan bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

  std::vector<HashAlg> banks_;
  Bytes bytes_;
};

// A boot of OVMF with Secure Boot, shim, GRUB and Linux, as Debian boots.
LogWriter debian_like_log(std::vector<HashAlg> banks);
// A boot of OVMF and a UKI.
LogWriter uki_like_log(std::vector<HashAlg> banks);
// What the Windows boot manager and loader append, after firmware events.
LogWriter windows_like_log(std::vector<HashAlg> banks);

}  // namespace hf::attestation
