#include "attestation/boot/measured_boot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attestation/boot/known_measurements.h"
#include "attestation/log/event_log.h"
#include "attestation/log/variable_data.h"
#include "base/text.h"

namespace hf::attestation {
namespace {

constexpr size_t kTextMax = 16384;

constexpr std::array<std::pair<std::string_view, MeasurementKind>, 14> kKinds = {{
    {"other", MeasurementKind::kOther},
    {"separator", MeasurementKind::kSeparator},
    {"action", MeasurementKind::kAction},
    {"exit-boot-services", MeasurementKind::kExitBootServices},
    {"key-variable", MeasurementKind::kKeyVariable},
    {"authority", MeasurementKind::kAuthority},
    {"shim-state", MeasurementKind::kShimState},
    {"boot-variable", MeasurementKind::kBootVariable},
    {"program", MeasurementKind::kProgram},
    {"kernel-command-line", MeasurementKind::kKernelCommandLine},
    {"text", MeasurementKind::kText},
    {"file", MeasurementKind::kFile},
    {"mok", MeasurementKind::kMok},
    {"role-marker", MeasurementKind::kRoleMarker},
}};

bool printable(uint32_t unit) {
  return unit == '\t' || unit == '\n' || (unit >= 0x20 && unit != 0x7f);
}

// UTF-8 (or ASCII) text without control characters, up to a final NUL; empty if it is not that.
std::string narrow_text(ByteSpan bytes) {
  while (!bytes.empty() && bytes.back() == std::byte{0}) bytes = bytes.first(bytes.size() - 1);
  if (bytes.empty() || bytes.size() > kTextMax) return {};
  uint8_t seen = 0;
  for (std::byte byte : bytes) {
    if (!printable(std::to_integer<uint8_t>(byte))) return {};
    seen |= std::to_integer<uint8_t>(byte);
  }
  const bool ascii = seen < 0x80;
  return ascii || is_utf8(as_text(bytes)) ? std::string(as_text(bytes)) : std::string();
}

// UTF-16 text of ASCII characters, up to a final NUL; empty if it is not that.
std::string wide_text(ByteSpan bytes) {
  if (bytes.size() < 4 || bytes.size() % 2 != 0 || bytes.size() > 2 * kTextMax) return {};
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    auto unit = load_le<uint16_t>(bytes.data() + i);
    if (unit == 0 && i + 2 == bytes.size()) break;
    if (!printable(unit) || unit > 0x7e) return {};
    text.push_back(static_cast<char>(unit));
  }
  return text;
}

// IMA, systemd's phases, parameters, extensions and volume keys.
bool extended_by_system(uint8_t pcr) { return (pcr >= 10 && pcr <= 13) || pcr >= 15; }

}  // namespace

std::string_view name_of(MeasurementKind kind) {
  auto found =
      std::ranges::find(kKinds, kind, &std::pair<std::string_view, MeasurementKind>::second);
  return found == kKinds.end() ? "other" : found->first;
}

std::optional<MeasurementKind> parse_measurement_kind(std::string_view name) {
  auto found =
      std::ranges::find(kKinds, name, &std::pair<std::string_view, MeasurementKind>::first);
  if (found == kKinds.end()) return std::nullopt;
  return found->second;
}

// Collects measurements in order and says what each is.
class MeasuredBootBuilder {
 public:
  MeasuredBootBuilder(const MeasuredBoot::Source& source, HashAlg bank)
      : variables_(source.variables) {
    boot_.bank_ = bank;
    boot_.recorded_ = source.record != nullptr;
    boot_.pcrs_ = source.pcrs;
    boot_.order_vouched_ = source.record != nullptr && source.order_vouched;
  }

  void add(Measurement measurement) {
    if (!boot_.pcrs_[measurement.pcr]) return;
    if (boot_.exited_ && extended_by_system(measurement.pcr)) {
      if (measurement.pcr == 11 && is_boot_phase(boot_.bank_, measurement.digest)) return;
      measurement.placed = false;
      boot_.unplaced_.set(measurement.pcr);
    }
    measurement.nth = ++counts_[measurement.pcr];
    classify(measurement);
    if (measurement.kind == MeasurementKind::kExitBootServices) boot_.exited_ = true;
    boot_.measurements_.push_back(std::move(measurement));
  }
  // What follows is the operating system's, by the word of one who saw the order.
  bool done() const { return boot_.exited_ && boot_.order_vouched_; }
  MeasuredBoot finish() { return std::move(boot_); }

 private:
  void classify(Measurement& m) {
    std::string_view known = known_event_text(boot_.bank_, m.digest);
    if (is_separator_text(known)) {
      m.kind = MeasurementKind::kSeparator;
      m.name = known;
      if (m.pcr == 7) keys_measured_ = true;
      return;
    }
    if (!known.empty()) {
      bool exit = m.pcr == 5 && known == kExitBootServicesAction;
      bool marker = m.pcr == 6 && (known == kDrillMarker || known == kBranchMarker);
      m.kind = exit     ? MeasurementKind::kExitBootServices
               : marker ? MeasurementKind::kRoleMarker
                        : MeasurementKind::kAction;
      m.name = known;
      return;
    }
    switch (m.pcr) {
      case 1:
        m.kind = MeasurementKind::kBootVariable;
        break;
      case 2:
      case 4:
        m.kind = MeasurementKind::kProgram;
        break;
      case 7:
        classify_keys(m);
        break;
      case 8:
      case 12:
        classify_text(m);
        break;
      case 9:
        m.kind = MeasurementKind::kFile;
        m.text = narrow_text(m.covered);
        break;
      case 11:
        m.kind = MeasurementKind::kText;
        m.text = narrow_text(m.covered);
        break;
      case 14:
        m.kind = MeasurementKind::kMok;
        break;
      default:
        break;
    }
  }

