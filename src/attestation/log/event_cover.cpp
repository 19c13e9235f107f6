#include "attestation/log/event_cover.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/log/event_data.h"

namespace hf::attestation {
namespace {

// "grub_cmd ", "grub_cmd: ", "kernel_cmdline: " or "module_cmdline: ", "grub_kernel_cmdline ".
constexpr std::array<size_t, 4> kGrubLabelSizes = {10, 16, 9, 20};
constexpr std::array<std::string_view, 5> kGrubLabels = {
    "grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ", "grub_cmd ", "grub_kernel_cmdline "};
constexpr uint32_t kGrubTextPcr = 8;
constexpr uint32_t kUkiPcr = 11;
constexpr uint32_t kExtensionsPcr = 13;
constexpr uint32_t kCommandLinePcr = 12;  // of systemd; logged with a UTF-16 NUL, hashed without
constexpr size_t kTagHeaderSize = 8;
constexpr size_t kVariableHeaderSize = 32;  // GUID, name length, data length
constexpr size_t kVariablePaddingMax = 8;
constexpr size_t kSectionNameUnitsMax = 64;
constexpr uint32_t kFirmwarePcrLast = 7;
constexpr uint32_t kWordsPcrFirst = 7;

// Tags whose digest is of a file or table outside the log: the Linux EFI stub's (initrd, load
// options) and systemd's (loader.conf, add-ons, profile, SMBIOS).
constexpr std::array<uint32_t, 10> kOutsideTags = {0x8f3b22ec, 0x8f3b22ed, 0xf5bc582a, 0x6c46f751,
                                                   0x49dffe0f, 0xdac08e1a, 0x13aed6db, 0xd5cb7cbc,
                                                   0xe0d47bc8, 0xc0b3bd23};
// What systemd-stub calls the archives it hands to the kernel, in PCR 12 and 13 (UTF-16 in the
// log).
constexpr std::array<std::string_view, 6> kArchives = {"Credentials initrd",
                                                       "Global credentials initrd",
                                                       "System extension initrd",
                                                       "Global system extension initrd",
                                                       "Configuration extension initrd",
                                                       "Global configuration extension initrd"};

enum class Match { kNone, kAll, kSome };

class Prover {
 public:
  explicit Prover(std::span<const DigestView> digests) : digests_(digests) {}

  // One hash where the bytes are not it, one per bank where they are.
  Match match(ByteSpan bytes) const {
    bool any = false;
    for (const DigestView& digest : digests_) {
      if (size_of(digest.alg) == 0) continue;
      bool same = equal(hash(digest.alg, bytes).bytes(), digest.bytes);
      if (!same) return any ? Match::kSome : Match::kNone;
      any = true;
    }
    return any ? Match::kAll : Match::kNone;
  }

  // True if the bytes settle it: `cover` then says how.
  bool settle(CoverForm form, ByteSpan hashed, ByteSpan proven, Cover& cover) const {
    Match found = match(hashed);
    if (found == Match::kNone) return false;
    cover = found == Match::kAll ? Cover{form, proven} : Cover{CoverForm::kContradiction, {}};
    return true;
  }
  bool part(ByteSpan bytes, Cover& cover) const {
    return !bytes.empty() && settle(CoverForm::kPart, bytes, bytes, cover);
  }

