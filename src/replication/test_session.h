// The other end of a session, for tests: both sites' vaults, and a peer made of a Session alone, so
// that a test can say frame by frame what it sends.
#pragma once

#include <algorithm>
#include <list>

#include "replication/effect.h"
#include "sim/world/rng.h"

namespace hf::replication {

inline SiteId test_site(uint8_t number) {
  SiteId id;
  id.bytes.fill(std::byte{number});
  return id;
}
inline const SiteId kHomeSite = test_site(0x22);
inline const SiteId kReplicaSite = test_site(0x44);

// Sites' vaults: one key each, made of the site's id.
struct TestVaults {
  // Made once a site: tests begin tens of thousands of sessions.
  static const crypto::SigningKey& key_of(const SiteId& site) {
    static std::list<std::pair<SiteId, crypto::SigningKey>> made;
    for (const auto& [of, key] : made) {
      if (of == site) return key;
    }
    const Digest seed = crypto::sha256(site.span());
    return made.emplace_back(site, crypto::SigningKey(crypto::Secret::copy_of(seed.span()))).second;
  }
  static crypto::Signature sign(const SiteId& site, ByteSpan statement) {
    return key_of(site).sign(statement);
  }
  static Status check(const SiteId& site, ByteSpan statement, const crypto::Signature& signature) {
    if (crypto::verify(key_of(site).public_key(), statement, signature)) return {};
    return Error{.code = ErrorCode::kWrongKey, .cause = "the site's vault did not sign that"};
  }
  // As the driver of a Sender or Receiver at `own` does. False: the effect is no question to a
  // vault.
  template <typename End>
  static bool answer(End& end, const SiteId& own, const Effect& effect, Micros now) {
    if (const auto* ask = std::get_if<SignStatement>(&effect)) {
      end.statement_signed(ask->session, sign(own, ask->statement), now);
      return true;
    }
    if (const auto* ask = std::get_if<CheckStatement>(&effect)) {
      end.statement_checked(ask->session, check(ask->peer, ask->statement, ask->signature), now);
      return true;
    }
    return false;
  }
};

// A replica's end: what a Sender sees of one.
struct TestReplica {
  explicit TestReplica(const VmId& vm_in, uint64_t seed = 1) : vm(vm_in), rng(seed) {}

  Bytes answer(ByteSpan hello_frame, Epoch epoch) {
    session.emplace(crypto::SessionRole::kReplica, rng);
    const Hello hello = *decode_hello(decode_frame(hello_frame)->body);
    Answer answer{.epoch = std::max(epoch, hello.epoch),
                  .ephemeral = session->ephemeral(),
                  .nonce = session->nonce(),
                  .signature = {}};
    HF_ASSERT(session->agree(vm, hello, answer).ok());
    answer.signature = TestVaults::sign(kReplicaSite, session->own_statement());
    session->confirm();
    return encode(vm, answer);
  }
  template <typename Body>
  Bytes seal(const Body& body) {
    return seal_frame(*session, vm, body);
  }
  Bytes begin(const journal::LineEnd& durable, uint32_t window = 4u << 20) {
    return seal(Begin{.durable = durable, .window_bytes = window, .mac = {}});
  }
  Bytes ack(const journal::LineEnd& durable) { return seal(Ack{.durable = durable, .mac = {}}); }

  VmId vm;
  sim::SimRng rng;
  std::optional<Session> session;
};

// Home's end: what a Receiver sees of one.
struct TestHome {
  explicit TestHome(const VmId& vm_in, const crypto::PublicKey& key_in, uint64_t seed = 2)
      : vm(vm_in), key(key_in), rng(seed) {}

  Bytes hello(Epoch epoch = Epoch(1)) {
    session.emplace(crypto::SessionRole::kHome, rng);
    said = {.epoch = epoch,
            .home = kHomeSite,
            .replica = kReplicaSite,
            .public_key = key,
            .ephemeral = session->ephemeral(),
            .nonce = session->nonce()};
    return encode(vm, said);
  }
  Bytes auth(ByteSpan answer_frame) {
    const Answer answer = *decode_answer(decode_frame(answer_frame)->body);
    HF_ASSERT(session->agree(vm, said, answer).ok());
    HF_ASSERT(TestVaults::check(kReplicaSite, session->peer_statement(), answer.signature).ok());
    session->confirm();
    return encode(vm, Auth{.signature = TestVaults::sign(kHomeSite, session->own_statement())});
  }
  template <typename Body>
  Bytes seal(const Body& body) {
    return seal_frame(*session, vm, body);
  }
  // With the end that their headers lead to, whatever they are; where there is none, with zeroes.
  Bytes records(ByteSpan bytes, Sequence home_durable) {
    journal::LineEnd end;
    for (ByteSpan left = bytes; !left.empty();) {
      const auto header = journal::decode_header(left);
      if (!header.ok() || header->stored_size() > left.size()) {
        end = {};
        break;
      }
      end.position = {.incarnation = header->incarnation, .sequence = header->sequence};
      end.chain = journal::next_chain(
          header->prev_chain, journal::header_digest(left.first<journal::kRecordHeaderSize>()));
      left = left.subspan(header->stored_size());
    }
    Records body{.home_durable = home_durable, .records = bytes, .mac = {}};
    return seal_frame(*session, vm, body, end);
  }

  VmId vm;
  crypto::PublicKey key;
  sim::SimRng rng;
  Hello said;
  std::optional<Session> session;
};

}  // namespace hf::replication
