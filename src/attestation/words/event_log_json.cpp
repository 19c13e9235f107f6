#include "attestation/words/event_log_json.h"

#include <fmt/format.h>

#include "attestation/log/event_cover.h"
#include "attestation/words/event_words.h"

namespace hf::attestation {
namespace {

const char* cover_word(CoverForm form) {
  switch (form) {
    case CoverForm::kNone:
      return "none";
    case CoverForm::kWhole:
      return "whole";
    case CoverForm::kPart:
      return "part";
    case CoverForm::kSectionName:
      return "section name";
    case CoverForm::kContradiction:
      return "contradiction";
  }
  return "none";
}

sys::JsonObject event_json(const Event& event, std::optional<HashAlg> bank) {
  EventWords words = describe(event);
  sys::JsonObject object;
  object["number"] = event.number;
  object["offset"] = event.byte_offset;
  object["pcr"] = event.pcr < kPcrCount ? sys::JsonValue(event.pcr) : sys::JsonValue(nullptr);
  object["type"] = name_of(event.type);
  object["title"] = words.title;
  object["detail"] = words.detail;
  object["proven"] = words.proven;
  object["cover"] = cover_word(event.cover.form);
  sys::JsonObject digests;
  for (const DigestView& digest : event.digests()) {
    if (bank && digest.alg != *bank) continue;
    std::string name(name_of(digest.alg));
    if (name.empty()) name = fmt::format("{:#06x}", static_cast<uint16_t>(digest.alg));
    digests[name] = to_hex(digest.bytes);
  }
  object["digests"] = std::move(digests);
  return object;
}

}  // namespace

Result<sys::JsonObject> to_json(const EventLog& log, std::optional<HashAlg> bank) {
  sys::JsonObject object;
  object["format"] = log.format() == LogFormat::kCryptoAgile ? "crypto-agile" : "sha1";
  sys::JsonArray banks;
  sys::JsonObject pcrs;
  for (HashAlg alg : bank ? std::vector{*bank} : log.banks()) {
    banks.emplace_back(name_of(alg));
    PcrBank values = TRY(replay(log, alg));
    sys::JsonObject texts;
    for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
      texts[std::to_string(pcr)] = to_hex(values.value(pcr));
    }
    pcrs[name_of(alg)] = std::move(texts);
  }
  object["banks"] = std::move(banks);
  object["startup_locality"] = log.startup_locality();
  std::vector<UnprovenEvent> unproven = unproven_events(log);
  sys::JsonArray not_proven;
  for (const UnprovenEvent& event : unproven) {
    not_proven.emplace_back(sys::JsonObject{{"number", event.event}, {"reason", event.reason}});
  }
  object["not_proven"] = std::move(not_proven);
  object["pcrs"] = std::move(pcrs);
  std::array<bool, kPcrCount> extended{};
  sys::JsonArray events;
  auto next = unproven.begin();
  for (const Event& event : log.events()) {
    if (event.measured()) extended[event.pcr] = true;
    sys::JsonObject row = event_json(event, bank);
    if (next != unproven.end() && next->event == event.number) {
      row["not_proven"] = next->reason;
      ++next;
    }
    events.emplace_back(std::move(row));
  }
  sys::JsonArray extended_pcrs;
  for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if (extended[pcr]) extended_pcrs.emplace_back(pcr);
  }
  object["extended"] = std::move(extended_pcrs);
  object["events"] = std::move(events);
  return object;
}

}  // namespace hf::attestation
