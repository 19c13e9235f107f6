// How the questions and answers of control.h are written. Included there.
#pragma once

#include "keeper_protocol/control.h"

namespace hf::keeper_protocol {

inline constexpr sys::JsonBounds kCredentialBytes{.length_max = 1024,
                                                  .bytes = sys::JsonBytes::kBase64};
inline constexpr sys::JsonBounds kDataBytes{.length_max = kQuestionBytesMax,
                                            .bytes = sys::JsonBytes::kBase64};
inline constexpr sys::JsonBounds kStoreName{.length_min = 1, .length_max = 64};
inline constexpr size_t kPcrsMax = 24;

constexpr auto json_words(sys::JsonOf<ShippingState>) {
  using enum ShippingState;
  return std::array{sys::JsonWord{"waiting", kWaiting}, sys::JsonWord{"greeting", kGreeting},
                    sys::JsonWord{"seeding", kSeeding}, sys::JsonWord{"streaming", kStreaming},
                    sys::JsonWord{"halted", kHalted}};
}

constexpr auto json_members(sys::JsonOf<Nothing>) { return std::tuple(); }
constexpr auto json_members(sys::JsonOf<End>) {
  return std::tuple(sys::json_member("incarnation", &End::incarnation),
                    sys::json_member("sequence", &End::sequence),
                    sys::json_member("chain", &End::chain));
}
constexpr auto json_members(sys::JsonOf<Shipping>) {
  using S = Shipping;
  return std::tuple(
      sys::json_member("state", &S::state), sys::json_member("peer_site", &S::peer_site),
      sys::json_member("caught_up", &S::caught_up), sys::json_member("rpo_ms", &S::rpo_ms),
      sys::json_member("acknowledged", &S::acknowledged),
      sys::json_member("home_durable", &S::home_durable),
      sys::json_member("lag_records", &S::lag_records),
      sys::json_member("lag_bytes", &S::lag_bytes), sys::json_member("let_go", &S::let_go),
      sys::json_member("seed_bytes_done", &S::seed_bytes_done),
      sys::json_member("seed_bytes_total", &S::seed_bytes_total),
      sys::json_member("peer_epoch", &S::peer_epoch), sys::json_member("error", &S::error));
}
constexpr auto json_members(sys::JsonOf<ServeStatus>) {
  using S = ServeStatus;
  return std::tuple(
      sys::json_member("state", &S::state), sys::json_member("pid", &S::pid),
      sys::json_member("epoch", &S::epoch), sys::json_member("incarnation", &S::incarnation),
      sys::json_member("appended", &S::appended), sys::json_member("durable", &S::durable),
      sys::json_member("durable_incarnation", &S::durable_incarnation),
      sys::json_member("chain", &S::chain), sys::json_member("segments", &S::segments),
      sys::json_member("bases", &S::bases), sys::json_member("vtpm", &S::vtpm),
      sys::json_member("connections", &S::connections),
      sys::json_member("journal_public_key", &S::journal_public_key),
      sys::json_member("shipping", &S::shipping));
}
constexpr auto json_members(sys::JsonOf<ReplicaStatus>) {
  using S = ReplicaStatus;
  return std::tuple(sys::json_member("pid", &S::pid), sys::json_member("connected", &S::connected),
                    sys::json_member("sealed", &S::sealed),
                    sys::json_member("holds_anything", &S::holds_anything),
                    sys::json_member("epoch", &S::epoch), sys::json_member("durable", &S::durable),
                    sys::json_member("durable_time_us", &S::durable_time_us),
                    sys::json_member("home_durable", &S::home_durable),
                    sys::json_member("seed_bytes_done", &S::seed_bytes_done),
                    sys::json_member("seed_bytes_total", &S::seed_bytes_total),
                    sys::json_member("stored_bytes", &S::stored_bytes),
                    sys::json_member("stored_bytes_max", &S::stored_bytes_max),
                    sys::json_member("error", &S::error));
}
constexpr auto json_members(sys::JsonOf<CaretakerStatus>) {
  using S = CaretakerStatus;
  return std::tuple(sys::json_member("pid", &S::pid), sys::json_member("epoch", &S::epoch),
                    sys::json_member("durable", &S::durable),
                    sys::json_member("shipping", &S::shipping));
}
constexpr auto json_members(sys::JsonOf<Drained>) {
  return std::tuple(sys::json_member("drained", &Drained::drained));
}
constexpr auto json_members(sys::JsonOf<Sealed>) {
  return std::tuple(sys::json_member("durable", &Sealed::durable),
                    sys::json_member("epoch", &Sealed::epoch));
}
constexpr auto json_members(sys::JsonOf<Shown>) {
  return std::tuple(sys::json_member("end", &Shown::end), sys::json_member("whole", &Shown::whole),
                    sys::json_member("holds", &Shown::holds));
}
constexpr auto json_members(sys::JsonOf<StoreUse>) {
  return std::tuple(sys::json_member("stored_bytes", &StoreUse::stored_bytes));
}
constexpr auto json_members(sys::JsonOf<Secret>) {
  return std::tuple(sys::json_member("secret", &Secret::secret, kCredentialBytes));
}
constexpr auto json_members(sys::JsonOf<Stored>) {
  return std::tuple(sys::json_member("data", &Stored::data, kDataBytes));
}

// ---- Questions ----

template <typename Question>
concept AsksWithoutMembers = std::is_empty_v<Question> && requires { typename Question::Reply; };
template <AsksWithoutMembers Question>
constexpr auto json_members(sys::JsonOf<Question>) {
  return std::tuple();
}
constexpr auto json_members(sys::JsonOf<Protect>) {
  return std::tuple(sys::json_member("peer_site", &Protect::peer_site));
}
constexpr auto json_members(sys::JsonOf<Drain>) {
  return std::tuple(sys::json_member("limit_ms", &Drain::limit_ms, {.max = kDrainMsMax}));
}
constexpr auto json_members(sys::JsonOf<LimitStore>) {
  return std::tuple(sys::json_member("bytes_max", &LimitStore::bytes_max));
}
constexpr auto json_members(sys::JsonOf<ShowLine>) {
  return std::tuple(sys::json_member("holds", &ShowLine::holds));
}
constexpr auto json_members(sys::JsonOf<Measurements>) {
  using M = Measurements;
  return std::tuple(sys::json_member_or_default("from", &M::from),
                    sys::json_member_or_default("boot", &M::boot, {.length_max = 64}),
                    sys::json_member_or_default("handed_over", &M::handed_over),
                    sys::json_member_or_default("wait_ms", &M::wait_ms, {.max = kBootWaitMsMax}));
}
constexpr auto json_members(sys::JsonOf<ActivateCredential>) {
  using A = ActivateCredential;
  return std::tuple(sys::json_member("id_object", &A::id_object, kCredentialBytes),
                    sys::json_member("encrypted_secret", &A::encrypted_secret, kCredentialBytes));
}
constexpr auto json_members(sys::JsonOf<Quote>) {
  return std::tuple(
      sys::json_member("nonce", &Quote::nonce,
                       {.length_min = 1, .length_max = 64, .bytes = sys::JsonBytes::kBase64}),
      sys::json_member("selection", &Quote::selection,
                       {.max = kPcrsMax - 1, .length_max = 16, .items_max = kPcrsMax}));
}
constexpr auto json_members(sys::JsonOf<VariableChange>) {
  using V = VariableChange;
  return std::tuple(sys::json_member_or_default("variable", &V::variable, {.length_max = 64}),
                    sys::json_member("action", &V::action, {.length_min = 1, .length_max = 16}),
                    sys::json_member_or_default("data", &V::data, kDataBytes));
}
constexpr auto json_members(sys::JsonOf<SecureBootEdit>) {
  return std::tuple(sys::json_member("changes", &SecureBootEdit::changes, {.items_max = 64}));
}
constexpr auto json_members(sys::JsonOf<SecureBootSave>) {
  return std::tuple(sys::json_member("name", &SecureBootSave::name, kStoreName));
}
constexpr auto json_members(sys::JsonOf<SecureBootRestore>) {
  return std::tuple(sys::json_member("name", &SecureBootRestore::name, kStoreName));
}
constexpr auto json_members(sys::JsonOf<SecureBootForget>) {
  return std::tuple(sys::json_member("name", &SecureBootForget::name, kStoreName));
}
constexpr auto json_members(sys::JsonOf<BootFiles>) {
  return std::tuple(sys::json_member("ticket", &BootFiles::ticket));
}
constexpr auto json_members(sys::JsonOf<AttestationPut>) {
  return std::tuple(sys::json_member("data", &AttestationPut::data, kDataBytes));
}

// ---- Whole lines, without their end ----

// kInvalidArgument names what is wrong; kLimit: too long.
Result<Question> decode_question(std::string_view line);

sys::JsonObject encode_answer(sys::JsonObject members);
std::string encode_refusal(const Error& error);
// The members of an answer, or the error that it holds.
Result<sys::JsonObject> decode_answer(std::string_view line);

inline sys::JsonObject encode_reply(sys::JsonObject reply) { return reply; }
inline sys::JsonObject encode_reply(const AnyStatus& status) {
  return sys::encode_operation(status, "mode");
}
template <sys::JsonDescribed Reply>
sys::JsonObject encode_reply(const Reply& reply) {
  return sys::encode_json(reply);
}
template <typename Reply>
Result<Reply> decode_reply(sys::JsonObject members) {
  if constexpr (std::is_same_v<Reply, sys::JsonObject>) {
    return members;
  } else if constexpr (std::is_same_v<Reply, AnyStatus>) {
    return sys::decode_operation<AnyStatus>(members, "mode");
  } else {
    return sys::decode_json<Reply>(members);
  }
}

}  // namespace hf::keeper_protocol
