#include "control/protection/protection_view.h"

#include "keeper_protocol/control_json.h"

namespace hf::control {

sys::JsonObject shipping_view(const keeper_protocol::Shipping& shipping) {
  sys::JsonObject show{{"state", sys::json_word(shipping.state)},
                       {"caught_up", shipping.caught_up},
                       {"lag_records", nullptr},
                       {"in_flight_bytes", shipping.lag_bytes},
                       {"home_durable", shipping.home_durable.value},
                       {"rpo_ms", nullptr}};
  if (shipping.rpo_ms) show["rpo_ms"] = *shipping.rpo_ms;
  if (shipping.acknowledged) {
    show["lag_records"] = shipping.lag_records;
    show["acknowledged"] = shipping.acknowledged->sequence.value;
    show["acknowledged_incarnation"] = shipping.acknowledged->incarnation.hex();
  }
  if (shipping.seed_bytes_done) show["seed_bytes_done"] = *shipping.seed_bytes_done;
  if (shipping.seed_bytes_total) show["seed_bytes_total"] = *shipping.seed_bytes_total;
  if (shipping.let_go) show["let_go"] = true;
  if (shipping.error) show["error"] = sys::error_to_json(*shipping.error);
  return show;
}

sys::JsonObject replica_view(const keeper_protocol::ReplicaStatus& status) {
  const uint64_t durable = status.durable.sequence.value;
  const uint64_t home = status.home_durable.value;
  sys::JsonObject show{{"state", status.connected ? "receiving" : "waiting"},
                       {"durable", durable},
                       {"durable_incarnation", status.durable.incarnation.hex()},
                       {"durable_time_us", status.durable_time_us.value},
                       {"home_durable", home},
                       {"stored_bytes", status.stored_bytes},
                       {"lag_records", nullptr}};
  if (status.stored_bytes_max) show["stored_bytes_max"] = *status.stored_bytes_max;
  if (status.connected) show["lag_records"] = home > durable ? home - durable : 0;
  if (status.error) show["error"] = sys::error_to_json(*status.error);
  return show;
}

Error no_replica_there(const std::string& vm, const std::string& peer) {
  return {.code = ErrorCode::kNotFound,
          .cause = "site " + peer + " and this one do not protect VM \"" + vm +
                   "\" together: that site has no replica of it any more",
          .effect = "nothing of what the guest writes is at site " + peer,
          .mend = "to have it there again: holdfast protection enable " + vm + " --to " + peer};
}

}  // namespace hf::control
