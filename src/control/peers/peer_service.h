// The other sites: pairing with them, asking them, answering them. What carries it is
// holdfast-link; what is believed of it is decided here.
//
// Any thread may call. What blocks says for how long.
#pragma once

#include <memory>
#include <optional>

#include "control/peers/peer_messages.h"
#include "control/services.h"
#include "lifecycle/machine.h"
#include "peer/link_client.h"
#include "recovery/state.h"

namespace hf::control {

using peer::Millis;

// A site as it introduces itself at pairing: the text that is proved, and what it says.
struct Introduction {
  vault::SiteIdentity identity;
  std::string address;
};
std::string encode_introduction(const Introduction& introduction);
Result<Introduction> decode_introduction(std::string_view text);

// Where another site is told to reach this one: the operator's word, else what site.json says.
// kInvalidArgument if that is no address, or one that leads nowhere (base/host_port.h).
Result<std::string> own_address(const launcher::SiteConfig& site, std::string given,
                                std::string_view effect);

// A bearer's introduction, whose address this site will come back to. kInvalidArgument.
Result<Introduction> decode_bearer(std::string_view text);

// As the link is told of a peer.
peer::PeerSettings link_settings(const PeerRow& row);

// As events tell of it.
inline By by_of(const PeerRow& peer) {
  return {.actor = "site " + peer.name, .origin = peer.address};
}

class PeerService {
 public:
  explicit PeerService(Services& services);
  ~PeerService();

  // Who this site is, from the vault.
  Status identify();
  // The link, once the identity is known: from now on peers are answered.
  Status start();
  void stop();

  const vault::SiteIdentity& identity() const { return identity_; }
  const std::string& fingerprint() const { return fingerprint_; }  // of the own CA, hex
  peer::LinkClient& link() { return *link_; }

  // Pairing at the site that bears a token: what holdfastd is told of it, which is not its secret.
  struct BornToken {
    vault::PairingTokenId id;
    SiteId site;  // that issued it
    Digest ca_fingerprint;
    std::string address;  // of that site
  };
  Result<sys::JsonObject> pair(const BornToken& token, std::string address, const By& by);

  // Nothing that the site says has an effect any more. Refused while it has to do with a VM that is
  // not in `evict`; of those, replicas go and protections end, each by a job of its own.
  Result<sys::JsonObject> unpair(const PeerRow& peer, const std::vector<VmId>& evict,
                                 const std::string& actor, Progress& progress);

  // Asks the other site; its error becomes the error.
  template <typename Answer, typename Question>
  Result<Answer> ask(SiteId site, const Question& question, Millis limit,
                     peer::Delivery* delivery = nullptr) {
    sys::JsonObject answer =
        TRY(link_->call_json(site, sys::encode_operation(question), limit, delivery));
    return sys::decode_json<Answer>(answer);
  }
  Result<recovery::PeerAnswer> ask_epoch(VmId vm, const recovery::RecoveryState& state,
                                         Millis limit);
  struct HandOver {
    lifecycle::SourceAnswer answer = lifecycle::SourceAnswer::kNoAnswer;
    std::string why;  // kRefused: in its own words
    Bytes title;      // kHandedOver: what says so
  };
  // Asks the VM's holder to hand it over to this site. Not on its way within `reach`, the order is
  // taken back: then nothing was asked (kNoAnswer).
  HandOver ask_hand_over(VmId vm, SiteId source, Millis reach, Millis limit, Millis tail);
  bool connected(SiteId site);  // to its link
  std::optional<Micros> last_seen(SiteId site);

  sys::JsonArray show_peers();
  Error clock_warning(const std::string& site, int64_t ahead_us) const;

  // What the link hands over: a question of a paired site; a first contact.
  Result<Bytes> answer(SiteId site, ByteSpan request);
  void serve_pairing(peer::PairingSession& session);

 private:
  Result<VmRow> shared_with(VmId vm, const PeerRow& peer);
  Result<sys::JsonObject> answer_question(const PeerQuestion& question, const PeerRow& peer);
  Result<EpochAnswer> answer_epoch(const EpochQuestion& question, const PeerRow& peer);
  Result<sys::JsonObject> answer_pairing(peer::PairingSession& session);
  Status pin(const Introduction& introduction, const std::string& name);
  Status part(const ProtectionRow& protection, const std::string& actor, const By& by);

  Services& services_;
  vault::SiteIdentity identity_;
  std::string fingerprint_;
  std::unique_ptr<peer::LinkClient> link_;
};

}  // namespace hf::control
