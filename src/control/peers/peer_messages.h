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
  Bytes title;        // of what the asker knows as much as there is room for, the oldest first
  Bytes wrap;         // the VM's key, wrapped for the asked site
  Bytes certificate;  // of the VM's journal key, by the asker's vault
};
struct Taken {
  bool taken = true;
};

// "Remove the replica that you hold for me." With the title, as an offer's: a site that knows
// nothing any more can resign all the same.
struct Withdrawal {
  static constexpr std::string_view kOp = "withdraw";
  VmId vm;
  Bytes title;
  Digest head;  // under which it is asked: what was signed since is not what it is about
};
struct Removed {
  bool removed = true;
  Bytes title;  // its resignation, if it stood by
};

// "This is what I know of the VM's title, and a question of my vault's: what do you know?"
struct TitleQuestion {
  static constexpr std::string_view kOp = "title";
  VmId vm;
  std::vector<Digest> known;      // head and rivals
  std::vector<Digest> ancestors;  // some of what the head follows, ever further back
  Bytes bundle;                   // statements that the asked one was known to lack
  Bytes question;                 // vault/protocol/titles.h
};
struct TitleAnswer {
  std::vector<Digest> known;
  std::vector<Digest> ancestors;
  Bytes bundle;  // what the asker lacks
  Bytes answer;  // title/answer.h, signed
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

// "Hand this VM over to me, now: stop its guest hard."
struct HandOverOrder {
  static constexpr std::string_view kOp = "hand_over";
  VmId vm;
  // How long its home waits until all of it is at the asker; else it stays where it is.
  uint64_t tail_ms = 10'000;
};
// Handed over: it runs there no more, the asker has all of it, and `title` says so. Else it is the
// asked site's as before, and `why`.
struct HandOverOutcome {
  bool handed_over = false;
  std::string why;
  Bytes title;
};

// "We are rivals for this VM: give it up to me, now." Answered as a hand-over is.
struct SettleOrder {
  static constexpr std::string_view kOp = "settle";
  VmId vm;
};

using PeerQuestion =
    std::variant<Offer, Withdrawal, TitleQuestion, EpochQuestion, HandOverOrder, SettleOrder>;

// Beside the error's texts, where a replica's daemon refuses a stream.
struct StreamRefusalDetail {
  Epoch epoch;  // that it knows the VM under; 0: it knows no such VM
};

inline constexpr uint64_t kTailMsMax = 240'000;
inline constexpr size_t kOfferedDefinitionMax = size_t{64} << 10;
inline constexpr size_t kOfferedBytesMax = size_t{16} << 10;
inline constexpr size_t kTitleBytesMax = size_t{64} << 10;
inline constexpr size_t kKnownMax = 17;  // a head and its rivals
inline constexpr size_t kAncestorsMax = 13;

constexpr auto json_members(sys::JsonOf<Offer>) {
  return std::tuple(
      sys::json_member("vm", &Offer::vm),
      sys::json_member("name", &Offer::name, {.length_min = 1, .length_max = 64}),
      sys::json_member("definition", &Offer::definition,
                       {.length_max = kOfferedDefinitionMax, .text = sys::JsonText::kAny}),
      sys::json_member("epoch", &Offer::epoch, {.min = 1}),
      sys::json_member("title", &Offer::title, {.length_max = kTitleBytesMax}),
      sys::json_member("wrap", &Offer::wrap, {.length_max = kOfferedBytesMax}),
      sys::json_member("certificate", &Offer::certificate, {.length_max = kOfferedBytesMax}));
}
constexpr auto json_members(sys::JsonOf<Taken>) {
  return std::tuple(sys::json_member("taken", &Taken::taken));
}
constexpr auto json_members(sys::JsonOf<Withdrawal>) {
  return std::tuple(sys::json_member("vm", &Withdrawal::vm),
                    sys::json_member("title", &Withdrawal::title, {.length_max = kTitleBytesMax}),
                    sys::json_member("head", &Withdrawal::head));
}
constexpr auto json_members(sys::JsonOf<Removed>) {
  return std::tuple(sys::json_member("removed", &Removed::removed),
                    sys::json_member("title", &Removed::title, {.length_max = kTitleBytesMax}));
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
constexpr auto json_members(sys::JsonOf<TitleQuestion>) {
  using Q = TitleQuestion;
  return std::tuple(sys::json_member("vm", &Q::vm),
                    sys::json_member("known", &Q::known, {.items_max = kKnownMax}),
                    sys::json_member("ancestors", &Q::ancestors, {.items_max = kAncestorsMax}),
                    sys::json_member("bundle", &Q::bundle, {.length_max = kTitleBytesMax}),
                    sys::json_member("question", &Q::question, {.length_max = 256}));
}
constexpr auto json_members(sys::JsonOf<TitleAnswer>) {
  using A = TitleAnswer;
  return std::tuple(sys::json_member("known", &A::known, {.items_max = kKnownMax}),
                    sys::json_member("ancestors", &A::ancestors, {.items_max = kAncestorsMax}),
                    sys::json_member("bundle", &A::bundle, {.length_max = kTitleBytesMax}),
                    sys::json_member("answer", &A::answer, {.length_max = 1024}));
}
constexpr auto json_members(sys::JsonOf<HandOverOrder>) {
  return std::tuple(
      sys::json_member("vm", &HandOverOrder::vm),
      sys::json_member_or_default("tail_ms", &HandOverOrder::tail_ms, {.max = kTailMsMax}));
}
constexpr auto json_members(sys::JsonOf<SettleOrder>) {
  return std::tuple(sys::json_member("vm", &SettleOrder::vm));
}
constexpr auto json_members(sys::JsonOf<HandOverOutcome>) {
  using O = HandOverOutcome;
  return std::tuple(
      sys::json_member("handed_over", &O::handed_over),
      sys::json_member("why", &O::why, {.length_max = 1024, .text = sys::JsonText::kShown}),
      sys::json_member("title", &O::title, {.length_max = kTitleBytesMax}));
}
constexpr auto json_members(sys::JsonOf<StreamRefusalDetail>) {
  return std::tuple(sys::json_member("epoch", &StreamRefusalDetail::epoch));
}

}  // namespace hf::control
