// What two holdfastd ask each other over the links: one JSON object a question, named by "op", and
// one an answer. All of it comes from another site: bounded here, judged by who asked.
#pragma once

#include <array>
#include <string>
#include <tuple>
#include <variant>

#include "base/ids.h"
#include "recovery/state.h"
#include "sys/typed_json.h"

namespace hf::replication {
constexpr auto json_words(sys::JsonOf<SiteRole>) {
  return std::array{sys::JsonWord{"primary", SiteRole::kPrimary},
                    sys::JsonWord{"replica", SiteRole::kReplica},
                    sys::JsonWord{"superseded", SiteRole::kSuperseded}};
}
}  // namespace hf::replication

namespace hf::control {

// "Keep a replica of this VM."
struct Offer {
  static constexpr std::string_view kOp = "offer";
  VmId vm;
  std::string name;
  std::string definition;  // JSON (vm/definition.h)
  Epoch epoch;
  Bytes wrap;         // the VM's key, wrapped for the asked site
  Bytes certificate;  // of the VM's journal key, by the asker's vault
};
struct Taken {
  bool taken = true;
};

// "Remove the replica that you hold for me."
struct Withdrawal {
  static constexpr std::string_view kOp = "withdraw";
  VmId vm;
};
struct Removed {
  bool removed = true;
};

// "Under which epoch do you know this VM?" The question tells the asker's own.
struct EpochQuestion {
  static constexpr std::string_view kOp = "epoch";
  VmId vm;
  Epoch epoch;
};
struct EpochAnswer {
  Epoch epoch;
  recovery::Role role = recovery::Role::kReplica;
  bool running = false;
};

// "Stop this VM: I am about to take it over under `epoch`."
struct StopOrder {
  static constexpr std::string_view kOp = "stop";
  VmId vm;
  Epoch epoch;
};
// Stopped: it runs no more there and will not start. Else `why`, and the epoch that the order is
// not above.
struct StopOutcome {
  bool stopped = false;
  bool shipped = false;  // the asker has all that was durable there
  std::string why;
  Epoch epoch;
};

using PeerQuestion = std::variant<Offer, Withdrawal, EpochQuestion, StopOrder>;

// Beside the error's texts, where a replica's daemon refuses a stream.
struct StreamRefusalDetail {
  Epoch epoch;  // that it knows the VM under; 0: it knows no such VM
};

inline constexpr size_t kOfferedDefinitionMax = size_t{64} << 10;
inline constexpr size_t kOfferedBytesMax = size_t{16} << 10;

constexpr auto json_members(sys::JsonOf<Offer>) {
  return std::tuple(
      sys::json_member("vm", &Offer::vm),
      sys::json_member("name", &Offer::name, {.length_min = 1, .length_max = 64}),
      sys::json_member("definition", &Offer::definition,
                       {.length_max = kOfferedDefinitionMax, .text = sys::JsonText::kAny}),
      sys::json_member("epoch", &Offer::epoch, {.min = 1}),
      sys::json_member("wrap", &Offer::wrap, {.length_max = kOfferedBytesMax}),
      sys::json_member("certificate", &Offer::certificate, {.length_max = kOfferedBytesMax}));
}
constexpr auto json_members(sys::JsonOf<Taken>) {
  return std::tuple(sys::json_member("taken", &Taken::taken));
}
constexpr auto json_members(sys::JsonOf<Withdrawal>) {
  return std::tuple(sys::json_member("vm", &Withdrawal::vm));
}
constexpr auto json_members(sys::JsonOf<Removed>) {
  return std::tuple(sys::json_member("removed", &Removed::removed));
}
constexpr auto json_members(sys::JsonOf<EpochQuestion>) {
  return std::tuple(sys::json_member("vm", &EpochQuestion::vm),
                    sys::json_member("epoch", &EpochQuestion::epoch));
}
constexpr auto json_members(sys::JsonOf<EpochAnswer>) {
  return std::tuple(sys::json_member("epoch", &EpochAnswer::epoch),
                    sys::json_member("role", &EpochAnswer::role),
                    sys::json_member("running", &EpochAnswer::running));
}
constexpr auto json_members(sys::JsonOf<StopOrder>) {
  return std::tuple(sys::json_member("vm", &StopOrder::vm),
                    sys::json_member("epoch", &StopOrder::epoch));
}
constexpr auto json_members(sys::JsonOf<StopOutcome>) {
  return std::tuple(sys::json_member("stopped", &StopOutcome::stopped),
                    sys::json_member("shipped", &StopOutcome::shipped),
                    sys::json_member("why", &StopOutcome::why,
                                     {.length_max = 1024, .text = sys::JsonText::kShown}),
                    sys::json_member("epoch", &StopOutcome::epoch));
}
constexpr auto json_members(sys::JsonOf<StreamRefusalDetail>) {
  return std::tuple(sys::json_member("epoch", &StreamRefusalDetail::epoch));
}

}  // namespace hf::control
