// What Sender and Receiver ask of whoever drives them.
#pragma once

#include <variant>
#include <vector>

#include "replication/wire.h"

namespace hf::replication {

// Send these bytes on the connection, in this order.
struct SendFrame {
  Bytes frame;
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

// The other side knows this epoch: give it to recovery (learn_peer_epoch) before anything else.
struct PeerEpoch {
  Epoch epoch;
};

// Close the connection. What was sent before it should still go out.
struct Disconnect {
  Error reason;
};

using Effect = std::variant<SendFrame, WantRecords, WantSeed, WantSeedBytes, PeerEpoch, Disconnect>;
using Effects = std::vector<Effect>;

}  // namespace hf::replication
