#include "control/peers/peer_service.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/protection/consent.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "crypto/x509.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr Millis kLinkLimit = 10s;
constexpr size_t kShortMax = 4096;  // bytes: of a question about a title without statements

peer::Lane lane_of(ByteSpan request) {
  if (request.size() > kShortMax) return peer::Lane::kLong;
  Result<sys::JsonObject> json = sys::parse_json_object(as_text(request), {.bytes_max = kShortMax});
  if (!json.ok()) return peer::Lane::kLong;
  auto question =
      sys::decode_operation<std::variant<TitleQuestion, EpochQuestion, HandOverOrder, SettleOrder>>(
          *json);
  if (!question.ok()) return peer::Lane::kLong;
  const bool order = std::holds_alternative<HandOverOrder>(*question) ||
                     std::holds_alternative<SettleOrder>(*question);
  return order ? peer::Lane::kOrder : peer::Lane::kShort;
}

}  // namespace

peer::PeerSettings link_settings(const PeerRow& row) {
  // Kept up, so that who asks in an emergency knows at once whether the other site is there.
  return {.site = row.site,
          .name = row.name,
          .ca_pem = row.ca_pem,
          .address = row.address,
          .keep_connected = true};
}

PeerService::PeerService(Services& services) : services_(services) {}
PeerService::~PeerService() { stop(); }

Status PeerService::identify() {
  identity_ = TRY(services_.vault.site_identity());
  if (identity_.site != services_.site.site_id) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site.json names site " + services_.site.site_id.hex() +
                          ", the vault belongs to " + identity_.site.hex(),
                 .effect = "holdfastd does not start",
                 .mend = "put back the vault directory or the site.json that belong together"};
  }
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(identity_.ca_certificate_pem));
  fingerprint_ = ca.fingerprint().hex();
  return {};
}

Status PeerService::start() {
  std::vector<peer::PeerSettings> peers;
  for (const PeerRow& row : TRY(services_.catalog->peers())) peers.push_back(link_settings(row));
  peer::LinkHandlers handlers{
      .issue_leaf =
          [this](const std::string& public_key_pem) {
            return services_.vault.issue_tls({.common_name = identity_.name,
                                              .dns_names = {},
                                              .ip_addresses = {},
                                              .key_pem = public_key_pem});
          },
      .on_request = [this](SiteId site, ByteSpan request, Millis) { return answer(site, request); },
      .lane_of = lane_of,
      .on_stream_asked =
          [this](const peer::StreamAsk& ask) {
            return services_.protections->replicas().take_stream(ask);
          },
      .on_stream =
          [this](const peer::StreamEvent& event) { services_.protections->on_stream(event); },
      .on_peer =
          [this](const peer::PeerState& state) {
            services_.protections->on_peer(state);
            if (state.reach == peer::Reach::kConnected) services_.titles->on_peer(state.site);
          },
      .on_pairing = [this](peer::PairingSession& session) { serve_pairing(session); }};
  link_ = peer::LinkClient::start({.socket_path = services_.paths.link(),
                                   .identity = {.site = identity_.site,
                                                .name = identity_.name,
                                                .ca_pem = identity_.ca_certificate_pem},
                                   .handlers = std::move(handlers)},
                                  std::move(peers));
  // One that is not there yet is no reason not to serve: it is connected to when it comes.
  if (Status ready = link_->wait_ready(kLinkLimit); !ready.ok()) {
    log_error("other sites cannot be reached: " + ready.error().describe());
  }
  return {};
}

void PeerService::stop() { link_.reset(); }

Result<recovery::PeerAnswer> PeerService::ask_epoch(VmId vm, const recovery::RecoveryState& state,
                                                    Millis limit) {
  ProtectionRow protection = TRY(services_.catalog->protection(vm));
  EpochAnswer answer =
      TRY(ask<EpochAnswer>(protection.peer, EpochQuestion{.vm = vm, .epoch = state.epoch}, limit));
  return recovery::PeerAnswer{
      .epoch = answer.epoch, .role = answer.role, .running = answer.running};
}

