// What a roll-over is asked with, as JSON.
#include <algorithm>

#include "control/secure_boot/rollover.h"
#include "secure_boot/change/variables_json.h"

namespace hf::control {
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
  request.changes = TRY(secure_boot::changes_from_json(*TRY(sys::get_array(body, "changes"))));
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

}  // namespace hf::control
