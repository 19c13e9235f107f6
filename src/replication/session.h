// Session: what two keepers of one VM believe of each other's frames. Frames pass through processes
// that the network reaches; those carry, and can hold back, but neither forge nor replay.
//
//   home                                          replica
//     │ hello {epoch, sites, journal key, e_h, n_h} ──▶ │
//     │ ◀── answer {epoch, e_r, n_r, signature of the replica site's vault}
//     │ auth {signature of home's vault} ─────────────▶ │
//     │ ◀── begin {durable end, window, MAC}            from here on every frame has a MAC
//
// Both vaults sign the same statement (crypto/session_statement.h: VM, both sites, epoch, both
// ephemeral keys, both nonces; the signer's role differs), so neither hello nor answer can be
// another session's, another VM's or another site's, nor come back to who sent it.
//
//   secret     = X25519(e_h, e_r)                        all zeroes: refused
//   transcript = SHA-256(label ‖ hello frame ‖ answer's body without the signature)
//   key        = HKDF-SHA256(secret, salt = transcript, info = label of the direction), 32 bytes
//   MAC        = HMAC-SHA256(key, label ‖ kind ‖ transcript ‖ counter ‖ epoch ‖
//                            what the frame says)
//
// The transcript is the session's name. Nothing here is of our own making: X25519 (RFC 7748), HKDF
// (RFC 5869), HMAC (RFC 2104) and Ed25519 (RFC 8032) are OpenSSL's, and this is the signed
// Diffie-Hellman exchange of SIGMA and TLS 1.3 with a finished message folded into the first MAC.
// Why each part:
// - two keys, one a direction: a MAC that comes back to its maker does not verify;
// - the counter counts the frames of a direction: none can be left out, repeated or moved;
// - fresh ephemeral keys on both sides: what an earlier session said verifies in no later one, and
//   who gets a vault's signing key later can't forge what was said before;
// - "what the frame says" is its body; of records, whose bytes are many, the end that they lead to:
//   the chain there names every header, and each header its payload's digest. The receiver follows
//   the chain through the whole batch and checks the MAC before it appends the first record of it;
// - of a seed's bytes it is their digest. The signed footers alone would keep altered bytes out,
//   but could not tell home's decayed disk (final) from a carrier that alters them (try again).
// Confidentiality isn't asked of it: payloads are sealed, positions are no secret.
#pragma once

#include "base/clock.h"
#include "crypto/session_statement.h"
#include "crypto/x25519.h"
#include "replication/faults.h"
#include "replication/wire.h"

namespace hf::replication {

// One end of a session. One thread. Keys are wiped with it.
class Session {
 public:
  // Fresh key and nonce. Who makes one for each connection never repeats either.
  Session(crypto::SessionRole role, Rng& rng, Faults faults = {});
  Session(Session&&) noexcept = default;
  Session& operator=(Session&&) noexcept = default;

  // By which questions to the vault and their answers find each other: no two sessions', of
  // whatever sender or receiver, are the same but by a chance of 2^-64.
  uint64_t number() const { return number_; }
  const crypto::X25519PublicKey& ephemeral() const { return key_.public_key(); }
  const SessionNonce& nonce() const { return nonce_; }

  // With both halves known: derives the keys. `hello` and `answer` are as they were sent, one of
  // them with this end's ephemeral key and nonce (asserted). kCorrupt: no secret comes of the
  // peer's key.
  Status agree(const VmId& vm, const Hello& hello, const Answer& answer);
  bool agreed() const { return !transcript_.is_zero(); }

  // What this end's vault signs, and what the peer's must have signed. After agree().
  crypto::SessionStatementBytes own_statement() const { return statement(role_); }
  crypto::SessionStatementBytes peer_statement() const;

  // The peer's vault was found to have signed: from now on its MACs are the peer's word.
  void confirm() { confirmed_ = agreed(); }
  bool confirmed() const { return confirmed_; }

  // The MAC of this end's next frame, and whether `mac` is that of the peer's next one. After a
  // false, or a frame that was made and not sent, nothing of the session may be believed any more.
  Mac seal(FrameType kind, ByteSpan says);
  bool open(FrameType kind, ByteSpan says, const Mac& mac);

 private:
  crypto::SessionStatementBytes statement(crypto::SessionRole signer) const;
  Mac mac(const crypto::Secret& key, FrameType kind, uint64_t counter, ByteSpan says) const;

  crypto::SessionRole role_;
  Faults faults_;
  crypto::X25519Key key_;
  SessionNonce nonce_{};
  uint64_t number_ = 0;
  crypto::SessionStatement facts_;  // but for the signer
  Digest transcript_;
  crypto::Secret own_key_, peer_key_;
  uint64_t sent_ = 0, received_ = 0;
  bool confirmed_ = false;
};

// What a MAC covers of a frame beyond its kind and its place.
Bytes says(const Begin& body);
Bytes says(const Records& body, const journal::LineEnd& end);  // to which the records lead
Bytes says(const Ack& body);
Bytes says(const Seed& body);
Bytes says(const SeedBytes& body);
Bytes says(const SeedAck& body);
Bytes says(const ErrorFrame& body);

template <typename Body, typename... More>
Bytes seal_frame(Session& session, const VmId& vm, Body body, const More&... more) {
  body.mac = session.seal(Body::kType, says(body, more...));
  return encode(vm, body);
}
template <typename Body, typename... More>
bool open_frame(Session& session, const Body& body, const More&... more) {
  return session.open(Body::kType, says(body, more...), body.mac);
}

}  // namespace hf::replication
