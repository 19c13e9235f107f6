#include "control/attest/attestation_record.h"

#include <algorithm>

#include "base/base64.h"

namespace hf::control {
namespace {

sys::JsonValue without_token(const std::string& record) {
  Result<sys::JsonObject> parsed = sys::parse_json_object(record);
  if (!parsed.ok()) return record.c_str();
  parsed->erase("token");
  return sys::JsonValue(sys::to_text(*parsed));
}

}  // namespace

sys::JsonObject to_json(const AttestationIdentity& identity) {
  return {{"version", 1},
          {"ak_public", base64_encode(identity.ak_public)},
          {"ak_name", to_hex(identity.ak_name)},
          {"certificate", identity.certificate},
          {"certified_by", identity.certified_by.hex()},
          {"reset_count", identity.reset_count},
          {"boot_id", identity.boot_id}};
}

Result<AttestationIdentity> parse_identity(std::string_view text) {
  sys::JsonObject json = TRY(sys::parse_json_object(text));
  AttestationIdentity identity;
  identity.ak_public = TRY(base64_decode(TRY(sys::get_string(json, "ak_public"))));
  identity.ak_name = TRY(from_hex(TRY(sys::get_string(json, "ak_name"))));
  identity.certificate = TRY(sys::get_string(json, "certificate"));
  identity.certified_by = TRY(SiteId::parse_hex(TRY(sys::get_string(json, "certified_by"))));
  uint64_t resets = TRY(sys::get_u64(json, "reset_count"));
  identity.reset_count = static_cast<uint32_t>(std::min<uint64_t>(resets, UINT32_MAX));
  identity.boot_id = TRY(sys::get_string_or(json, "boot_id", ""));
  return identity;
}

Result<std::string> baseline_text(const attestation::Baseline& baseline) {
  std::string text = sys::to_text(attestation::to_json(baseline));
  if (text.size() <= attestation::kBaselineJsonMax) return text;
  return Error{.code = ErrorCode::kLimit,
               .cause = "the baseline would be " + std::to_string(text.size() >> 10) +
                        " KiB long, and " + std::to_string(attestation::kBaselineJsonMax >> 10) +
                        " KiB is the most",
               .effect = "the baseline is as it was",
               .mend =
                   "withdraw announced changes, or keep the present boot alone: "
                   "holdfast attest baseline learn VM"};
}

Result<Bytes> pack_attestation(const AttestationRow& row,
                               const std::vector<VerdictRow>& newest_first) {
  sys::JsonObject packet{{"version", 1},
                         {"policy", row.policy},
                         {"baseline", row.baseline},
                         {"identity", row.identity},
                         {"explanations", row.explanations}};
  auto packet_size = [&] { return sys::to_text(packet).size() + sizeof R"(,"verdicts":[])"; };
  size_t size = packet_size();
  if (size > kPacketMax) {  // the disk's knowledge is read anew at each boot
    packet["explanations"] = "";
    size = packet_size();
  }
  if (size > kPacketMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "the VM's attestation policy and baseline are larger than 1 MiB together",
                 .effect = "they do not travel with the VM's journal",
                 .mend = "accept fewer boots: holdfast attest baseline learn VM"};
  }
  sys::JsonArray verdicts;
  for (const VerdictRow& verdict : newest_first) {
    // A token is worth its bytes only while it is the newest.
    sys::JsonObject entry{{"time_us", verdict.time.value},
                          {"verdict", verdict.verdict},
                          {"record", verdicts.empty() ? sys::JsonValue(verdict.record)
                                                      : without_token(verdict.record)}};
    size += sys::to_text(entry).size() + 1;
    if (size > kPacketMax) break;
    verdicts.push_back(std::move(entry));
  }
  std::ranges::reverse(verdicts);
  packet["verdicts"] = std::move(verdicts);
  std::string text = sys::to_text(packet);
  ByteSpan bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

Result<AttestationPacket> unpack_attestation(ByteSpan bytes) {
  sys::JsonObject json =
      TRY(sys::parse_json_object(as_text(bytes), {.bytes_max = kPacketMax + 4096}));
  if (TRY(sys::get_u64(json, "version")) != 1) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "the VM's journal holds attestation data of another version"};
  }
  AttestationPacket packet;
  packet.row = {.policy = TRY(sys::get_string(json, "policy")),
                .baseline = TRY(sys::get_string(json, "baseline")),
                .identity = TRY(sys::get_string(json, "identity")),
                .explanations = TRY(sys::get_string(json, "explanations"))};
  for (const sys::JsonValue& item : *TRY(sys::get_array(json, "verdicts"))) {
    if (!item.is_object() || packet.verdicts.size() == kVerdictsMax) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a broken list of verdicts"};
    }
    const sys::JsonObject& verdict = item.get_object();
    packet.verdicts.push_back({.time = Micros(TRY(sys::get_u64(verdict, "time_us"))),
                               .verdict = TRY(sys::get_string(verdict, "verdict")),
                               .record = TRY(sys::get_string(verdict, "record"))});
  }
  return packet;
}

}  // namespace hf::control
