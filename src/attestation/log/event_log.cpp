#include "attestation/log/event_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/log/event_cover.h"
#include "attestation/log/foreign_log.h"
#include "base/fields.h"

namespace hf::attestation {
namespace {

constexpr size_t kSha1EventHeaderSize = 32;  // PCR, type, SHA-1 digest, data size
constexpr std::string_view kSpecIdAgile{"Spec ID Event03\0", 16};
constexpr std::string_view kStartupLocality{"StartupLocality\0", 16};

Error corrupt(size_t event, size_t offset, std::string reason) {
  return {.code = ErrorCode::kCorrupt,
          .cause = fmt::format("event {} (at byte {}): {}", event, offset, reason),
          .effect = "nothing in this log is believed",
          .mend =
              "read the log again from the guest's firmware: it was cut off or damaged on its way, "
              "or is no event log"};
}

Error too_much(std::string cause) {
  return {.code = ErrorCode::kLimit,
          .cause = std::move(cause),
          .effect = "the log is not read",
          .mend = "no firmware writes such a log: read it again from the guest"};
}

// An area that was kept for a log is filled up with zeros or ones behind it. No event begins with
// so many equal bytes: its type is neither 0 nor all ones.
constexpr size_t kPaddingMin = 16;
bool is_padding(ByteSpan rest) {
  if (rest.size() < kPaddingMin) return false;
  std::byte first = rest.front();
  bool fills = first == std::byte{0} || first == std::byte{0xff};
  return fills && std::ranges::all_of(rest, [&](std::byte byte) { return byte == first; });
}

// Little-endian reads within bounds; every failure is an error of the event being read.
class Cursor {
 public:
  explicit Cursor(ByteSpan bytes) : bytes_(bytes) {}
  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }
  void begin(size_t event) { event_ = event, event_offset_ = offset_; }
  size_t event() const { return event_; }
  Error bad(std::string reason) const { return corrupt(event_, event_offset_, std::move(reason)); }

  Result<ByteSpan> take(size_t size, std::string_view what) {
    if (size > left()) {
      return bad(
          fmt::format("the log ends within its {}: {} bytes of {} are left", what, left(), size));
    }
    ByteSpan part = bytes_.subspan(offset_, size);
    offset_ += size;
    return part;
  }
  template <typename T>
  Result<T> number(std::string_view what) {
    ByteSpan part = TRY(take(sizeof(T), what));
    return load_le<T>(part.data());
  }

 private:
  ByteSpan bytes_;
  size_t offset_ = 0;
  size_t event_ = 0;
  size_t event_offset_ = 0;
};

}  // namespace

class EventLogParser {
 public:
  explicit EventLogParser(EventLog& log) : log_(log), in_(log.bytes_) {}

  Status run() {
    if (std::optional<ForeignLog> foreign = foreign_log(log_.bytes_)) {
      return Error{.code = ErrorCode::kCorrupt,
                   .cause = fmt::format("this is no event log of a TPM but {}", foreign->what),
                   .effect = "there is nothing in it to compare with PCRs",
                   .mend = std::string(foreign->mend)};
    }
    if (in_.left() < kSha1EventHeaderSize) {
      return corrupt(0, 0, fmt::format("{} bytes are no event log", in_.left()));
    }
    TRY(first());
    while (in_.left() > 0 && !is_padding(ByteSpan(log_.bytes_).subspan(in_.offset()))) {
      if (log_.events_.size() == kEventsMax) {
        return too_much(fmt::format("the log has more than {} events", kEventsMax));
      }
      in_.begin(log_.events_.size());
      Event event = TRY(log_.format_ == LogFormat::kSha1 ? sha1_event() : agile_event());
      TRY(accept(std::move(event)));
    }
    drop_unused_banks();
    return {};
  }

 private:
  struct DeclaredBank {
    HashAlg alg;
    size_t size;
  };