 private:
  std::span<const DigestView> digests_;
};

// The content of a UEFI_VARIABLE_DATA (EV_EFI_VARIABLE_BOOT; old firmware's PCR 7 too). Old EDK II
// and shim logged an authority with bytes of padding behind it, and hashed all but the last of
// them.
bool variable_part(const Prover& prover, ByteSpan data, Cover& cover) {
  if (data.size() < kVariableHeaderSize) return false;
  auto units = load_le<uint64_t>(data.data() + 16);
  auto size = load_le<uint64_t>(data.data() + 24);
  size_t rest = data.size() - kVariableHeaderSize;
  if (units > rest / 2 || size > rest - units * 2) return false;
  size_t padding = rest - units * 2 - size;
  if (padding == 0) return prover.part(data.last(size), cover);
  return padding <= kVariablePaddingMax && prover.part(data.first(data.size() - 1), cover);
}

// The text after GRUB's label, mostly without its final NUL. By position, not by the label's
// letters: these are covered by nothing.
bool grub_part(const Prover& prover, ByteSpan data, Cover& cover) {
  for (size_t label : kGrubLabelSizes) {
    if (data.size() <= label) continue;
    ByteSpan text = data.subspan(label);
    if (prover.part(text.first(text.size() - 1), cover)) return true;
    if (prover.part(text, cover)) return true;
  }
  return false;
}

// systemd-stub measures a section's name as ASCII with its NUL and logs it as UTF-16.
bool section_name(const Prover& prover, ByteSpan data, Cover& cover) {
  if (data.size() % 2 != 0 || data.size() / 2 > kSectionNameUnitsMax) return false;
  std::array<std::byte, kSectionNameUnitsMax> ascii{};
  for (size_t i = 0; i < data.size() / 2; ++i) {
    if (data[2 * i + 1] != std::byte{}) return false;
    ascii[i] = data[2 * i];
  }
  return prover.settle(CoverForm::kSectionName, ByteSpan(ascii).first(data.size() / 2), data,
                       cover);
}

bool starts_with_grub_label(ByteSpan data) {
  return std::ranges::any_of(
      kGrubLabels, [&](std::string_view label) { return as_text(data).starts_with(label); });
}

// Nothing covers a label or the identifier of an outside tag, so nothing may hang on single bytes
// of them: what is nearly one counts as one. Whoever can edit a log could as well write the real
// one.
bool nearly_outside_tag(uint32_t id) {
  return std::ranges::any_of(kOutsideTags, [&](uint32_t known) {
    uint32_t differs = id ^ known;
    int bytes = 0;
    for (int shift = 0; shift < 32; shift += 8) bytes += ((differs >> shift) & 0xff) != 0 ? 1 : 0;
    return bytes <= 1;
  });
}

bool nearly_archive_label(ByteSpan data) {
  constexpr size_t kDiffersMax = 2;
  return std::ranges::any_of(kArchives, [&](std::string_view label) {
    if (data.size() != 2 * label.size() + 2) return false;
    size_t differs = 0;
    for (size_t i = 0; i < data.size(); ++i) {
      char expected = i % 2 == 0 && i / 2 < label.size() ? label[i / 2] : '\0';
      differs += data[i] != static_cast<std::byte>(expected) ? 1 : 0;
    }
    return differs <= kDiffersMax;
  });
}

bool is_os_pcr(uint32_t pcr) { return pcr >= 11 && pcr <= 14; }

// What the log as a whole says about a rule for single events.
struct Context {
  bool systemd_stub = false;  // some event in PCR 11 is the name of a section
  bool name_is_next = true;   // systemd-stub measures a name, then the section
};

bool loader_text_needs_cover(const Event& event, const Context& context) {
  switch (event.pcr) {
    case kGrubTextPcr:
      return starts_with_grub_label(event.data);
    case kUkiPcr:
      return context.systemd_stub && context.name_is_next;
    case kCommandLinePcr:
    case kExtensionsPcr:
      return !nearly_archive_label(event.data);
    default:
      return false;
  }
}

bool needs_cover(const Event& event, const Context& context) {
  if (!event.measured() || is_error_separator(event)) return false;
  if (event.type == EventType::kEventTag) {
    if (!is_os_pcr(event.pcr) || event.data.size() < kTagHeaderSize) return false;
    return !nearly_outside_tag(load_le<uint32_t>(event.data.data()));
  }
  if (event.type == EventType::kIpl) return loader_text_needs_cover(event, context);
  return cover_rule(event.type) == CoverRule::kRequired;
}

std::string contradiction(const Event& event) {
  std::string is;
  std::string is_not;
  for (const DigestView& digest : event.digests()) {
    if (size_of(digest.alg) == 0) continue;
    Prover one(std::span(&digest, 1));
    bool made = one.match(event.data) == Match::kAll;
    (made ? is : is_not) += fmt::format(" {}", name_of(digest.alg));
  }
  if (is.empty()) return "its data is what one bank's digest was made of, and not another's";
  return fmt::format("its data is what its digest of{} was made of, and not that of{}", is, is_not);
}

}  // namespace

Cover cover_of(uint32_t pcr, ByteSpan data, std::span<const DigestView> digests) {
  Prover prover(digests);
  Cover cover;
  if (pcr == kGrubTextPcr && grub_part(prover, data, cover)) return cover;
  if (prover.settle(CoverForm::kWhole, data, data, cover)) return cover;
  if (pcr <= kFirmwarePcrLast) {
    (void)variable_part(prover, data, cover);
  } else if (pcr == kUkiPcr && section_name(prover, data, cover)) {
    return cover;
  } else if (pcr == kGrubTextPcr || pcr == kCommandLinePcr) {
    if (data.size() > 2) (void)prover.part(data.first(data.size() - 2), cover);
  }
  return cover;
}

CoverRule cover_rule(EventType type) {
  switch (type) {
    case EventType::kSeparator:
    case EventType::kAction:
    case EventType::kSCrtmVersion:
    case EventType::kOmitBootDeviceEvents:
    case EventType::kEfiVariableDriverConfig:
    case EventType::kEfiVariableBoot:
    case EventType::kEfiVariableBoot2:
    case EventType::kEfiVariableAuthority:
    case EventType::kEfiGptEvent:
    case EventType::kEfiGptEvent2:
    case EventType::kEfiAction:
    case EventType::kEfiHcrtmEvent:
      return CoverRule::kRequired;
    case EventType::kPostCode:
    case EventType::kPostCode2:
    case EventType::kEventTag:
    case EventType::kPlatformConfigFlags:
    case EventType::kTableOfDevices:
    case EventType::kCompactHash:
    case EventType::kIpl:
    case EventType::kNonhostConfig:
    case EventType::kNonhostInfo:
      return CoverRule::kIfPresent;
    default:
      return CoverRule::kNever;
  }
}

std::vector<UnprovenEvent> unproven_events(const EventLog& log) {
  Context context;
  context.systemd_stub = std::ranges::any_of(log.events(), [](const Event& event) {
    return event.pcr == kUkiPcr && event.cover.form == CoverForm::kSectionName;
  });
  std::vector<UnprovenEvent> unproven;
  for (const Event& event : log.events()) {
    std::string reason;
    if (event.cover.form == CoverForm::kContradiction) {
      reason = contradiction(event);
    } else if (event.measured() && event.digests().empty()) {
      reason = "it has no digest";
    } else if (!event.cover.covered() && needs_cover(event, context)) {
      reason = "its data is not what its digest was made of";
    }
    if (!reason.empty()) {
      unproven.push_back({.event = event.number,
                          .pcr = event.pcr,
                          .disproved = event.pcr >= kWordsPcrFirst && !event.digests().empty(),
                          .reason = std::move(reason)});
    }
    bool section_part = event.pcr == kUkiPcr && event.type == EventType::kIpl;
    if (section_part) context.name_is_next = !context.name_is_next;
  }
  return unproven;
}

}  // namespace hf::attestation
