// What holdfastd and holdfast-link say to each other over run/link.sock: SEQPACKET messages, each
// the 16-byte header of frame.h and a body; descriptors beside it (SCM_RIGHTS). Numbers are
// little-endian, JSON bodies have exactly the members named here.
//
// The id names a question, a stream or a first contact. holdfastd counts its own from 1; those that
// the link begins have the top bit.
//
//   link:       identity                        first, with a key made at its start
//   holdfastd:  configure, peer…, peers end     who is not named any more is a stranger
//   link:       configured                      from here on it accepts and connects
//   holdfastd:  configure                       later, alone: a new certificate
//
// A link serves one holdfastd: the newest to connect.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "peer/frame.h"
#include "peer/link_client.h"
#include "sys/typed_json.h"

namespace hf::peer {

inline constexpr uint64_t kLinkProtocolVersion = 1;
inline constexpr size_t kLinkBodyMax = 60'000;
inline constexpr size_t kLinkMessageMax = kFrameHeaderSize + kLinkBodyMax;
inline constexpr uint64_t kLinkIdBit = uint64_t{1} << 63;  // of ids that the link gave
inline constexpr size_t kAddressesMax = 8;                 // of a peer
inline constexpr size_t kPemMax = 16'384;
// A part of a question or an answer, so that it fits a frame between links with its head.
inline constexpr size_t kPartMax = kFrameBodyMax - kAskHeadSize;

enum class LinkType : uint8_t {
  // Both ways. `ask` and `asked` carry the site before what a frame has.
  kAsk = 32,         // site, total, limit, part
  kAskMore = 33,     // part
  kAnswer = 34,      // total, part; kFlagError: error, with kFlagUnheard where nobody was asked
  kAnswerMore = 35,  // part
  kCancel = 36,      // no longer waited for; to the link: which answers, kFlagUnheard or not
  kOpen = 37,        // site, VM; from holdfastd with the keeper's socket
  kAccept = 38,      // of a stream that was asked for: with the keeper's socket
  kRefuse = 39,      // error with detail
  kOpened = 40,      // bytes pass
  kEnded = 41,       // error, or nothing where both sides closed in order
  kClose = 42,       // end the stream or the first contact
  kPairUp = 43,      // JSON: PairUp
  kPairMessage = 44,
  // From the link.
  kIdentity = 50,
  kConfigured = 51,  // empty, or error
  kPeerState = 52,
  // From holdfastd.
  kConfigure = 60,
  kPeer = 61,
  kForget = 62,  // site
  kPeersEnd = 63,
  kPairDial = 64,
  kGiveUp = 65,  // a question is taken back if it has not left yet; which is answered
};

struct LinkMessage {
  LinkType type = LinkType::kAsk;
  uint8_t flags = 0;
  uint64_t id = 0;
  ByteSpan body;
};
Bytes encode_link_message(LinkType type, uint64_t id, ByteSpan body, uint8_t flags = 0);
// kCorrupt unless length and type are ones that may be. The body points into `bytes`.
Result<LinkMessage> decode_link_message(ByteSpan bytes);

// ---- Bodies ----

constexpr auto json_words(sys::JsonOf<Reach>) {
  return std::array{sys::JsonWord{"unknown", Reach::kUnknown},
                    sys::JsonWord{"reachable", Reach::kConnected},
                    sys::JsonWord{"unreachable", Reach::kUnreachable},
                    sys::JsonWord{"wrong certificate", Reach::kWrongCertificate}};
}

inline constexpr sys::JsonBounds kPemBounds{.length_max = kPemMax, .text = sys::JsonText::kAny};
inline constexpr sys::JsonBounds kNameBounds{.length_max = 128};
inline constexpr sys::JsonBounds kAddressBounds{.length_max = 255, .items_max = kAddressesMax};

struct Identity {
  uint64_t version = kLinkProtocolVersion;
  std::string public_key_pem;
  bool operator==(const Identity&) const = default;
};
constexpr auto json_members(sys::JsonOf<Identity>) {
  return std::tuple(sys::json_member("version", &Identity::version),
                    sys::json_member("public_key_pem", &Identity::public_key_pem, kPemBounds));
}

struct Configure {
  SiteId site;
  std::string name;
  std::string leaf_pem;
  std::string ca_pem;
  bool operator==(const Configure&) const = default;
};
constexpr auto json_members(sys::JsonOf<Configure>) {
  return std::tuple(sys::json_member("site", &Configure::site),
                    sys::json_member("name", &Configure::name, kNameBounds),
                    sys::json_member("leaf_pem", &Configure::leaf_pem, kPemBounds),
                    sys::json_member("ca_pem", &Configure::ca_pem, kPemBounds));
}

struct PeerRecord {
  SiteId site;
  std::string name;
  std::string ca_pem;
  std::vector<std::string> addresses;  // numeric, HOST:PORT
  bool keep_connected = false;
  bool operator==(const PeerRecord&) const = default;
};
constexpr auto json_members(sys::JsonOf<PeerRecord>) {
  return std::tuple(sys::json_member("site", &PeerRecord::site),
                    sys::json_member("name", &PeerRecord::name, kNameBounds),
                    sys::json_member("ca_pem", &PeerRecord::ca_pem, kPemBounds),
                    sys::json_member("addresses", &PeerRecord::addresses, kAddressBounds),
                    sys::json_member("keep_connected", &PeerRecord::keep_connected));
}

struct PeerStateRecord {
  SiteId site;
  Reach reach = Reach::kUnknown;
  std::optional<Micros> last_seen;
  std::optional<Error> error;
  std::optional<int64_t> clock_ahead_us;
};
constexpr auto json_members(sys::JsonOf<PeerStateRecord>) {
  return std::tuple(sys::json_member("site", &PeerStateRecord::site),
                    sys::json_member("reach", &PeerStateRecord::reach),
                    sys::json_member("last_seen_us", &PeerStateRecord::last_seen),
                    sys::json_member("error", &PeerStateRecord::error),
                    sys::json_member("clock_ahead_us", &PeerStateRecord::clock_ahead_us,
                                     {.min = -static_cast<int64_t>(sys::kJsonNumberMax)}));
}

struct PairDial {
  std::vector<std::string> addresses;
  uint64_t limit_ms = 0;
  bool operator==(const PairDial&) const = default;
};
constexpr auto json_members(sys::JsonOf<PairDial>) {
  return std::tuple(sys::json_member("addresses", &PairDial::addresses, kAddressBounds),
                    sys::json_member("limit_ms", &PairDial::limit_ms, {.min = 1, .max = 60'000}));
}

struct PairUp {
  bool incoming = false;
  Digest exporter;
  std::vector<std::string> chain;  // PEM, leaf first
  std::string address;
  bool operator==(const PairUp&) const = default;
};
constexpr auto json_members(sys::JsonOf<PairUp>) {
  return std::tuple(
      sys::json_member("incoming", &PairUp::incoming),
      sys::json_member("exporter", &PairUp::exporter),
      sys::json_member("chain", &PairUp::chain,
                       {.length_max = kPemMax, .items_max = 8, .text = sys::JsonText::kAny}),
      sys::json_member("address", &PairUp::address, {.length_max = 255}));
}
Status json_check(const PairUp& up);  // a certificate at least

template <sys::JsonDescribed T>
Result<T> decode_body(ByteSpan body) {
  return sys::decode_json<T>(as_text(body), {.bytes_max = kLinkBodyMax, .depth_max = 6});
}

Bytes encode_site(SiteId site);
Result<SiteId> decode_site(ByteSpan body);  // takes the first 16 bytes, which must be there

struct OpenBody {
  SiteId site;
  VmId vm;
  bool operator==(const OpenBody&) const = default;
};
Bytes encode_open_body(const OpenBody& open);
Result<OpenBody> decode_open_body(ByteSpan body);

}  // namespace hf::peer