  // Firmware measures the key variables, then a separator; whoever verifies programs then measures
  // what vouched for them (TCG PFP 1.05, 3.3.4.8).
  void classify_keys(Measurement& m) {
    if (m.covered.empty()) recognise(m);
    std::optional<VariableData> variable = read_variable_data(m.covered);
    if (variable) {
      m.name = std::move(variable->name);
      m.content = variable->content;
    }
    if (!keys_measured_) {
      m.kind = MeasurementKind::kKeyVariable;
      return;
    }
    bool shim_state = m.name == "SbatLevel" || m.name == "MokSBState";
    m.kind = shim_state ? MeasurementKind::kShimState : MeasurementKind::kAuthority;
  }

  void recognise(Measurement& m) {
    if (variables_ == nullptr) return;
    if (!boot_.known_) {
      boot_.known_ = std::make_shared<const KnownVariables>(*variables_, boot_.bank_);
    }
    const KnownVariables::Entry* entry = boot_.known_->find(m.digest);
    if (entry != nullptr) m.covered = entry->data;
  }

  // GRUB hashes each command, and the kernel's command line beginning with the kernel's path, which
  // no command begins with. systemd-boot and its stub hash command lines as UTF-16.
  static void classify_text(Measurement& m) {
    m.kind = MeasurementKind::kOther;
    m.text = wide_text(m.covered);
    if (!m.text.empty()) {
      m.kind = MeasurementKind::kKernelCommandLine;
      return;
    }
    m.text = narrow_text(m.covered);
    if (m.text.empty()) return;
    bool path = m.pcr == 8 && (m.text[0] == '/' || m.text[0] == '(');
    m.kind = path ? MeasurementKind::kKernelCommandLine : MeasurementKind::kText;
  }

  MeasuredBoot boot_;
  const KeyVariables* variables_;
  std::array<uint32_t, kPcrCount> counts_{};
  bool keys_measured_ = false;
};

namespace {

Error no_bank(HashAlg bank, std::string_view where) {
  return Error{.code = ErrorCode::kNotFound,
               .cause = fmt::format("{} has no {} digests", where, name_of(bank))};
}

Status add_log(MeasuredBootBuilder& builder, const EventLog& log, HashAlg bank) {
  if (!log.has_bank(bank)) return no_bank(bank, "the log");
  for (const Event& event : log.events()) {
    if (builder.done()) break;
    if (!event.measured() || event.pcr >= kPcrCount) continue;
    ByteSpan digest = event.digest(bank);
    if (digest.empty()) continue;  // it did not extend this bank
    builder.add({.pcr = static_cast<uint8_t>(event.pcr),
                 .event = static_cast<uint32_t>(event.number),
                 .digest = digest,
                 .covered = event.cover.covered() ? event.cover.bytes : ByteSpan()});
  }
  return {};
}

// The log's events go with the extends one by one. An extend that the log does not have (made
// before the firmware started, say) is skipped over; after a disagreement the log says nothing
// more.
class LogCursor {
 public:
  LogCursor(const EventLog* log, HashAlg bank) : log_(log), bank_(bank) {}

  const Event* matching(uint8_t pcr, ByteSpan digest) {
    if (log_ == nullptr) return nullptr;
    auto extends = [&](const Event& event) {
      return event.measured() && !event.digest(bank_).empty();
    };
    while (at_ < log_->events().size() && !extends(log_->events()[at_])) ++at_;
    if (at_ == log_->events().size()) return nullptr;
    const Event& event = log_->events()[at_];
    if (event.pcr != pcr || !equal(event.digest(bank_), digest)) return nullptr;
    ++at_;
    return &event;
  }

 private:
  const EventLog* log_;
  HashAlg bank_;
  size_t at_ = 0;
};

Status add_record(MeasuredBootBuilder& builder, const ExtendRecord& record, const EventLog* log,
                  HashAlg bank) {
  LogCursor cursor(log, bank);
  for (const Extend& extend : record.extends) {
    if (builder.done()) break;
    if (extend.kind == PcrChange::kReset) continue;  // of a PCR that nothing is concluded from
    const PcrDigest* digest = extend.digest(bank);
    if (digest == nullptr) return no_bank(bank, fmt::format("extend {} of the record", extend.n));
    Measurement measurement{.pcr = extend.pcr, .extend = extend.n, .digest = digest->bytes};
    if (const Event* event = cursor.matching(extend.pcr, digest->bytes)) {
      measurement.event = static_cast<uint32_t>(event->number);
      if (event->cover.covered()) measurement.covered = event->cover.bytes;
    }
    builder.add(std::move(measurement));
  }
  return {};
}

}  // namespace

Result<MeasuredBoot> MeasuredBoot::from(const Source& source, HashAlg bank) {
  HF_ASSERT(source.log != nullptr || source.record != nullptr);
  MeasuredBootBuilder builder(source, bank);
  if (source.record != nullptr) {
    TRY(add_record(builder, *source.record, source.log, bank));
  } else {
    TRY(add_log(builder, *source.log, bank));
  }
  return builder.finish();
}

}  // namespace hf::attestation