bool PeerService::connected(SiteId site) {
  std::vector<peer::PeerState> states = link_->peer_states();
  auto state = std::ranges::find(states, site, &peer::PeerState::site);
  return state != states.end() && state->reach == peer::Reach::kConnected;
}

std::optional<Micros> PeerService::last_seen(SiteId site) {
  std::vector<peer::PeerState> states = link_->peer_states();
  auto state = std::ranges::find(states, site, &peer::PeerState::site);
  return state == states.end() ? std::nullopt : state->last_seen;
}

PeerService::HandOver PeerService::ask_hand_over(VmId vm, SiteId source, Millis reach, Millis limit,
                                                 Millis tail) {
  peer::Delivery delivery{.within = reach};
  const HandOverOrder order{.vm = vm, .tail_ms = static_cast<uint64_t>(tail.count())};
  Result<HandOverOutcome> outcome = ask<HandOverOutcome>(source, order, limit, &delivery);
  if (!outcome.ok() && delivery.unheard) {
    log_info("the source was not reached: " + outcome.error().describe());
    return {};
  }
  if (!outcome.ok()) {
    log_warning("the source did not say that it stopped: " + outcome.error().describe());
    const ErrorCode code = outcome.error().code;
    // It has nothing of the VM: that is no answer about it.
    if (code == ErrorCode::kNotFound) return {.why = outcome.error().cause};
    if (code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout)
      return {.answer = lifecycle::SourceAnswer::kSilent};
    // It has said why not: it is alive, whatever anybody says.
    return {.answer = lifecycle::SourceAnswer::kRefused, .why = outcome.error().cause};
  }
  if (outcome->handed_over)
    return {.answer = lifecycle::SourceAnswer::kHandedOver, .title = std::move(outcome->title)};
  log_warning("the source did not hand the VM over: " + outcome->why);
  return {.answer = lifecycle::SourceAnswer::kRefused, .why = outcome->why};
}

Error PeerService::clock_warning(const std::string& site, int64_t ahead_us) const {
  return {.code = ErrorCode::kConflict,
          .cause = peer::clock_words(site, ahead_us),
          .effect =
              "the sites trust each other and ship nevertheless; a pairing token, an "
              "attestation result or a time in a log reads wrong at one of them",
          .mend = "set the clock that is wrong: timedatectl at " + services_.site.name +
                  " and at " + site};
}

sys::JsonArray PeerService::show_peers() {
  sys::JsonArray list;
  Result<std::vector<PeerRow>> peers = services_.catalog->peers();
  if (!peers.ok()) return list;
  std::vector<peer::PeerState> states = link_->peer_states();
  for (const PeerRow& row : *peers) {
    auto state = std::ranges::find(states, row.site, &peer::PeerState::site);
    peer::Reach reach = state == states.end() ? peer::Reach::kUnknown : state->reach;
    sys::JsonObject view{{"site_id", row.site.hex()},      {"name", row.name},
                         {"address", row.address},         {"ca_fingerprint", row.fingerprint},
                         {"paired_us", row.paired.value},  {"state", peer::to_string(reach)},
                         {"accept", to_string(row.accept)}};
    if (row.quota_bytes != 0) view["quota_bytes"] = row.quota_bytes;
    if (Result<uint64_t> bytes = replica_bytes(*services_.catalog, row.site); bytes.ok())
      view["replica_bytes"] = *bytes;
    if (state != states.end() && state->last_seen) view["last_seen_us"] = state->last_seen->value;
    if (state != states.end() && state->clock_ahead_us) {
      view["clock_ahead_ms"] = *state->clock_ahead_us / 1000;
      if (peer::clock_is_off(*state->clock_ahead_us))
        view["clock"] = sys::error_to_json(clock_warning(row.name, *state->clock_ahead_us));
    }
    if (state != states.end() && state->error) view["error"] = sys::error_to_json(*state->error);
    list.push_back(std::move(view));
  }
  return list;
}

}  // namespace hf::control
