// The peers as the link has to know them, and where names lead.
#include <algorithm>

#include "base/host_port.h"
#include "base/text.h"
#include "peer/address.h"
#include "peer/link_client_impl.h"

namespace hf::peer {

using namespace std::chrono_literals;

std::string clock_words(std::string_view site, int64_t ahead_us) {
  std::string words = "the clock of site " + std::string(site);
  if (!clock_is_off(ahead_us)) return words + " shows the same time as this one's";
  const auto off = static_cast<uint64_t>(ahead_us < 0 ? -ahead_us : ahead_us);
  return words + " is " + duration_words(off) + (ahead_us < 0 ? " behind" : " ahead of") +
         " this one's";
}

Status LinkClientImpl::send_peer(const WirePtr& wire, const Peer& peer) {
  const PeerRecord record{.site = peer.settings.site,
                          .name = peer.settings.name,
                          .ca_pem = peer.settings.ca_pem,
                          .addresses = peer.addresses,
                          .keep_connected = peer.settings.keep_connected};
  return wire->send_text(LinkType::kPeer, 0, sys::encode_json_text(record));
}

Status LinkClientImpl::set_peer(const PeerSettings& peer) {
  TRY(parse_host_port(peer.address));
  TRY(crypto::Certificate::from_pem(peer.ca_pem));
  {
    const std::lock_guard sending(peers_sending_);
    WirePtr wire;
    Peer stored;
    {
      const std::lock_guard lock(mutex_);
      auto at = peers_.find(peer.site);
      if (at == peers_.end()) {
        if (peers_.size() >= kPeersMax)
          return Error{.code = ErrorCode::kLimit,
                       .cause = "there are " + std::to_string(kPeersMax) + " other sites already"};
        at = peers_.emplace(peer.site, Peer{.settings = {}, .state = {.site = peer.site}}).first;
      }
      if (at->second.settings.address != peer.address) {
        at->second.addresses.clear();
        at->second.looked_up.reset();
      }
      at->second.settings = peer;
      if (at->second.addresses.empty() && is_numeric(peer.address))
        at->second.addresses = {peer.address};
      stored = at->second;
      wire = wire_;
    }
    if (wire) TRY(send_peer(wire, stored));
  }
  look_up(peer.site);
  return {};
}

void LinkClientImpl::remove_peer(SiteId site) {
  const std::lock_guard sending(peers_sending_);
  WirePtr wire;
  {
    const std::lock_guard lock(mutex_);
    peers_.erase(site);
    wire = wire_;
  }
  if (wire) static_cast<void>(wire->send(LinkType::kForget, 0, encode_site(site)));
}

std::vector<PeerState> LinkClientImpl::peer_states() {
  const std::lock_guard lock(mutex_);
  std::vector<PeerState> states;
  for (const auto& [site, peer] : peers_) {
    states.push_back(peer.state);
    if (peer.state.reach != Reach::kConnected) continue;
    states.back().last_seen =
        Micros(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                         std::chrono::system_clock::now().time_since_epoch())
                                         .count()));
  }
  return states;
}

// On a worker: a resolver may be slow. At most one at a time a peer, and not again at once.
void LinkClientImpl::look_up(SiteId site) {
  std::string address;
  {
    const std::lock_guard lock(mutex_);
    const auto at = peers_.find(site);
    if (at == peers_.end() || at->second.looking_up) return;
    Peer& peer = at->second;
    const auto now = std::chrono::steady_clock::now();
    if (!peer.addresses.empty() && is_numeric(peer.settings.address)) return;
    if (peer.looked_up && now - *peer.looked_up < options_.look_up_again) return;
    peer.looked_up = now;
    peer.looking_up = true;
    address = peer.settings.address;
  }
  const bool posted = aside_.post([this, site, address] {
    Result<std::vector<std::string>> found =
        options_.resolve ? options_.resolve(address) : numeric_addresses(address);
    const std::lock_guard sending(peers_sending_);
    WirePtr wire;
    Peer stored;
    {
      const std::lock_guard lock(mutex_);
      const auto at = peers_.find(site);
      if (at == peers_.end()) return;
      at->second.looking_up = false;
      if (at->second.settings.address != address) return;
      if (found.ok()) {
        at->second.addresses = *found;
      } else {
        at->second.state.error = found.error();
        return;
      }
      stored = at->second;
      wire = wire_;
    }
    if (wire) static_cast<void>(send_peer(wire, stored));
  });
  if (posted) return;
  const std::lock_guard lock(mutex_);
  if (const auto at = peers_.find(site); at != peers_.end()) at->second.looking_up = false;
}

Status LinkClientImpl::take_peer_state(ByteSpan body) {
  const PeerStateRecord record = TRY(decode_body<PeerStateRecord>(body));
  PeerState state{.site = record.site,
                  .reach = record.reach,
                  .last_seen = record.last_seen,
                  .error = record.error,
                  .clock_ahead_us = record.clock_ahead_us};
  {
    const std::lock_guard lock(mutex_);
    const auto at = peers_.find(record.site);
    if (at == peers_.end()) return {};  // it was just removed
    // A link that was started anew has seen nobody yet.
    if (!state.last_seen) state.last_seen = at->second.state.last_seen;
    if (!state.clock_ahead_us) state.clock_ahead_us = at->second.state.clock_ahead_us;
    at->second.state = state;
  }
  // It may have moved; who answers at its old address is then another.
  if (record.reach == Reach::kUnreachable || record.reach == Reach::kWrongCertificate)
    look_up(record.site);
  if (!options_.handlers.on_peer) return {};
  if (post_event([this, state = std::move(state)] { options_.handlers.on_peer(state); })) return {};
  return Error{.code = ErrorCode::kLimit, .cause = "holdfast-link reports more than is taken"};
}

}  // namespace hf::peer