  // A bank that the header declares and no event extends says nothing of its PCRs.
  void drop_unused_banks() {
    auto used = [&](HashAlg alg) {
      return std::ranges::any_of(log_.events_, [&](const Event& event) {
        return event.measured() && !event.digest(alg).empty();
      });
    };
    if (std::ranges::none_of(log_.banks_, used)) return;
    std::erase_if(log_.banks_, [&](HashAlg alg) { return !used(alg); });
  }

  Event begin_event() {
    Event event;
    event.number = in_.event();
    event.byte_offset = in_.offset();
    return event;
  }

  Result<ByteSpan> data() {
    auto size = TRY(in_.number<uint32_t>("data size"));
    if (size > kEventDataSizeMax) {
      return in_.bad(fmt::format("says it has {} bytes of data; no event has more than {}", size,
                                 kEventDataSizeMax));
    }
    return in_.take(size, "data");
  }

  Result<Event> sha1_event() {
    Event event = begin_event();
    event.pcr = TRY(in_.number<uint32_t>("PCR index"));
    event.type = static_cast<EventType>(TRY(in_.number<uint32_t>("type")));
    event.digest_slots[0] = {HashAlg::kSha1, TRY(in_.take(20, "SHA-1 digest"))};
    event.digest_count = 1;
    event.data = TRY(data());
    return event;
  }

  // TCG_PCR_EVENT2: a digest for each bank that was extended, in any order. That may be fewer than
  // the header declares: the other banks' PCRs are as they were.
  Result<Event> agile_event() {
    Event event = begin_event();
    event.pcr = TRY(in_.number<uint32_t>("PCR index"));
    event.type = static_cast<EventType>(TRY(in_.number<uint32_t>("type")));
    auto count = TRY(in_.number<uint32_t>("digest count"));
    if (count > declared_.size()) {
      return in_.bad(fmt::format("has {} digests where the header declares {} banks", count,
                                 declared_.size()));
    }
    for (uint32_t i = 0; i < count; ++i) {
      auto id = TRY(in_.number<uint16_t>("digest algorithm"));
      auto bank = std::ranges::find(declared_, static_cast<HashAlg>(id), &DeclaredBank::alg);
      if (bank == declared_.end()) {
        return in_.bad(
            fmt::format("has a digest of algorithm {:#06x}, which the header does not "
                        "declare",
                        id));
      }
      if (!event.digest(bank->alg).empty()) {
        return in_.bad(fmt::format("has two digests of algorithm {:#06x}", id));
      }
      event.digest_slots[event.digest_count++] = {bank->alg, TRY(in_.take(bank->size, "digest"))};
    }
    event.data = TRY(data());
    return event;
  }

  // The first event has the older form in both formats and tells which one follows.
  Status first() {
    in_.begin(0);
    Event event = TRY(sha1_event());
    if (event.type == EventType::kNoAction && as_text(event.data).starts_with(kSpecIdAgile)) {
      TRY(spec_id(event));
    } else {
      log_.banks_ = {HashAlg::kSha1};
    }
    return accept(std::move(event));
  }

  // TCG_EfiSpecIDEvent: signature[16] platformClass u32, minor, major, errata, uintnSize u8,
  // numberOfAlgorithms u32, {algorithm u16, digest size u16}…, vendorInfoSize u8, vendorInfo.
  Status spec_id(const Event& event) {
    constexpr size_t kBanksAt = 28;
    ByteSpan data = event.data;
    if (event.pcr != 0) return in_.bad("the header names a PCR other than 0");
    if (data.size() < kBanksAt) return in_.bad("the header is too short to declare banks");
    auto count = load_le<uint32_t>(data.data() + kBanksAt - 4);
    if (count == 0 || count > kBanksMax) {
      return in_.bad(fmt::format("the header declares {} banks; 1 to {} can be", count, kBanksMax));
    }
    size_t vendor_at = kBanksAt + count * size_t{4};
    if (data.size() < vendor_at + 1) return in_.bad("the header ends within its banks");
    for (uint32_t i = 0; i < count; ++i) {
      const std::byte* at = data.data() + kBanksAt + i * size_t{4};
      TRY(declare(load_le<uint16_t>(at), load_le<uint16_t>(at + 2)));
    }
    size_t vendor_size = std::to_integer<size_t>(data[vendor_at]);
    if (data.size() != vendor_at + 1 + vendor_size) {
      return in_.bad("the header's size is not that of its banks and vendor information");
    }
    log_.format_ = LogFormat::kCryptoAgile;
    return {};
  }

