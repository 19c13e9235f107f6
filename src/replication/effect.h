// What Sender and Receiver ask of whoever drives them.
#pragma once

#include <variant>
#include <vector>

#include "replication/session.h"

namespace hf::replication {

// Send these bytes on the connection, in this order.
struct SendFrame {
  Bytes frame;
};

// Let this site's vault sign a session's statement (vault::KeyClient::session_sign); answer with
// statement_signed(), under the same number. Any time later will do; an answer that comes when the
// connection is gone is ignored.
struct SignStatement {
  uint64_t session = 0;
  crypto::SessionStatementBytes statement{};
};

// Let this site's vault check that `peer`'s vault signed it (session_check); answer with
// statement_checked(). As above.
struct CheckStatement {
  uint64_t session = 0;
  SiteId peer;
  crypto::SessionStatementBytes statement{};
  crypto::Signature signature{};
};

// Ask the journal's feed for durable records after `after` and answer with Sender::feed_records or
// feed_failed. One is outstanding at a time. Where there is nothing new, answer with an empty batch
// only after a wait (the feed's long poll), or the two of you spin.
struct WantRecords {
  Position after;
  size_t bytes_max = 0;
};

// Ask the journal to describe its seed (Journal::describe_seed) and answer with
// Sender::feed_seed or feed_failed. Of WantRecords, WantSeed and WantSeedBytes one is outstanding
// at a time.
struct WantSeed {};

// Bytes of a base file (Journal::read_seed): answer with Sender::feed_seed_bytes or feed_failed.
struct WantSeedBytes {
  uint64_t base = 0;
  uint64_t offset = 0;
  size_t length = 0;
};

// The other site's vault stands for it that this epoch is known there: give it to recovery
// (learn_peer_epoch) before anything else.
struct PeerEpoch {
  Epoch epoch;
};

// The replica holds less than it had acknowledged: its disk was exchanged, put back from a copy, or
// lost what was synced. Nothing is wrong at home, but the replica's site should know. Home's pin
// goes back to what acknowledged() says from now on; where those records are merged away the
// replica is seeded anew.
struct ReplicaWentBack {
  journal::LineEnd had;
  journal::LineEnd has;
};

// Close the connection. What was sent before it should still go out.
struct Disconnect {
  Error reason;
};

using Effect = std::variant<SendFrame, SignStatement, CheckStatement, WantRecords, WantSeed,
                            WantSeedBytes, PeerEpoch, ReplicaWentBack, Disconnect>;
using Effects = std::vector<Effect>;

}  // namespace hf::replication
