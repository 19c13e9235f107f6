// The feed: durable sealed records, for the daemon's replication sender. Ciphertext only.
//
// Request, 56 bytes, little-endian:
//   magic u32 "HFFD", version u32 = 1, incarnation [32], after sequence u64, max_bytes u32, wait_ms
//   u32
// Reply, 32 bytes, then `length` bytes of whole records:
//   magic u32, status u32, durable sequence u64, time of the oldest record not yet durable at the
//   asker u64 (µs; 0: none), length u32, reserved u32
//
// Seed request, as long, for a replica whose next records are merged away:
//   magic u32 "HFFS", version u32 = 1, kind u32 (1 describe, 2 fetch), reserved u32 = 0, base u64,
//   offset u64, length u32 (at most journal::kSeedReadMax), zeroes to 56
// The same reply; the bytes are journal::encode_seed()'s description, or those of the base file.
// kMergedAway: that base is gone (or nothing was ever merged). Asking keeps the files for a while:
// journal::kSeedLeaseUs after the last request they may be merged away.
//
// `after` is the last record the asker has; an all-zero incarnation with sequence 0 asks for
// everything. Without a durable record to give, the reply waits up to wait_ms for one.
#pragma once

#include <deque>

#include "journal/journal.h"
#include "journal/ship/seed.h"
#include "keeper/service/local_server.h"

namespace hf::keeper {

inline constexpr uint32_t kFeedMagic = 0x44464648;      // "HFFD"
inline constexpr uint32_t kFeedSeedMagic = 0x53464648;  // "HFFS"
inline constexpr uint32_t kFeedVersion = 1;
inline constexpr size_t kFeedRequestSize = 56;
inline constexpr size_t kFeedReplySize = 32;
inline constexpr uint32_t kFeedBytesMax = 8u << 20;
inline constexpr uint32_t kFeedWaitMsMax = 10'000;

enum class FeedStatus : uint32_t {
  kOk = 0,
  kForked = 1,      // the position is not on this lineage
  kMergedAway = 2,  // the records after it are no longer in the tail
  kBadRequest = 3,
  kFailed = 4,
};

struct FeedRequest {
  Position after;
  uint32_t max_bytes = 0;
  uint32_t wait_ms = 0;
};
enum class SeedQuestion : uint32_t { kDescribe = 1, kFetch = 2 };
struct SeedRequest {
  SeedQuestion question = SeedQuestion::kDescribe;
  uint64_t base = 0;  // these three are zero in kDescribe
  uint64_t offset = 0;
  uint32_t length = 0;
  bool operator==(const SeedRequest&) const = default;
};
struct FeedReply {
  FeedStatus status = FeedStatus::kOk;
  Sequence durable;
  Micros oldest_time;
  uint32_t length = 0;
};

Bytes encode_feed_request(const FeedRequest& request);
Result<FeedRequest> decode_feed_request(ByteSpan raw);  // kFeedRequestSize bytes
bool is_seed_request(ByteSpan raw);
Bytes encode_seed_request(const SeedRequest& request);
Result<SeedRequest> decode_seed_request(ByteSpan raw);  // kFeedRequestSize bytes
Bytes encode_feed_reply(const FeedReply& reply);        // without the records
Result<FeedReply> decode_feed_reply(ByteSpan raw);      // kFeedReplySize bytes

class FeedConnection;

class FeedServer final : public journal::SealedRead, private sys::Timer {
 public:
  FeedServer(sys::Reactor& reactor, sys::UniqueFd listener, journal::Journal& journal);
  ~FeedServer();
  void start() { server_.start(); }
  void stop();
  bool stopped() const { return server_.stopped() && reading_ == nullptr && !read_in_flight_; }

 private:
  friend class FeedConnection;
  void want(FeedConnection& connection);
  void describe_seed(FeedConnection& connection);
  void forget(FeedConnection& connection);
  void serve_next();
  void on_sealed(Result<journal::SealedBatch> batch) override;
  void on_timer() override;
  void poll_later();

  sys::Reactor& reactor_;
  journal::Journal& journal_;
  LocalServer server_;
  std::deque<FeedConnection*> queue_;    // want a read now
  std::deque<FeedConnection*> waiting_;  // want something durable first
  FeedConnection* reading_ = nullptr;    // whose read is in flight; null if it went away meanwhile
  bool read_in_flight_ = false;          // the journal takes one feed read at a time
};

}  // namespace hf::keeper