  Status declare(uint16_t id, uint16_t size) {
    auto alg = static_cast<HashAlg>(id);
    if (std::ranges::find(declared_, alg, &DeclaredBank::alg) != declared_.end()) {
      return in_.bad(fmt::format("the header declares algorithm {:#06x} twice", id));
    }
    bool known = size_of(alg) != 0;
    if (size == 0 || size > kHashSizeMax || (known && size != size_of(alg))) {
      return in_.bad(
          fmt::format("the header gives algorithm {:#06x} digests of {} bytes", id, size));
    }
    declared_.push_back({alg, size});
    if (known) log_.banks_.push_back(alg);
    return {};
  }

  Status accept(Event event) {
    if (event.measured()) {
      if (event.pcr >= kPcrCount) {
        return in_.bad(fmt::format("names PCR {}; there are 0 to {}", event.pcr, kPcrCount - 1));
      }
      event.cover = cover_of(event.pcr, event.data, event.digests());
      bool first_of_pcr_0 = event.pcr == 0 && !measured_pcr_0_;
      measured_pcr_0_ |= event.pcr == 0;
      // An H-CRTM sequence leaves 4 in PCR 0 and then extends it (TPM 2.0 part 1, §34.3).
      if (first_of_pcr_0 && event.type == EventType::kEfiHcrtmEvent) log_.startup_locality_ = 4;
    } else {
      no_action(event);
    }
    log_.events_.push_back(event);
    return {};
  }

  // EV_NO_ACTION extends nothing, whatever PCR and digests it names (PFP 1.05 §10.4.1 has zeros for
  // them; Windows appends records for no PCR, with digests). Who tells a startup locality that the
  // TPM did not have is disproved by PCR 0. Told after PCR 0 was extended, by an H-CRTM above all,
  // it changes nothing any more; told twice before, the last one counts.
  void no_action(const Event& event) {
    if (event.pcr != 0 || measured_pcr_0_ || !as_text(event.data).starts_with(kStartupLocality)) {
      return;
    }
    if (event.data.size() != kStartupLocality.size() + 1) return;
    log_.startup_locality_ = std::to_integer<uint8_t>(event.data.back());
  }

  EventLog& log_;
  Cursor in_;
  std::vector<DeclaredBank> declared_;
  bool measured_pcr_0_ = false;
};

ByteSpan Event::digest(HashAlg alg) const {
  for (const DigestView& digest : digests()) {
    if (digest.alg == alg) return digest.bytes;
  }
  return {};
}

Result<EventLog> EventLog::parse(ByteSpan bytes) {
  if (bytes.size() > kLogSizeMax) {
    return too_much(
        fmt::format("the event log has {} bytes; the limit is {}", bytes.size(), kLogSizeMax));
  }
  EventLog log;
  log.bytes_.assign(bytes.begin(), bytes.end());
  TRY(EventLogParser(log).run());
  return log;
}

bool EventLog::has_bank(HashAlg alg) const {
  return std::ranges::find(banks_, alg) != banks_.end();
}

Result<PcrBank> replay(const EventLog& log, HashAlg alg) {
  if (!log.has_bank(alg)) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = fmt::format("the event log has no {} bank", name_of(alg))};
  }
  PcrBank bank(alg, log.startup_locality());
  bool dynamic = false;
  for (const Event& event : log.events()) {
    if (!event.measured()) continue;
    if (!dynamic && event.pcr >= kDynamicPcrFirst && event.pcr <= kDynamicPcrLast) {
      dynamic = true;
      bank.dynamic_launch();
    }
    ByteSpan digest = event.digest(alg);
    if (!digest.empty()) bank.extend(event.pcr, digest);
  }
  return bank;
}

}  // namespace hf::attestation
