// What a roll-over is asked with and what is kept of it, as JSON.
#include <algorithm>

#include "daemon/rollover.h"
#include "daemon/secure_boot_vm.h"

namespace hf::daemon {
namespace {

Result<RolloverWay> parse_way(const sys::JsonObject& body) {
  struct Named {
    std::string_view name;
    RolloverWay way;
  };
  RolloverWay way = RolloverWay::kForward;
  for (const Named& named :
       {Named{"in_guest", RolloverWay::kInGuest}, Named{"finish", RolloverWay::kFinish},
        Named{"back", RolloverWay::kBack}}) {
    if (!TRY(sys::get_bool_or(body, named.name, false))) continue;
    if (way != RolloverWay::kForward) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "a roll-over cannot be \"" + std::string(named.name) +
                            "\" and something else at once",
                   .effect = "nothing was changed",
                   .mend = "give one of in_guest, finish and back"};
    }
    way = named.way;
  }
  return way;
}

}  // namespace

Result<RolloverRequest> parse_rollover(const sys::JsonObject& body) {
  RolloverRequest request{.way = TRY(parse_way(body))};
  request.without_reseal = TRY(sys::get_bool_or(body, "without_reseal", false));
  uint64_t seconds = TRY(sys::get_u64_or(body, "timeout_seconds", 120));
  request.guest_limit = std::chrono::seconds(std::clamp<uint64_t>(seconds, 1, 3600));
  if (request.way == RolloverWay::kBack || request.way == RolloverWay::kFinish) return request;
  request.changes = TRY(parse_changes(*TRY(sys::get_array(body, "changes"))));
  const bool updates_only =
      std::ranges::all_of(request.changes, [](const secure_boot::Change& change) {
        return change.action == secure_boot::ChangeAction::kUpdate;
      });
  if (request.way == RolloverWay::kInGuest && !updates_only) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a running guest's firmware takes signed updates only",
                 .effect = "nothing was changed",
                 .mend =
                     "give --update FILE (holdfast secure-boot sign-update makes one), or "
                     "leave --in-guest out: the VM is stopped then"};
  }
  return request;
}

sys::JsonObject to_json(const RolloverRecord& record) {
  sys::JsonObject made;
  for (const auto& [variable, digest] : record.made) made[variable] = digest;
  return {{"version", 1},
          {"pcr7_before", record.pcr7_before},
          {"pcr7_after", record.pcr7_after},
          {"resealed", record.resealed},
          {"confirmed", record.confirmed},
          {"in_guest", record.in_guest},
          {"way_back", record.way_back},
          {"back", to_json(record.back)},
          {"made", std::move(made)}};
}

Result<RolloverRecord> parse_rollover_record(std::string_view text) {
  sys::JsonObject json = TRY(sys::parse_json_object(text));
  RolloverRecord record{.pcr7_before = TRY(sys::get_string(json, "pcr7_before")),
                        .pcr7_after = TRY(sys::get_string(json, "pcr7_after")),
                        .resealed = TRY(sys::get_bool(json, "resealed")),
                        .confirmed = TRY(sys::get_bool(json, "confirmed")),
                        .in_guest = TRY(sys::get_bool_or(json, "in_guest", false)),
                        .way_back = *TRY(sys::get_object(json, "way_back")),
                        .back = TRY(parse_changes(*TRY(sys::get_array(json, "back"))))};
  if (!sys::has_member(json, "made")) return record;
  for (const auto& member : *TRY(sys::get_object(json, "made"))) {
    if (!member.value().is_string()) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a broken record of a roll-over"};
    }
    record.made[std::string(member.key())] = member.value().get_string();
  }
  return record;
}

}  // namespace hf::daemon
